"""Show how far a job is: a live bar in a terminal, plain lines in a log."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_S = 5.0
SHOWN = 4
"""Most values beside the bar."""

OnProgress = Callable[[int, Mapping[str, float | str]], None]
"""Given how much is done and what to show beside it."""


@contextmanager
def progress(title: str, total: int) -> Iterator[OnProgress]:
    """Show a job of `total` parts while it runs; call what is yielded as it goes on."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title, total, console)
        return
    columns = (
        TextColumn("[bold cyan]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[values]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total, values="")
        yield lambda done, values: bar.update(task, completed=done, values=_show(values))


def _lines(title: str, total: int, console: Console) -> OnProgress:
    last, ended = float("-inf"), False

    def update(done: int, values: Mapping[str, float | str]) -> None:
        nonlocal last, ended
        now = time.monotonic()
        if not ended and (now - last >= LINE_EVERY_S or done >= total):
            last, ended = now, done >= total
            line = f"{title} {done}/{total} {_show(values)}".rstrip()
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    return update


def _show(values: Mapping[str, float | str]) -> str:
    shown = list(values.items())[:SHOWN]
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown)
