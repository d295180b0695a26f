"""Numbers as a report shows them: a bar with its interval, and how it is written."""

from dataclasses import dataclass

from jobs.evaluation_records import Measure


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A share as a bar with its interval, in per cent of the bar's length."""

    value: float
    """Where the bar ends."""
    low: float
    """Where the interval begins."""
    high: float
    """Where it ends."""
    text: str
    """The number as it is written."""
    bounds: str
    """The bounds as they are written."""
    clips: int
    """On how many clips it stands."""
    chance: float | None = None
    """Where chance is; None where nobody counted it."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How the numbers of a name are written."""

    digits: int
    """After the point."""
    unit: str
    """What stands behind the number."""
    full: float
    """The number that fills the bar."""
    times: float = 1.0
    """What the number is multiplied by before it is written."""


SHARE = Scale(digits=0, unit="%", full=1.0, times=100.0)
SCALES = {
    "psnr": Scale(digits=1, unit=" dB", full=50.0),
    "ssim": Scale(digits=3, unit="", full=1.0),
    "smoothness": Scale(digits=1, unit="%", full=0.1, times=100.0),
    "saturation": Scale(digits=3, unit="", full=1.0),
    "motion": Scale(digits=2, unit="%", full=10.0),
    "diversity": Scale(digits=3, unit="", full=0.5),
    "ratio": Scale(digits=2, unit="", full=2.0),
}
"""By name; what is not here is a share."""


def bar(measure: Measure | None, *, chance: float | None = None) -> Bar | None:
    """Return a measure as a bar: rates in per cent, others as they are."""
    if measure is None:
        return None
    scale, i = SCALES.get(measure.name, SHARE), measure.interval
    value, low, high = (
        min(100.0, max(0.0, 100 * x / scale.full)) for x in (i.value, i.low, i.high)
    )
    text, least, most = (f"{scale.times * x:.{scale.digits}f}" for x in (i.value, i.low, i.high))
    return Bar(
        value=value,
        low=low,
        high=high,
        text=text + scale.unit,
        bounds=f"{least} to {most}",
        clips=measure.clips,
        chance=None if chance is None else 100 * chance,
    )


def difference_bar(measure: Measure | None) -> Bar | None:
    """Return a difference of rates in percentage points, signed."""
    if measure is None:
        return None
    value, low, high = (100 * x for x in vars(measure.interval).values())
    return Bar(
        value=value,
        low=low,
        high=high,
        text=_signed(value),
        bounds=f"{_signed(low)} to {_signed(high)}",
        clips=measure.clips,
    )


def _signed(points: float) -> str:
    return f"{points:+.0f}".replace("-", "\N{MINUS SIGN}") if abs(points) >= 0.5 else "0"
