"""Wan's own transformer checkpoints: other names, and a config of another kind or none.

They are told in the terms of diffusers' folders. Sizes are read off the tensors; the number of
heads is in no shape, and is that of heads of 128 channels, as in all published models, where no
config says it. Structure: Wan-Video/Wan2.1 and Wan-Video/Wan2.2, `wan/modules/model.py`.

Legend: D width.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from video_models.formats.folder import ModelFormatError

ORIGINAL = "WanModel"
"""The class that Wan's own configs name."""

PREFIX = "model.diffusion_model."
"""What some repackaged files put before every name."""

HEAD_DIM = 128
"""Channels of a head in all published models."""

ENDS = {
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
    "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
}
"""Before and behind the blocks, Wan's name and the published one."""

ATTENTION = {
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "o": "to_out.0",
    "norm_q": "norm_q",
    "norm_k": "norm_k",
    "k_img": "add_k_proj",
    "v_img": "add_v_proj",
    "norm_k_img": "norm_added_k",
}
BLOCK = {
    **{f"self_attn.{theirs}": f"attn1.{ours}" for theirs, ours in ATTENTION.items()},
    **{f"cross_attn.{theirs}": f"attn2.{ours}" for theirs, ours in ATTENTION.items()},
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "modulation": "scale_shift_table",
}
"""Inside of a block."""


def is_original(tree: Mapping[str, Any], state: Mapping[str, Tensor]) -> bool:
    """Say whether tensors are under Wan's own names."""
    unnamed = "_class_name" not in tree and any("self_attn.norm_q" in name for name in state)
    return tree.get("_class_name") == ORIGINAL or unnamed


def published(
    tree: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the config and the tensors as diffusers' `WanTransformer3DModel` has them.

    Args:
        tree: Wan's own config, perhaps empty.
        state: tensors under Wan's own names.

    Raises:
        ModelFormatError: a tensor has no place in this transformer, or one is missing.
    """
    state = {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    try:
        config = _config_of(tree, state)
    except KeyError as error:
        raise ModelFormatError(f"these are not Wan's tensors: {error} is missing") from None
    return config, {_published_name(name): tensor for name, tensor in state.items()}


def published_layer(name: str) -> str | None:
    """Return the published name of a layer or parameter; None where there is none."""
    if name in ENDS:
        return ENDS[name]
    parts = name.split(".", 2)
    if len(parts) < 3 or parts[0] != "blocks" or parts[2] not in BLOCK:
        return None
    return f"blocks.{parts[1]}.{BLOCK[parts[2]]}"


def _published_name(name: str) -> str:
    layer, _, kind = name.rpartition(".")
    whole, inside = published_layer(name), published_layer(layer)
    if whole is not None:
        return whole
    if inside is None:
        raise ModelFormatError(f"{name!r} has no place in Wan's transformer for text and images")
    return f"{inside}.{kind}"


def _config_of(tree: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    D, in_channels, *patch = state["patch_embedding.weight"].shape
    image = state.get("img_emb.proj.1.weight")
    positions = state.get("img_emb.emb_pos")
    return {
        "_class_name": "WanTransformer3DModel",
        "patch_size": patch,
        "num_attention_heads": (heads := tree.get("num_heads", D // HEAD_DIM)),
        "attention_head_dim": D // max(1, heads),
        "in_channels": in_channels,
        "out_channels": len(state["head.head.weight"]) // math.prod(patch),
        "text_dim": state["text_embedding.0.weight"].shape[1],
        "freq_dim": state["time_embedding.0.weight"].shape[1],
        "ffn_dim": len(state["blocks.0.ffn.0.weight"]),
        "num_layers": len(set(_layers(state))),
        "cross_attn_norm": "blocks.0.norm3.weight" in state,
        "eps": tree.get("eps", 1e-6),
        "image_dim": None if image is None else len(image),
        "added_kv_proj_dim": None if image is None else D,
        "pos_embed_seq_len": None if positions is None else positions.shape[1],
    }


def _layers(state: Mapping[str, Tensor]) -> Iterator[str]:
    return (name.split(".")[1] for name in state if name.startswith("blocks."))
