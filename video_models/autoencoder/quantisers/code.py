"""What a quantiser says about a clip, and what all quantisers share.

Legend: B batch, T H W positions, D numbers in a code, K codes, N latents.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Reduce = Callable[[Tensor], None]
"""Sums a tensor over all ranks, in place."""


def alone(tensor: Tensor) -> None:
    """Leave a tensor as it is: the sum over one rank."""


@dataclass(frozen=True)
class Quantised:
    """The codes of a batch of clips."""

    latents: Tensor
    """What the decoder reads, (B, D, T, H, W): the codes, with the gradient passed straight
    through to the encoder's latents."""

    indices: Tensor
    """Number of each code, (B, T, H, W), int64 in [0, codebook_size)."""

    codebook_size: int
    """Codes that an index can name."""

    terms: Mapping[str, Tensor]
    """Penalties by name, each (B,)."""

    def penalties(self) -> dict[str, Tensor]:
        """Return what training may charge for the code of a clip, summed over its latents, (B,)."""
        return dict(self.terms)

    def bits(self) -> Tensor:
        """Return how many bits the code of a clip takes, each code being as likely, (B,)."""
        tokens = self.indices[0].numel()
        bits = tokens * math.log2(self.codebook_size)
        return torch.full((self.indices.shape[0],), bits, device=self.indices.device)


class Quantiser(nn.Module):
    """What all three kinds share: a count of the codes that training used.

    While training with gradients, each forward pass adds to the count; `update` ends it once an
    optimiser step.
    """

    seen: Tensor

    def __init__(self, codebook_size: int):
        super().__init__()
        self.codebook_size = codebook_size
        counts = torch.zeros(codebook_size, dtype=torch.int64)
        self.register_buffer("seen", counts, persistent=False)

    def forward(self, latents: Tensor) -> Quantised:
        """Return the codes of latents (B, D, T, H, W)."""
        raise NotImplementedError

    def codes(self, indices: Tensor) -> Tensor:
        """Return the codes (B, D, T, H, W), float32, of indices (B, T, H, W)."""
        raise NotImplementedError

    def update(self, reduce: Reduce = alone) -> dict[str, float]:
        """Forget what was counted and return how the codebook was used, as `codebook_use` does.

        Collective: every rank calls it once an optimiser step.

        Args:
            reduce: sums a tensor over all ranks, in place.
        """
        return codebook_use(self.take_counts(reduce))

    def take_counts(self, reduce: Reduce) -> Tensor:
        """Return the uses of each code over all ranks, (K,), and start to count anew."""
        counts = self.seen.clone()
        self.seen.zero_()
        reduce(counts)
        return counts

    @property
    def counting(self) -> bool:
        """Whether a forward pass counts: in training, where it can lead to an update."""
        return self.training and torch.is_grad_enabled()

    def count(self, indices: Tensor) -> None:
        """Add to the uses of each code, if training."""
        if self.counting:
            self.seen += torch.bincount(indices.flatten(), minlength=self.codebook_size)


def codebook_use(counts: Tensor) -> dict[str, float]:
    """Return the share of the codes that were used, and the perplexity of their use.

    Perplexity is the number of codes that, used evenly, would carry as much information:
    exp(-sum p ln p), 1 to K; 0 where nothing was counted.

    Args:
        counts: uses of each code, (K,).
    """
    used = counts[counts > 0].double()
    if not len(used):
        return {"usage": 0.0, "perplexity": 0.0}
    shares = used / used.sum()
    entropy = -(shares * shares.log()).sum()
    return {"usage": len(used) / len(counts), "perplexity": float(entropy.exp())}


def straight_through(code: Tensor, latents: Tensor) -> Tensor:
    """Return exactly `code`, with the gradient of `latents` (Bengio 2013, arXiv 1308.3432)."""
    return code.detach() + (latents - latents.detach())


def numbers_last(latents: Tensor) -> Tensor:
    """Return latents (B, D, T, H, W) as (B, T, H, W, D), float32."""
    return latents.movedim(1, -1).float()


def numbers_second(codes: Tensor) -> Tensor:
    """Undo the order of `numbers_last`."""
    return codes.movedim(-1, 1)
