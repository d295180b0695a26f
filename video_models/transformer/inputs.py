"""What a transformer accepts, brought to one form; what does not fit its config is refused.

A batch is one group of samples of equal shape. Samples of different shapes are groups of one, which
the model lays into one sequence.

Legend: B batch, C latent channels, (T, H, W) latent frames, rows, columns, S tokens, L text tokens,
N packed samples.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from video_models.transformer.config import TransformerConfig
from video_models.transformer.spans import Grid

Samples = Tensor | Sequence[Tensor]
"""A batch (B, C, T, H, W), or samples (C, T, H, W) of different shapes."""

Texts = Tensor | Sequence[Tensor]
"""Embeddings (B, L, text_dim), or those of each text encoder in turn."""

Masks = Tensor | Sequence[Tensor | None] | None
"""Which tokens are real, (B, L) bool, of the only text encoder or of each; None if all are."""

Times = Tensor | Sequence[Tensor]
"""(B,), or one a token, (B, S); of packed samples (N,), or (S,) of each in turn."""


DECIDED_BY = {
    "condition": "condition_channels",
    "guidance": "guidance_embedding",
    "image": "image_dim",
    "pooled": "pooled_dim",
}
"""Inputs that only some models take, and the field of the config that says whether."""


def groups_of(samples: Samples) -> list[Tensor]:
    """Return the samples as batches of equal shape, (B, C, T, H, W) each."""
    return [samples] if isinstance(samples, Tensor) else [sample[None] for sample in samples]


def grid_of(latents: Tensor, *, channels: int, patch: Grid, limit: int | None) -> Grid:
    """Return how many tokens latents (B, C, T, H, W) make along frames, rows and columns.

    Args:
        latents: what is cut into patches.
        channels: C of the model.
        patch: latent frames, rows and columns of a token.
        limit: most tokens along one axis; None for no limit.

    Raises:
        ValueError: latents have other channels or axes, do not divide into patches, or are larger.
    """
    _, C, *size = latents.shape
    if channels != C or len(size) != 3:
        raise ValueError(
            f"latents have shape {tuple(latents.shape)}; this model takes "
            f"(batch, {channels}, frames, rows, columns)"
        )
    if any(length % step for length, step in zip(size, patch, strict=True)):
        raise ValueError(f"latents of size {tuple(size)} do not divide into patches of {patch}")
    F, R, Q = (length // step for length, step in zip(size, patch, strict=True))
    if limit is not None and max(F, R, Q) > limit:
        raise ValueError(f"{max(F, R, Q)} tokens along one axis; max_positions allows {limit}")
    return F, R, Q


def lay_out_latents(
    condition_channels: int, latents: Samples, condition: Samples | None
) -> list[Tensor]:
    """Return what is cut into patches, (B, C + condition channels, T, H, W) of each group.

    Raises:
        ValueError: the condition has another shape.
    """
    groups = groups_of(latents)
    if condition is None:
        return groups
    beside = groups_of(condition)
    for x, c in zip(groups, beside, strict=True):
        expected = (len(x), condition_channels, *x.shape[2:])
        if tuple(c.shape) != expected:
            raise ValueError(f"the condition has shape {tuple(c.shape)}; expected {expected}")
    return [torch.cat((x, c.type_as(x)), dim=1) for x, c in zip(groups, beside, strict=True)]


def lay_out_numbers(
    t: Times, guidance: Tensor | None, *, samples: int, lengths: Sequence[int]
) -> tuple[Tensor, Tensor | None]:
    """Return times and guidance scales, (B, 1) or (B, S); of packed samples (N, 1) or (1, S).

    Args:
        t: times.
        guidance: scales, (B,) or (N,).
        samples: B or N.
        lengths: tokens of each packed sample, or of one of the batch.

    Raises:
        ValueError: there is not one time for each sample or each token.
    """
    times = t.reshape(len(t), -1) if isinstance(t, Tensor) else torch.cat(list(t))[None]
    packed = len(lengths) > 1
    by_token = (1 if packed else samples, sum(lengths))
    if tuple(times.shape) not in ((samples, 1), by_token):
        raise ValueError(
            f"times of shape {tuple(times.shape)} for {samples} samples of {tuple(lengths)} "
            "tokens; give one time a sample or one a token"
        )
    if guidance is None or not packed or len(times) == samples:
        return times, None if guidance is None else guidance[:, None]
    counts = torch.tensor(lengths, device=guidance.device)
    return times, guidance.repeat_interleave(counts)[None]


def lay_out_texts(
    config: TransformerConfig, text: Texts, mask: Masks
) -> tuple[list[Tensor], Tensor | None]:
    """Return the embeddings of each encoder, and which of all their tokens are seen, (B, L).

    Raises:
        ValueError: there are more or fewer encoders, or masks, than the config names.
    """
    texts = [text] if isinstance(text, Tensor) else list(text)
    masks = [mask] * len(texts) if mask is None or isinstance(mask, Tensor) else list(mask)
    expected = 1 + len(config.more_text_dims)
    if (len(texts), len(masks)) != (expected, expected):
        raise ValueError(
            f"{len(texts)} texts and {len(masks)} masks; this model takes those of {expected} "
            f"text encoders: text_dim and more_text_dims"
        )
    if config.text_padding == "zeros":
        return [zero_padded(x, m) for x, m in zip(texts, masks, strict=True)], None
    if all(m is None for m in masks):
        return texts, None
    seen = [
        x.new_ones(x.shape[:2], dtype=torch.bool) if m is None else m
        for x, m in zip(texts, masks, strict=True)
    ]
    return texts, torch.cat(seen, dim=1)


def zero_padded(text: Tensor, mask: Tensor | None) -> Tensor:
    """Return embeddings (B, L, text_dim) with zeros where the mask (B, L) is False."""
    return text if mask is None else text * mask[..., None]


def check_count(captions: int, samples: int) -> None:
    """Refuse more or fewer captions than samples.

    Raises:
        ValueError: with both numbers.
    """
    if captions != samples:
        raise ValueError(f"{captions} captions for {samples} samples; give one for each")


def check_given(config: object, **inputs: object) -> None:
    """Refuse inputs that a model does not take, and the lack of those that it does.

    Raises:
        ValueError: with the name of the field of the config that decides it.
    """
    for name, value in inputs.items():
        field = DECIDED_BY[name]
        setting = getattr(config, field)
        if (value is None) == bool(setting):
            raise ValueError(
                f"{name} is {'missing' if value is None else 'given'} and {field} is {setting!r}; "
                f"pass {name} to exactly the models that take it"
            )
