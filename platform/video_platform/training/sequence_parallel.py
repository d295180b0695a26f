"""Long clips over several ranks: each has a part of the tokens, and in attention of the heads.

Ulysses (Jacobs et al. 2023, arXiv 2309.14509). The ranks of a group share every sample. Outside
attention a rank computes its own tokens; an exchange of all with all gives it all tokens of some of
the heads, and another one brings the results back. Tokens need not divide evenly.

    n = config.sequence_parallel
    model.placement = open_sequence(n)    # on every rank, once there is a process group
    place = data_place(rank, world, n)    # the ranks of a group read the same samples

Every rank of a group computes the same loss. The gradient of a network's weights on a rank is n
times the part that its tokens give, so that their mean over ranks is the whole: what DeepSpeed's
mean over all ranks expects. Gradients at what goes into a network are whole on every rank.

Legend: B batch, S tokens of a sample, s those of this rank, n ranks of a group, H heads, d channels
of a head.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from video_platform.batches.loader import Place
from video_platform.errors import TrainingError

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def data_place(rank: int, world: int, size: int) -> Place:
    """Return which part of each batch a rank reads: that of its group.

    Raises:
        TrainingError: the ranks do not divide into groups of this size.
    """
    if world % size:
        raise TrainingError(
            f"{world} workers do not divide into groups of sequence_parallel={size}; "
            "change cluster.workers or training.sequence_parallel"
        )
    return Place(rank=rank // size, world=world // size, copies=size)


def open_sequence(size: int) -> "UlyssesSequence":
    """Open this rank's group of neighbouring ranks. Called on every rank alike.

    Raises:
        TrainingError: the ranks do not divide into groups of this size.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    mine = data_place(rank, world, size).rank
    groups = [dist.new_group(list(range(start, start + size))) for start in range(0, world, size)]
    return UlyssesSequence(groups[mine])


class UlyssesSequence:
    """The tokens of a sample over the ranks of a group.

    Args:
        group: the ranks that share every sample.
    """

    def __init__(self, group: Any) -> None:
        self._group = group
        self._size, self._rank = dist.get_world_size(group), dist.get_rank(group)

    def split(self, x: Tensor, dim: int) -> Tensor:
        """Return this rank's part along `dim`, which everyone has whole."""
        part: Tensor = _Split.apply(x, dim, self)  # type: ignore[no-untyped-call]
        return part

    def join(self, x: Tensor, dim: int) -> Tensor:
        """Return the parts of all ranks along `dim`."""
        whole: Tensor = _Join.apply(x, dim, self)  # type: ignore[no-untyped-call]
        return whole

    def attend(self, kernel: Kernel, tokens: int) -> Kernel:
        """Return the kernel for this rank's tokens of all heads, (B, s, H, d).

        Args:
            kernel: of all tokens and some heads, (B, S, H / n, d).
            tokens: S.
        """

        def attend_whole(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
            if q.shape[2] % self._size:
                raise TrainingError(
                    f"{q.shape[2]} heads do not divide among sequence_parallel={self._size} ranks; "
                    "take a size that divides the heads"
                )
            all_three = self._exchange(torch.cat((q, k, v)), tokens, to_heads=True)
            q, k, v = all_three.chunk(3)
            return self._exchange(kernel(q, k, v, mask), tokens, to_heads=False)

        return attend_whole

    def lengths(self, total: int) -> list[int]:
        """Return how many of so many tokens each rank has; they differ by one at most."""
        return [total * (r + 1) // self._size - total * r // self._size for r in range(self._size)]

    def gathered(self, x: Tensor, dim: int) -> Tensor:
        """Return the parts of all ranks along `dim`, without a graph."""
        counts = torch.zeros(self._size, dtype=torch.long, device=x.device)
        counts[self._rank] = x.shape[dim]
        dist.all_reduce(counts, group=self._group)
        longest = int(counts.max())
        padded = x.movedim(dim, 0)
        shape = (longest - x.shape[dim], *padded.shape[1:])
        padded = torch.cat((padded, padded.new_zeros(shape))).contiguous()
        parts = [torch.empty_like(padded) for _ in range(self._size)]
        dist.all_gather(parts, padded, group=self._group)
        kept = [part[:count] for part, count in zip(parts, counts.tolist(), strict=True)]
        return torch.cat(kept).movedim(0, dim)

    def part(self, x: Tensor, dim: int) -> Tensor:
        """Return this rank's part of x along `dim`."""
        lengths = self.lengths(x.shape[dim])
        return x.narrow(dim, sum(lengths[: self._rank]), lengths[self._rank])

    @property
    def size(self) -> int:
        """Ranks of the group."""
        return self._size

    def exchanged(self, x: Tensor, tokens: int, *, to_heads: bool) -> Tensor:
        """Turn (B, s, H, d) into (B, S, H / n, d), or back, without a graph."""
        lengths, mine = self.lengths(tokens), self.lengths(tokens)[self._rank]
        sent = x.chunk(self._size, dim=2) if to_heads else torch.split(x, lengths, dim=1)
        B, _, heads, d = sent[0].shape
        away = [part.numel() for part in sent]
        counts = lengths if to_heads else [mine] * self._size
        back = [B * n * heads * d for n in counts]
        flat = torch.cat([part.reshape(-1) for part in sent])
        out = flat.new_empty(sum(back))
        dist.all_to_all_single(out, flat, back, away, group=self._group)
        parts = [
            part.view(B, n, heads, d)
            for part, n in zip(torch.split(out, back), counts, strict=True)
        ]
        return torch.cat(parts, dim=1 if to_heads else 2)

    def _exchange(self, x: Tensor, tokens: int, *, to_heads: bool) -> Tensor:
        out: Tensor = _Exchange.apply(x, tokens, to_heads, self)  # type: ignore[no-untyped-call]
        return out


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, sequence: UlyssesSequence) -> Tensor:
        ctx.dim, ctx.sequence = dim, sequence
        return sequence.part(x, dim).contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # Each part is n times what it is alone, see `_Join`.
        return ctx.sequence.gathered(gradient, ctx.dim) / ctx.sequence.size, None, None


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, sequence: UlyssesSequence) -> Tensor:
        ctx.dim, ctx.sequence = dim, sequence
        return sequence.gathered(x, dim)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # All ranks have the same loss: the sum of their gradients here is n times this one's.
        return ctx.sequence.part(gradient, ctx.dim) * ctx.sequence.size, None, None


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, tokens: int, to_heads: bool, sequence: UlyssesSequence
    ) -> Tensor:
        ctx.tokens, ctx.to_heads, ctx.sequence = tokens, to_heads, sequence
        return sequence.exchanged(x, tokens, to_heads=to_heads)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        back = ctx.sequence.exchanged(gradient, ctx.tokens, to_heads=not ctx.to_heads)
        return back, None, None, None
