"""A model folder on disk: `config.json` and safetensors, as published models have them.

Weights in one file or sharded behind an index are read; one file is written. A folder appears
whole or not at all.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

DtypeOf = Callable[[str, Tensor], torch.dtype]
"""(name, tensor) -> what it is brought to."""

CONFIG = "config.json"
CONFIGS = (CONFIG, "adapter_config.json")
"""Of models, and of adapters in PEFT's format."""
WEIGHTS = "diffusion_pytorch_model.safetensors"
OTHER_WEIGHTS = ("model.safetensors",)


class ModelFormatError(ValueError):
    """A folder is not a model of the kind that was asked for."""


def read_folder(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the config and the tensors of a model folder.

    Raises:
        ModelFormatError: a file is missing or damaged; the message names it.
    """
    folder = Path(folder)
    return read_config(folder), _read_weights(folder)


def read_config(folder: str | Path) -> dict[str, Any]:
    """Return the config of a model folder.

    Raises:
        ModelFormatError: there is no config.json, or it is no JSON object.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise ModelFormatError(f"{folder} is not a model folder: it has no {CONFIG}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFormatError(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise ModelFormatError(f"{path} holds a {type(config).__name__}, not an object")
    return config


def open_model(
    folder: str | Path,
    builders: Mapping[str, Callable[[dict[str, Any]], M]],
    *,
    what: str,
    renamers: Mapping[str, Callable[[dict[str, Tensor], M], dict[str, Tensor]]] | None = None,
) -> M:
    """Open a model folder in float32, in evaluation mode.

    Args:
        folder: where it is.
        builders: what makes an untrained model of a config, by the class that the config names.
        what: what such a model is called, with its article.
        renamers: what gives tensors the model's names, by class; none where they have them.

    Raises:
        ModelFormatError: it is no such folder, or a variant that is not supported.
    """
    tree, state = read_folder(folder)
    kind = tree.get("_class_name")
    if not isinstance(kind, str) or kind not in builders:
        raise ModelFormatError(f"{folder} holds a {kind!r}; {what} is {' or '.join(builders)}")
    try:
        model = builders[kind](tree)
    except (TypeError, ValueError) as error:
        raise ModelFormatError(f"{folder}: {error}") from None
    if renamers and kind in renamers:
        state = renamers[kind](state, model)
    return load_weights(model, state, where=folder)


def load_weights(
    model: M,
    state: Mapping[str, Tensor],
    *,
    where: str | Path,
    dtype_of: DtypeOf = lambda _name, _tensor: torch.float32,
) -> M:
    """Fill a model with tensors, and return it in evaluation mode.

    Args:
        model: untrained; on the meta device it takes no memory before.
        state: the tensors.
        where: what errors begin with.
        dtype_of: the dtype that a tensor is brought to; float32 where nothing else is said.

    Raises:
        ModelFormatError: they are not its tensors; the message begins with `where`.
    """
    empty = any(parameter.is_meta for parameter in model.parameters())
    named = {name: tensor.to(dtype_of(name, tensor), copy=empty) for name, tensor in state.items()}
    try:
        model.load_state_dict(named, assign=empty)
    except RuntimeError as error:
        raise ModelFormatError(f"{where}: weights and config disagree: {error}") from None
    return model.eval()


def write_folder(
    folder: str | Path, config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> None:
    """Write a model folder in place of what is there; a reader sees the old one or the new one.

    Raises:
        ModelFormatError: what is there is neither empty nor a model folder, so it is kept.
    """
    with replaced(folder) as new:
        (new / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        write_tensors(new / WEIGHTS, state)


@contextmanager
def replaced(folder: str | Path) -> Iterator[Path]:
    """Give a folder to write into, which takes the place of what is there when all is written.

    Raises:
        ModelFormatError: what is there is neither empty nor weights, so it is kept.
    """
    folder = Path(folder).absolute()
    if folder.exists() and not _is_replaceable(folder):
        raise ModelFormatError(
            f"{folder} holds other things than a model and is left alone; name another folder"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new, old = scratch / "new", scratch / "old"
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_tensors(
    file: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file as published models have it."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, file, metadata={"format": "pt", **(metadata or {})})


def _is_replaceable(folder: Path) -> bool:
    """Say whether a folder is empty or holds nothing but configs and weights."""
    return folder.is_dir() and all(
        path.name in CONFIGS or path.name.endswith((".safetensors", ".safetensors.index.json"))
        for path in folder.iterdir()
    )


def _read_weights(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        if not path.is_file():
            raise ModelFormatError(f"{folder} lacks the weight file {path.name}")
        try:
            state |= load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise ModelFormatError(f"{path} is damaged: {error}") from None
    return state


def _weight_files(folder: Path) -> list[Path]:
    """Return the weight files, through the index where there is one."""
    for name in (WEIGHTS, *OTHER_WEIGHTS):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values()
            names = sorted({str(shard) for shard in shards})
            if any(Path(shard).name != shard for shard in names):
                raise ModelFormatError(f"{index} names files outside of its folder")
            return [folder / shard for shard in names]
    raise ModelFormatError(f"{folder} has no weights; {WEIGHTS} or a sharded index is read")
