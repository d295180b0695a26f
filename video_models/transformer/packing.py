"""Samples of different shapes in one sequence, without padding: each attends to itself alone.

Krell et al. 2021, arXiv 2107.02027; for pictures NaViT (Dehghani et al. 2023, arXiv 2307.06304).
Attention is block-diagonal: one call of the kernel a sample, or one of PyTorch's kernel for
sequences of varying length on a GPU, where whole samples attend by the default kernel in 16 bits.

Legend: N samples, S tokens of all of them together, L text tokens, H heads, d channels of a head,
D width.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from video_models.layers.attention import AttentionFunction, attend
from video_models.transformer.spans import Grid, Span
from video_models.transformer.windows import within


def lengths_of(grids: Sequence[Grid]) -> tuple[int, ...]:
    """Return the tokens of each sample."""
    return tuple(math.prod(grid) for grid in grids)


def by_sample(
    function: Callable[..., Tensor],
    tokens: Sequence[Tensor],
    parts: Sequence[Tensor],
    lengths: Sequence[int],
) -> Tensor:
    """Return `function(*tokens, *parts)`, each sample with its own parts.

    Args:
        function: of tokens (B, S, D) and parts (B, 1 or S, D).
        tokens: (B, S, D) each.
        parts: (B, 1 or S, D) each; of a packed sequence, (1, S, D), also (N, 1, D).
        lengths: tokens of each sample of a packed sequence.
    """
    if len(parts[0]) == len(tokens[0]):
        return function(*tokens, *parts)
    apart = zip(*(_split(x, lengths) for x in tokens), strict=True)
    return torch.cat(
        [function(*sample, *(part[i : i + 1] for part in parts)) for i, sample in enumerate(apart)],
        dim=1,
    )


def among_themselves(
    kernel: AttentionFunction, grids: tuple[Grid, ...], span: Span | None
) -> AttentionFunction:
    """Return the kernel of self-attention: inside each sample, and there inside each window."""
    if len(grids) == 1:
        return within(kernel, grids[0], span)
    lengths = lengths_of(grids)

    def attend_samples(q: Tensor, k: Tensor, v: Tensor, _mask: Tensor | None = None) -> Tensor:
        if span is None and _runs_varlen(kernel, q):
            return _attend_varlen(q, k[0], v[0], lengths, lengths)
        samples = zip(grids, *(_split(x, lengths) for x in (q, k, v)), strict=True)
        parts = [within(kernel, g, span)(q, k, v, None) for g, q, k, v in samples]
        return torch.cat(parts, dim=1)

    return attend_samples


def to_own_memory(kernel: AttentionFunction, lengths: Sequence[int]) -> AttentionFunction:
    """Return the kernel of attention from each sample to its own row of a batch of keys."""
    if len(lengths) == 1:
        return kernel

    def attend_rows(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        N, L, *_ = k.shape  # (N, L, H, d)
        if _runs_varlen(kernel, q) and mask is None:
            return _attend_varlen(q, k.flatten(0, 1), v.flatten(0, 1), lengths, (L,) * N)
        parts = [
            kernel(own, k[i : i + 1], v[i : i + 1], None if mask is None else mask[i : i + 1])
            for i, own in enumerate(_split(q, lengths))
        ]
        return torch.cat(parts, dim=1)

    return attend_rows


def _runs_varlen(kernel: AttentionFunction, q: Tensor) -> bool:
    """Say whether PyTorch's kernel for varying lengths computes what `kernel` does, and runs."""
    if kernel is not attend or not q.is_cuda or q.dtype not in (torch.float16, torch.bfloat16):
        return False
    return torch.cuda.get_device_capability(q.device) >= (8, 0)


def _attend_varlen(
    q: Tensor, k: Tensor, v: Tensor, queries: Sequence[int], keys: Sequence[int]
) -> Tensor:
    """Attend on a GPU from stretches of q (1, S, H, d) to stretches of k and v, (L, H, d)."""
    from torch.nn.attention.varlen import varlen_attn

    out: Tensor = varlen_attn(  # type: ignore[assignment]  # a pair only if asked for
        q[0].contiguous(),
        k.contiguous(),
        v.contiguous(),
        _starts(queries, q.device),
        _starts(keys, q.device),
        max(queries),
        max(keys),
    )
    return out[None]


def _split(x: Tensor, lengths: Sequence[int]) -> Sequence[Tensor]:
    """Return the samples of a packed sequence, (1, S_i, ...) each."""
    return torch.split(x, list(lengths), dim=1)


def _starts(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Return where stretches start, and the end of the last, (N + 1,) int32."""
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)
