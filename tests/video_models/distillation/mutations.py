"""Named mistakes in the real code, and the test that each of them turns red.

    python -m tests.video_models.distillation.mutations     # the table, as Markdown

A mistake is a line of a module and what stands there instead. It is made in the loaded module and
wherever its names were imported to, the oracle is run, and everything is put back.
"""

import contextlib
import importlib
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from tests.video_models.distillation.mutation import mutated

OURS = ("video_models", "video_platform", "pipelines", "jobs", "tests")
"""Packages in which a broken name takes the place of the whole one."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Mistakes in one module that one oracle notices."""

    method: str
    """What they spoil."""
    module: str
    """Where they are."""
    oracle: str
    """The test that is to fail: its module below `tests`, a colon, its name."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Its arguments; a function is called for one when the oracle runs."""
    bugs: Mapping[str, tuple[str, str]]
    """Names of mistakes; each is a line, or several, and what replaces it."""


@dataclass(frozen=True)
class Mutation:
    """One mistake."""

    group: Group
    bug: str

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.group.method}: {self.bug}"


class UnnoticedError(Exception):
    """The oracle passed."""


def all_groups() -> tuple[Group, ...]:
    """Return every group there is."""
    tables = ("followers", "players", "stages", "ground")
    modules = [importlib.import_module(f"{__package__}.mutations_{name}") for name in tables]
    return tuple(group for module in modules for group in module.GROUPS)


def all_mutations() -> list[Mutation]:
    """Return every mistake there is."""
    return [Mutation(group, bug) for group in all_groups() for bug in group.bugs]


@contextlib.contextmanager
def made(mutation: Mutation) -> Iterator[None]:
    """Have the mistake in the loaded code inside the block."""
    module = importlib.import_module(mutation.group.module)
    broken = vars(mutated(module, *mutation.group.bugs[mutation.bug]))
    own = {
        id(value): broken[name]
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and name in broken
    }
    whole = [
        (space, name, value)
        for space in _spaces()
        for name, value in list(space.items())
        if id(value) in own
    ]
    try:
        for space, name, value in whole:
            space[name] = own[id(value)]
        yield
    finally:
        for space, name, value in whole:
            space[name] = value


def _spaces() -> list[dict[Any, Any]]:
    """Return the names of our loaded modules, and the tables in them that choose by name."""
    ours = [vars(m) for n, m in list(sys.modules.items()) if n.split(".")[0] in OURS and m]
    tables = {id(v): v for space in ours for v in space.values() if isinstance(v, dict)}
    return [*ours, *tables.values()]


def run_oracle(group: Group) -> None:
    """Run the test of a group by itself."""
    path, _, name = group.oracle.partition(":")
    oracle = getattr(importlib.import_module(f"tests.{path}"), name)
    torch.manual_seed(0)
    oracle(**{name: v() if callable(v) else v for name, v in group.given.items()})


def notice(mutation: Mutation) -> str:
    """Return what the oracle said of a mistake.

    Raises:
        UnnoticedError: nothing.
    """
    importlib.import_module(f"tests.{mutation.group.oracle.partition(':')[0]}")  # with whole names
    with made(mutation):
        try:
            run_oracle(mutation.group)
        except Exception as error:
            return type(error).__name__
        except BaseException as error:
            if type(error).__module__ != "_pytest.outcomes":  # `pytest.raises` that saw nothing
                raise
            return type(error).__name__
    raise UnnoticedError(f"{mutation.name}: {mutation.group.oracle} passed")


def main() -> int:
    """Print the table; return how many mistakes went unnoticed."""
    torch.set_num_threads(1)
    start, unnoticed = time.process_time(), 0
    print("| method | mistake | noticed by |\n|---|---|---|")
    for mutation in all_mutations():
        group = mutation.group
        given = ", ".join(f"{n}={v}" for n, v in group.given.items() if not callable(v))
        where = f"`{group.oracle.rpartition('.')[2]}`" + (f" ({given})" if given else "")
        try:
            with contextlib.redirect_stdout(sys.stderr):  # libraries greet there
                notice(mutation)
        except UnnoticedError:
            unnoticed, where = unnoticed + 1, f"**nothing**; {where} passed"
        print(f"| {group.method} | {mutation.bug} | {where} |")
    count = len(all_mutations())
    seconds = time.process_time() - start
    print(f"\n{count - unnoticed} of {count} mistakes noticed, in {seconds:.1f} s of one thread.")
    return unnoticed


if __name__ == "__main__":
    sys.exit(main())
