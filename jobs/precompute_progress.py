"""Watch a run of `precompute`: a bar for each layer, curves and pictures in the tracking store."""

import contextlib
import time
from collections.abc import Iterator

from jobs import clip_selection
from jobs.fidelity import FidelityGate
from jobs.progress import progress
from video_platform.clips.selection import Selection
from video_platform.latents.work import OnProgress, Progress
from video_platform.tracking import Run

TRACK_EVERY_S = 5.0
"""Seconds between two points of a curve."""


class Watch:
    """Tracks what it is told, and passes it on.

    Args:
        run: where curves and pictures go.
        show: shows how far a layer is.
    """

    def __init__(self, run: Run, show: OnProgress) -> None:
        self._run, self._show = run, show
        self._tracked_s = 0.0

    def progress(self, now: Progress) -> None:
        """Take note of how far a layer is."""
        self._show(now)
        ended = now.units_done == now.units
        if ended or time.monotonic() - self._tracked_s >= TRACK_EVERY_S:
            self._tracked_s = time.monotonic()
            self._run.metrics(curves(now), step=now.samples_done)

    def selection(self, selection: Selection) -> None:
        """Show and track which clips are to be made, and what was left out."""
        if selection.rows:
            clip_selection.show(selection.rows)
            clip_selection.track(self._run, selection)

    def fidelity(self, gate: FidelityGate) -> None:
        """Track what was measured of the latents, with a picture for each bucket and kind."""
        for bucket, found in gate.buckets().items():
            figures = {f"fidelity/{bucket}/{name}": v for name, v in found.figures().items()}
            self._run.metrics(figures, step=0)
        for bucket, strips in gate.strips.items():
            for kind, picture in strips.items():
                self._run.image(picture, f"fidelity/{bucket}/{kind}.png")


def curves(now: Progress) -> dict[str, float]:
    """Return what is tracked of a layer over time."""
    values = {"samples_per_s": now.samples_per_s, "rejected": float(sum(now.rejects.values()))}
    if now.load.encoders:
        values |= {
            "encoder_busy": now.load.encoder_busy,
            "decoder_busy": now.load.decoder_busy,
            "encoders": float(now.load.encoders),
            "decoders": float(now.load.decoders),
            "bytes_in_flight": float(now.load.bytes_in_flight),
        }
    return {f"{now.layer}/{name}": value for name, value in values.items()}


class Memory:
    """Passes progress on, and remembers it.

    Attributes:
        last: the last progress of each layer.
    """

    def __init__(self, on_progress: OnProgress) -> None:
        self.last: dict[str, Progress] = {}
        self._tell = on_progress
        self._times: dict[str, tuple[float, float]] = {}

    def __call__(self, now: Progress) -> None:
        """Take note of how far a layer is."""
        now_s = time.monotonic()
        began_s, _ = self._times.get(now.layer, (now_s, now_s))
        self._times[now.layer] = began_s, now_s
        self.last[now.layer] = now
        self._tell(now)

    def seconds(self, layer: str) -> float:
        """Return how long a layer took."""
        began_s, ended_s = self._times[layer]
        return ended_s - began_s


@contextlib.contextmanager
def shown() -> Iterator[OnProgress]:
    """Show progress inside the block, a bar for each layer, one after the other."""
    with contextlib.ExitStack() as bars:
        layer, update = "", None

        def show(now: Progress) -> None:
            nonlocal layer, update
            if now.layer != layer or update is None:
                bars.close()
                layer, update = now.layer, bars.enter_context(progress(now.layer, now.samples))
            update(now.samples_done, _beside(now))

        yield show


def _beside(now: Progress) -> dict[str, float | str]:
    """Return what stands beside the bar of a layer."""
    values: dict[str, float | str] = {"a second": now.samples_per_s}
    if now.load.encoders:
        values["encoders busy"] = f"{now.load.encoder_busy:.0%}"
    if now.eta_s is not None and now.units_done < now.units:
        values["left"] = f"{now.eta_s:.0f} s"
    return values | {"rejected": str(sum(now.rejects.values()))}
