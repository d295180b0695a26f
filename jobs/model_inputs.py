"""What a model takes besides noisy latents and a time, held against what a recipe gives it.

    size = following(preset, source, section)       # a preset's ends follow the cache
    problems = mismatches(size, source, section)    # what is spelled out, or a base, must fit

Texts of several encoders, latents of given frames under a mask, image tokens, a guidance scale.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from jobs.latents import LatentSource
from jobs.pretrain_config import PretrainSection
from video_models.transformer.joint_config import AnyTransformerConfig, JointTransformerConfig


def following(
    size: AnyTransformerConfig, source: LatentSource, section: PretrainSection
) -> AnyTransformerConfig:
    """Return a preset whose ends are as wide as what the cache holds.

    It gets an input for frames and images that are given; one that it has and that nothing is
    given to stays, for `mismatches` to name it.
    """
    ends: dict[str, Any] = {"latent_channels": source.channels, "text_dim": source.text_dims[0]}
    if isinstance(size, JointTransformerConfig):
        ends["pooled_dim"] = source.text_dims[1] if source.text_dims[1:] else size.pooled_dim
    else:
        ends["more_text_dims"] = source.text_dims[1:]
        if source.image_tokens is not None:
            ends["image_dim"] = source.image_tokens[1]
    if section.given is not None and section.given.beside:
        ends["condition_channels"] = source.condition_channels
    return dataclasses.replace(size, **ends)


def mismatches(
    size: AnyTransformerConfig, source: LatentSource, section: PretrainSection
) -> list[str]:
    """Say what a model takes that a recipe does not give it, and the other way round."""
    return [
        *_texts(size, source),
        *_frames(size, source, section),
        *_images(size, source),
        *_guidance(size, section),
    ]


def _texts(size: AnyTransformerConfig, source: LatentSource) -> Iterator[str]:
    if isinstance(size, JointTransformerConfig):
        widths = [size.text_dim] if size.pooled_dim is None else [size.text_dim, size.pooled_dim]
        fields = "text_dim and pooled_dim"
    else:
        widths, fields = [size.text_dim, *size.more_text_dims], "text_dim and more_text_dims"
    if widths != [*source.text_dims]:
        names = ", ".join(encoder.name for encoder in source.text_encoders)
        yield (
            f"it takes texts of widths {widths} ({fields}), and "
            f"model.text names {names} of widths {[*source.text_dims]}: name its own text "
            "encoders there, in its order"
        )
    elif isinstance(size, JointTransformerConfig) and any(
        each.max_tokens != 1 for each in source.text_encoders[1:]
    ):
        yield (
            "it takes one embedding of the whole text from its second text encoder, which model."
            "text names as one of tokens: give that output: pooled"
        )


def _frames(
    size: AnyTransformerConfig, source: LatentSource, section: PretrainSection
) -> Iterator[str]:
    given, channels = section.given, size.condition_channels
    if given is None or not given.beside:
        if channels:
            yield (
                f"it has condition_channels {channels}, for latents of given frames: name a layer "
                "of kind given in pretrain.given.ways"
            )
        elif given is not None:
            yield from _clean_frames(size, source)
    elif channels != source.condition_channels:
        yield (
            f"it has condition_channels {channels}, and pretrain.given.ways name layers, whose "
            f"mask and latents are {source.condition_channels}: "
            + ("give it as many" if channels else "leave out `layer`, and it keeps frames clean")
        )


def _clean_frames(size: AnyTransformerConfig, source: LatentSource) -> Iterator[str]:
    """Say why a model cannot keep given frames clean in the noisy clip."""
    factor, patch = source.autoencoder.config.temporal_factor, size.patch_size[0]
    firsts = [way.first for way in source.given.ways] if source.given else []
    for first in firsts:
        latents, rest = divmod(first - 1, factor)
        if rest or (latents + 1) % patch:
            allowed = [1 + factor * (n * patch - 1) for n in range(1, 4)]
            yield (
                f"pretrain.given.ways has first {first}, which are no whole tokens; allowed are "
                f"{', '.join(map(str, allowed))}, ..."
            )
    if source.autoencoder.config.norm == "group_clip":
        yield (
            "its autoencoder normalises over the whole clip, so that the first latents tell of "
            "later frames: give it condition_channels, and pretrain.given.ways a layer"
        )


def _images(size: AnyTransformerConfig, source: LatentSource) -> Iterator[str]:
    width: int | None = getattr(size, "image_dim", None)
    tokens = source.image_tokens
    if (None if tokens is None else tokens[1]) != width:
        yield (
            f"it has image_dim {width}, and pretrain.given.image gives "
            f"{'no tokens' if tokens is None else f'tokens of width {tokens[1]}'}: name layers of "
            "kind image there for exactly the models that take them"
        )
        return
    positions: int | None = getattr(size, "image_positions", None)
    if tokens is not None and positions not in (None, tokens[0]):
        yield (
            f"it has image_positions {positions}, and pretrain.given.image gives {tokens[0]} "
            "tokens a clip: name a layer for each image that it takes"
        )


def _guidance(size: AnyTransformerConfig, section: PretrainSection) -> Iterator[str]:
    if size.guidance_embedding == (section.guidance is None):
        yield (
            f"it has guidance_embedding {str(size.guidance_embedding).lower()}, and "
            f"pretrain.guidance is {section.guidance!r}: give a scale to exactly the models that "
            "take one"
        )
