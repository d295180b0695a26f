"""Break a line of the real code, so that a test can show that its oracle notices."""

import inspect
from types import ModuleType
from typing import Any


def mutated(module: ModuleType, line: str, broken: str) -> Any:
    """Return the module with one piece of its source replaced; the original is untouched."""
    source = inspect.getsource(module)
    assert source.count(line) == 1, f"{line!r} is {source.count(line)} times in {module.__name__}"
    copy = ModuleType(module.__name__)
    code = compile(source.replace(line, broken), f"<mutated {module.__name__}>", "exec")
    exec(code, copy.__dict__)
    return copy
