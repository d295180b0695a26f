"""Samples of different shapes in one sequence of video and text, without padding.

The video tokens of all samples stand one sample after the other, their text tokens behind them in
the same order: two stretches of tokens a sample. Each attends to the two of its own sample alone;
on a GPU that is one call of a kernel, as in `packing.py`, where no text is hidden.

Legend: N samples, S_i video tokens of a sample, L text tokens of each, S of all samples together,
H heads, d channels of a head, D width.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from video_models.layers.attention import AttentionFunction
from video_models.layers.joining import joined
from video_models.transformer.packing import among_themselves, by_sample


def stretches_of(lengths: Sequence[int], text: int) -> tuple[int, ...]:
    """Return the tokens of each stretch: (S_1, ..., S_N, L, ..., L)."""
    return (*lengths, *[text] * len(lengths))


def over_stretches(
    function: Callable[..., Tensor],
    tokens: Sequence[Tensor],
    parts: Sequence[Tensor],
    stretches: Sequence[int],
) -> Tensor:
    """Return `function(*tokens, *parts)`, both stretches of a sample with its own parts.

    Args:
        function: of tokens (B, S + L, D) and parts (B, 1 or S + L, D).
        tokens: (B, S + L, D) each.
        parts: like those of `function`; of packed samples, (1, S + N L, D), also (N, 1, D).
        stretches: how long they are.
    """
    if len(parts[0]) == len(tokens[0]):
        return function(*tokens, *parts)
    return by_sample(function, tokens, [torch.cat((part, part)) for part in parts], stretches)


def among_samples(
    kernel: AttentionFunction, lengths: Sequence[int], text: int
) -> AttentionFunction:
    """Return the kernel of attention inside each sample, video and text together.

    Args:
        kernel: of one sample.
        lengths: video tokens of each.
        text: L.
    """
    if len(lengths) == 1:
        return kernel
    stretches, whole = stretches_of(lengths, text), [S + text for S in lengths]
    unmasked = among_themselves(kernel, tuple((size, 1, 1) for size in whole), None)

    def attend_samples(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        queries, keys, values = (_samples(x, stretches) for x in (q, k, v))
        if mask is None:
            out = unmasked(torch.cat(queries, 1), torch.cat(keys, 1), torch.cat(values, 1), None)
            return _by_stretch(torch.split(out, whole, dim=1), lengths)
        each = zip(queries, keys, values, _samples(mask, stretches), strict=True)
        return _by_stretch([kernel(q, k, v, seen) for q, k, v, seen in each], lengths)

    return attend_samples


def latest(times: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the largest time of each sample, (B, 1) or, packed, (N, 1).

    Args:
        times: (B, 1) or (B, S); of packed samples (N, 1) or (1, S).
        lengths: video tokens of each packed sample, or of one of the batch.
    """
    if times.shape[1] == 1:
        return times
    parts = [times] if len(lengths) == 1 else torch.split(times, list(lengths), dim=1)
    return joined([part.amax(dim=1, keepdim=True) for part in parts], 0)


def _samples(x: Tensor, stretches: Sequence[int]) -> list[Tensor]:
    """Return the tokens of each sample, (1, S_i + L, ...), of (1, S + N L, ...)."""
    parts = torch.split(x, list(stretches), dim=1)
    half = len(parts) // 2
    return [torch.cat(pair, dim=1) for pair in zip(parts[:half], parts[half:], strict=True)]


def _by_stretch(samples: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
    """Undo `_samples`."""
    pairs = zip(samples, lengths, strict=True)
    videos, texts = zip(*((x[:, :S], x[:, S:]) for x, S in pairs), strict=True)
    return torch.cat((*videos, *texts), dim=1)
