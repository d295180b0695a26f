"""Typed recipes: YAML plus `a.b=c` overrides become frozen dataclasses.

A recipe is read as YAML 1.2 reads it (`1e-4` is a number, `off` is a word), an unknown key is an
error that names the nearest known one, and values are never coerced from one type to another.
"""

import dataclasses
import difflib
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from video_platform.errors import ConfigError

T = TypeVar("T")
V = TypeVar("V")


def pick(table: Mapping[str, V], name: str, what: str) -> V:
    """Return `table[name]`, or raise a `ConfigError` that lists what the table holds."""
    if name not in table:
        raise ConfigError(f"unknown {what} {name!r}; known: {', '.join(sorted(table))}")
    return table[name]


def load_recipe(kind: type[T], path: str | Path | None, overrides: Sequence[str] = ()) -> T:
    """Read a recipe file, apply overrides, and check everything against the dataclass `kind`.

    Args:
        kind: a frozen dataclass; nested dataclasses are sections.
        path: a YAML file; None starts from an empty recipe.
        overrides: `section.key=value`, the value in YAML; later ones win.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, a value has the wrong type
            or is refused.
    """
    origin = "the command line" if path is None else str(path)
    tree = {} if path is None else _read(Path(path))
    for override in overrides:
        _apply(tree, override)
    _check_keys(kind, tree, prefix="", origin=origin)
    try:
        return pydantic.TypeAdapter(kind).validate_json(json.dumps(tree), strict=True)
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(error, origin)) from None


def as_tree(config: Any) -> dict[str, Any]:
    """Turn a config object into plain dicts, lists and scalars."""
    tree: dict[str, Any] = json.loads(pydantic.TypeAdapter(type(config)).dump_json(config))
    return tree


def to_yaml(config: Any) -> str:
    """Write a config object as a recipe that `load_recipe` reads back unchanged."""
    return yaml.safe_dump(as_tree(config), sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of numbers and switches."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, rule)
        for tag, rule in rules
        if not tag.endswith((":bool", ":float", ":int", ":timestamp"))
    ]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), list("tf"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def _parse(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506  (a subclass of SafeLoader)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(
            f"there is no recipe file {str(path)!r}; "
            "give the path of a YAML file, such as those in jobs/recipes/"
        )
    try:
        tree = _parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path} holds a {type(tree).__name__}; a recipe is a mapping of sections"
        )
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    """Set one `a.b=c` in place; `a=null` takes a section away."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r} is not of the form section.key=value")
    try:
        value = _parse(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"the value in override {override!r} is not YAML: {' '.join(str(error).split())}"
        ) from None
    *parents, last = key.split(".")
    node = tree
    for name in parents:
        child = node.get(name)
        if child is None:
            child = node[name] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {name!r} is a value, not a section")
        node = child
    node[last] = value


def _check_keys(kind: type, tree: Mapping[str, Any], *, prefix: str, origin: str) -> None:
    """Refuse keys that `kind` does not have; pydantic alone would drop them without a word."""
    known = typing.get_type_hints(kind)
    for key, value in tree.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = (
                f"did you mean {prefix + near[0]!r}?" if near else f"known here: {', '.join(known)}"
            )
            raise ConfigError(f"{origin}: unknown key {prefix + str(key)!r}; {hint}")
        for section, keys, at in _sections(known[key], value):
            _check_keys(section, keys, prefix=f"{prefix}{key}.{at}", origin=origin)


def _sections(annotation: Any, value: Any) -> Iterator[tuple[type, Mapping[str, Any], str]]:
    """Yield each dataclass that a value is to hold, with its keys and its place in the value."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        if isinstance(value, dict):
            yield annotation, value, ""
    elif origin in (typing.Union, types.UnionType):
        rivals = [option for option in arguments if dataclasses.is_dataclass(option)]
        for option in arguments:
            if len(rivals) < 2 or option not in rivals or _is_meant(option, value):
                yield from _sections(option, value)
    elif origin is tuple and isinstance(value, list):
        for number, item in enumerate(value):
            yield from (
                (kind, keys, f"{number}.{at}") for kind, keys, at in _sections(arguments[0], item)
            )
    elif origin is Mapping and isinstance(value, dict):
        for name, item in value.items():
            yield from (
                (kind, keys, f"{name}.{at}") for kind, keys, at in _sections(arguments[1], item)
            )


def _is_meant(section: Any, value: Any) -> bool:
    """Say whether a value names the `kind` of one of several sections that it may hold."""
    return isinstance(value, dict) and value.get("kind") == getattr(section, "kind", None)


def _explain(error: pydantic.ValidationError, origin: str) -> str:
    """Say the first failures in one line, each with its key and what was given."""
    lines = []
    for item in error.errors(include_url=False)[:3]:
        key = ".".join(
            str(part) for part in item["loc"] if not (isinstance(part, str) and part[:1].isupper())
        )
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            lines.append(f"{key or 'the recipe'} is missing")
        elif isinstance(item["input"], dict):
            lines.append(f"{key}: {message}" if key else message)
        else:
            lines.append(f"{key} = {item['input']!r}: {message}")
    return f"{origin}: " + "; ".join(lines)
