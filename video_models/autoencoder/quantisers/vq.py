"""Vector quantisation: each latent is replaced by the nearest of the learned codes.

van den Oord et al. 2017, arXiv 1711.00937. The codes are moving averages of the latents that chose
them (appendix A.1), so the only gradient is the encoder's: straight through the codes, and from the
commitment. They start by k-means over the first batch, and a code that hardly any latent chooses
starts again at a latent of the batch.

Everything is made from sums over all ranks, so all ranks hold the same codebook and it does not
matter how a batch is split among them.

Legend: B batch, T H W positions, N = B T H W latents, D numbers in a code, K codes.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from video_models.autoencoder.quantiser_config import QuantiserConfig
from video_models.autoencoder.quantisers.code import (
    Quantised,
    Quantiser,
    Reduce,
    alone,
    codebook_use,
    numbers_last,
    numbers_second,
    straight_through,
)
from video_models.autoencoder.quantisers.draw import draw_latents, tally

DISTANCES_AT_ONCE = 1 << 24
"""Most distances between latents and codes that are held at once."""

START_ROUNDS = 10
"""Rounds of k-means over the first batch."""


class VectorQuantiser(Quantiser):
    """Replaces each latent by the nearest code of a codebook that follows the latents.

    Attributes:
        codebook: the codes, (K, D), float32 whatever the network computes in.
        uses: moving average of the uses of each code, (K,).
        sums: moving average of the sum of the latents that chose each code, (K, D).
        updates: updates so far.
    """

    codebook: Tensor
    uses: Tensor
    sums: Tensor
    updates: Tensor

    def __init__(self, config: QuantiserConfig, dim: int):
        super().__init__(config.codebook_size)
        self.config = config
        generator = torch.Generator().manual_seed(0)  # the same on every rank
        codebook = torch.randn(config.codebook_size, dim, generator=generator)
        self.register_buffer("codebook", F.normalize(codebook, dim=1))
        self.register_buffer("uses", torch.zeros(config.codebook_size))
        self.register_buffer("sums", torch.zeros(config.codebook_size, dim))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self._batch: list[tuple[Tensor, Tensor]] = []

    def forward(self, latents: Tensor) -> Quantised:
        """Return the codes of latents (B, D, T, H, W) and `commitment`, |z - code|^2."""
        z = numbers_last(latents)  # (B, T, H, W, D)
        z = F.normalize(z, dim=-1) if self.config.normalised else z
        rows = z.detach().flatten(0, -2)  # (N, D)
        chosen = nearest(rows, self.codebook)
        if self.counting:
            self._batch.append((rows, chosen))
        indices = chosen.view(z.shape[:-1])
        self.count(indices)
        codes = self.codebook[indices]
        terms = {"commitment": (z - codes).square().flatten(1).sum(dim=1)}
        passed = numbers_second(straight_through(codes, z)).to(latents)
        return Quantised(passed, indices, self.codebook_size, terms)

    def codes(self, indices: Tensor) -> Tensor:
        """Return the codes (B, D, T, H, W), float32, of indices (B, T, H, W)."""
        return numbers_second(self.codebook[indices])

    @torch.no_grad()
    def update(self, reduce: Reduce = alone) -> dict[str, float]:
        """Move the codes towards the latents that chose them; restart those that are not chosen.

        Latents that are not finite leave the codebook as it is.

        Args:
            reduce: sums a tensor over all ranks, in place.
        """
        counts = self.take_counts(reduce)
        rows, chosen = self._take_batch()
        sums = tally(rows, chosen, self.codebook_size)
        reduce(sums)
        if counts.any() and sums.isfinite().all():
            if self.updates == 0:
                self._start(rows, reduce)
            else:
                self._follow(counts, sums)
                self._restart(rows, reduce)
            self.updates += 1
        return codebook_use(counts)

    def _take_batch(self) -> tuple[Tensor, Tensor]:
        """Return the latents since the last update and the codes that they chose, and forget."""
        none = (self.codebook[:0], self.codebook.new_zeros(0, dtype=torch.int64))
        rows, chosen = zip(none, *self._batch, strict=True)
        self._batch = []
        return torch.cat(rows), torch.cat(chosen)

    def _start(self, rows: Tensor, reduce: Reduce) -> None:
        """Begin with k-means (Lloyd 1982) from drawn latents."""
        drawn = draw_latents(rows, self.codebook_size, step=0, reduce=reduce)
        self.codebook[: len(drawn)] = drawn
        marked = torch.cat((rows, rows.new_ones(len(rows), 1)), dim=1)  # the ones count
        for _ in range(START_ROUNDS):
            together = tally(marked, nearest(rows, self.codebook), self.codebook_size)
            reduce(together)
            sums, counts = together[:, :-1], together[:, -1]
            means = self._on_sphere(sums / counts.clamp_min(1)[:, None])
            self.codebook.copy_(torch.where(counts[:, None] > 0, means, self.codebook))
        self.uses.copy_(counts)
        self.sums.copy_(self.codebook * self._smoothed()[:, None])

    def _follow(self, counts: Tensor, sums: Tensor) -> None:
        """Average uses and sums; equations 6 to 8 of arXiv 1711.00937, smoothed as by Laplace."""
        fresh = 1 - self.config.decay
        self.uses.lerp_(counts.to(self.uses), fresh)
        self.sums.lerp_(sums, fresh)
        self.codebook.copy_(self._on_sphere(self.sums / self._smoothed()[:, None]))

    def _restart(self, rows: Tensor, reduce: Reduce) -> None:
        """Put codes that are hardly used where latents are, as if they were used evenly."""
        even = self.uses.mean()
        dead = (self.uses < self.config.restart_below * even).nonzero()[:, 0]
        if len(dead):
            drawn = draw_latents(rows, len(dead), step=int(self.updates), reduce=reduce)
            dead = dead[: len(drawn)]
            self.codebook[dead] = drawn
            self.uses[dead] = even
            self.sums[dead] = drawn * self._smoothed()[dead, None]

    def _smoothed(self) -> Tensor:
        """Return the moving uses with `smoothing` more for each code, of the same total, (K,)."""
        total, free = self.uses.sum(), self.config.smoothing
        return (self.uses + free) / (total + len(self.uses) * free) * total

    def _on_sphere(self, codes: Tensor) -> Tensor:
        return F.normalize(codes, dim=1) if self.config.normalised else codes

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move the averages with the network, but keep them in float32.

        In bfloat16 an average that changes by a hundredth of itself would not change at all.
        """

        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        return super()._apply(moved, recurse)  # type: ignore[no-untyped-call]  # torch has none


@torch.no_grad()
def nearest(rows: Tensor, codebook: Tensor) -> Tensor:
    """Return the index of the code nearest to each latent, (N,).

    Args:
        rows: latents, (N, D).
        codebook: codes, (K, D).
    """
    half_squares = codebook.square().sum(dim=1) / 2
    parts = rows.chunk(1 + rows.shape[0] * codebook.shape[0] // DISTANCES_AT_ONCE)
    return torch.cat([(half_squares - part @ codebook.T).argmin(dim=1) for part in parts])
