"""Transformer folders: ours, diffusers' of Wan and HunyuanVideo, and Wan's own checkpoints.

What each family is called by diffusers is in `wan_transformer.py` and `hunyuan_transformer.py`, by
Wan itself in `wan_transformer_names.py`. What diffusers can express is written so that diffusers
opens it. Published models count time from 0 to 1000; the models here do the conversion.
"""

import dataclasses
from collections.abc import Callable, Mapping, Set
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, overload

import torch
from torch import Tensor

from video_models.formats import hunyuan_transformer, wan_transformer
from video_models.formats.folder import (
    ModelFormatError,
    load_weights,
    read_config,
    read_folder,
    write_folder,
)
from video_models.formats.tensor_file import read_tensors
from video_models.formats.wan_transformer_names import is_original, published
from video_models.transformer.config import TransformerConfig
from video_models.transformer.family import AnyTransformer, build_transformer
from video_models.transformer.joint import JointTransformer
from video_models.transformer.joint_config import AnyTransformerConfig, JointTransformerConfig
from video_models.transformer.model import VideoTransformer

Format = Literal["auto", "native", "diffusers"]
A = TypeVar("A", VideoTransformer, JointTransformer)


class Family(NamedTuple):
    """How folders tell the transformers of a family."""

    name: str
    ours: str
    """The class in a folder that only this project opens."""
    theirs: str
    """The class of diffusers."""
    config: type[AnyTransformerConfig]
    from_tree: Callable[[Mapping[str, Any]], AnyTransformerConfig]
    to_tree: Callable[[Any], dict[str, Any]]
    unlike: Callable[[Any], list[str]]
    wide: Set[str] = frozenset()
    """Parts of names of what stays in float32 in a model of 16 bits, as diffusers has it."""
    unseen: Set[str] = frozenset()
    """Parts of names of what published files hold and no model computes with."""


FAMILIES = (
    Family(
        "HunyuanVideo",
        "JointTransformer",
        hunyuan_transformer.HUNYUAN,
        JointTransformerConfig,
        hunyuan_transformer.from_tree,
        hunyuan_transformer.to_tree,
        hunyuan_transformer.unlike,
    ),
    Family(
        "Wan",
        "VideoTransformer",
        wan_transformer.WAN,
        TransformerConfig,
        wan_transformer.from_tree,
        wan_transformer.to_tree,
        wan_transformer.unlike,
        wide={
            *("time_embedder", "guidance_embedder", "scale_shift_table"),
            *("norm1", "norm2", "norm3"),
        },
        unseen={"norm_added_q"},
    ),
)


@overload
def open_transformer(
    path: str | Path, *, dtype: torch.dtype | None = torch.float32
) -> AnyTransformer: ...
@overload
def open_transformer(
    path: str | Path, kind: type[A], *, dtype: torch.dtype | None = torch.float32
) -> A: ...
def open_transformer(
    path: str | Path,
    kind: type[A] | None = None,
    *,
    dtype: torch.dtype | None = torch.float32,
) -> AnyTransformer:
    """Open a transformer in evaluation mode.

    Args:
        path: a folder of ours or of diffusers', sharded or not; or Wan's own: its folder, or a
            `.safetensors` or `.pth` file of it.
        kind: the class that is needed; None takes what there is.
        dtype: what to compute in; of a Wan of 16 bits, time, modulation and norms stay in float32.
            On a CPU without units for bfloat16, float32 is the faster one. None keeps what each
            tensor has.

    Raises:
        ModelFormatError: it is no such folder or file, a variant that is not supported, or of
            another kind.
    """
    path = Path(path)
    tree, state = ({}, read_tensors(path)) if path.is_file() else read_folder(path)
    try:
        if is_original(tree, state):
            tree, state = published(tree, state)
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}") from None

    family, config = _config_of(tree, where=path)

    def dtype_of(name: str, tensor: Tensor) -> torch.dtype:
        if dtype is None:
            return tensor.dtype
        wide = not family.wide.isdisjoint(name.split("."))
        return torch.promote_types(dtype, torch.float32) if wide else dtype

    with torch.device("meta"):
        empty = build_transformer(config)
    seen = {name: x for name, x in state.items() if family.unseen.isdisjoint(name.split("."))}
    model = load_weights(empty, seen, where=path, dtype_of=dtype_of)
    if kind is not None and not isinstance(model, kind):
        raise ModelFormatError(
            f"{path} holds a {type(model).__name__}; what reads it needs a {kind.__name__}"
        )
    return model


def read_transformer_config(folder: str | Path) -> AnyTransformerConfig:
    """Return the config of a folder of ours or of diffusers', without opening its weights.

    Raises:
        ModelFormatError: it is no such folder, or a variant that is not supported.
    """
    return _config_of(read_config(folder), where=Path(folder))[1]


def save_transformer(model: AnyTransformer, folder: str | Path, format: Format = "auto") -> None:
    """Write a transformer folder in place of what is there; tensors keep their dtypes.

    Args:
        model: what to write.
        folder: where to.
        format: `diffusers` writes what `from_pretrained` of diffusers' class opens, `native` what
            only this project opens, and `auto` the former where it can express the model.

    Raises:
        ModelFormatError: diffusers cannot express the model; the message names the settings.
    """
    if format not in ("auto", "native", "diffusers"):
        raise ModelFormatError(f"format is {format!r}; it is auto, native or diffusers")
    config = model.config
    (family,) = (each for each in FAMILIES if isinstance(config, each.config))
    reasons = family.unlike(config)
    if format == "diffusers" and reasons:
        raise ModelFormatError(
            f"diffusers has no {family.name} transformer with {', with '.join(reasons)}; "
            'save it with format="native"'
        )
    native = format == "native" or reasons
    ours = {"_class_name": family.ours, **dataclasses.asdict(config)}
    write_folder(folder, ours if native else family.to_tree(config), model.state_dict())


def _config_of(tree: Mapping[str, Any], *, where: Path) -> tuple[Family, AnyTransformerConfig]:
    """Return the family and the config of a folder's `config.json`."""
    kind = tree.get("_class_name")
    for family in FAMILIES:
        if kind in (family.ours, family.theirs):
            read = family.from_tree if kind == family.theirs else partial(_from_ours, family)
            try:
                return family, read(tree)
            except (TypeError, ValueError) as error:
                raise ModelFormatError(f"{where}: {error}") from None
    known = ", ".join(name for family in FAMILIES for name in (family.ours, family.theirs))
    raise ModelFormatError(f"{where} holds a {kind!r}; a transformer is one of {known}")


def _from_ours(family: Family, tree: Mapping[str, Any]) -> AnyTransformerConfig:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in tree.items()
        if not key.startswith("_")
    }
    return family.config(**values)
