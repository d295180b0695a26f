"""The curves of a training run as one picture: loss, held-out loss, gradients, learning rate."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobs.history import History, Point

PICTURE = "curves.png"
MOST_LABELS = 10
"""Lines of a panel that are named; of more, some evenly spaced."""
FEW_POINTS = 12
"""With so many, each is marked."""

LINEAR = ("learning rate", "share of verdicts that are right")
"""Panels that are no logarithms."""

Curves = Mapping[str, Sequence[Point]]
Panels = Callable[[Curves], Mapping[str, Curves]]
"""Curves by the name of their scalar -> curves by panel and label; empty panels are left out."""


def pictures(history: History, panels: Panels | None = None) -> dict[str, bytes]:
    """Return the curves of a run as PNG by file name; nothing where there are none."""
    if not history.curves:
        return {}
    buffer = io.BytesIO()
    draw(history.curves, panels).savefig(buffer, format="png", bbox_inches="tight")
    return {PICTURE: buffer.getvalue()}


def draw(curves: Curves, panels: Panels | None = None) -> Any:
    """Return the curves as a matplotlib figure; what was not measured has no panel."""
    from matplotlib.figure import Figure

    chosen = (panels or of_pretraining)(curves)
    drawn = {title: lines for title, lines in chosen.items() if lines}
    columns = min(len(drawn), 3)
    rows = math.ceil(len(drawn) / columns)
    figure = Figure(figsize=(5 * columns, 4 * rows), dpi=110, layout="constrained")
    axes = [*figure.subplots(rows, columns, squeeze=False).flat]
    for panel, (title, lines) in zip(axes, drawn.items(), strict=False):
        _draw(panel, title, lines, logarithmic=title not in LINEAR)
    for panel in axes[len(drawn) :]:
        panel.remove()
    return figure


def of_pretraining(curves: Curves) -> dict[str, Curves]:
    """Return the panels of a pretraining."""
    losses = {"training": "loss", "held out": "validation/loss", "average": "validation_ema/loss"}
    held_out = "validation_ema" if "validation_ema/loss" in curves else "validation"
    of = "average" if held_out == "validation_ema" else "weights"
    return {
        "loss": named(curves, losses),
        f"held-out loss of the {of} at time t": under(curves, f"{held_out}/loss_at_"),
        "training loss by time t": under(curves, "loss_by_time/"),
        "gradient norm": under(curves, "transformer/grad_norm"),
        "gradient norm by block": under(curves, "grad_norm_by_block/"),
        "learning rate": under(curves, "transformer/learning_rate"),
    }


def named(curves: Curves, names: Mapping[str, str]) -> dict[str, Sequence[Point]]:
    """Return those curves that there are, by label.

    Args:
        curves: by the name of their scalar.
        names: of scalars, by label.
    """
    return {label: curves[name] for label, name in names.items() if name in curves}


def under(curves: Curves, prefix: str) -> dict[str, Sequence[Point]]:
    """Return the curves below a name, in order: block 2 before block 10."""
    found = {n.removeprefix(prefix): curve for n, curve in curves.items() if n.startswith(prefix)}
    return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _draw(panel: Any, title: str, lines: Curves, *, logarithmic: bool) -> None:
    """Draw curves, coloured in their order."""
    from matplotlib import colormaps
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    colour, every = colormaps["viridis"], math.ceil(len(lines) / MOST_LABELS)
    for index, (name, points) in enumerate(lines.items()):
        shade = colour(0.9 * index / max(len(lines) - 1, 1))
        label = name if index % every == 0 else None
        marker = "o" if len(points) <= FEW_POINTS else None
        panel.plot(
            *zip(*points, strict=True), color=shade, label=label, marker=marker, ms=3, lw=1.3
        )
    if logarithmic and all(value > 0 for points in lines.values() for _, value in points):
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_title(title, loc="left", fontsize=11)
    panel.set_xlabel("step")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:
        panel.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
