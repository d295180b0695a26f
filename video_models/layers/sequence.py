"""How the tokens of one sample may lie on several devices, as a transformer sees it.

A transformer splits its tokens behind the patches, computes each token where it is, lets
self-attention bring together what it needs, and joins the tokens before they become latents. Here
nothing is split; whoever knows other devices passes something with the same three methods.

Legend: B batch, S tokens, H heads, d channels of a head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor, nn

from video_models.layers.attention import AttentionFunction


class Placement(Protocol):
    """Where the tokens of a sample are."""

    def split(self, x: Tensor, dim: int) -> Tensor:
        """Return the part of x that is here, of what everyone has whole along `dim`."""
        ...

    def join(self, x: Tensor, dim: int) -> Tensor:
        """Return x whole again, on everyone; undoes `split`."""
        ...

    def attend(self, kernel: AttentionFunction, tokens: int) -> AttentionFunction:
        """Return a kernel of self-attention that takes and gives the tokens that are here.

        Args:
            kernel: of all tokens (B, S, H, d); it may be given some of the heads only.
            tokens: S.
        """
        ...


class Whole:
    """All tokens are here."""

    def split(self, x: Tensor, dim: int) -> Tensor:
        """Return x."""
        return x

    def join(self, x: Tensor, dim: int) -> Tensor:
        """Return x."""
        return x

    def attend(self, kernel: AttentionFunction, tokens: int) -> AttentionFunction:
        """Return the kernel."""
        return kernel


WHOLE = Whole()
"""One device has it all."""


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """Let a transformer compute all tokens of a sample here inside the block, whoever trains it."""
    placement = getattr(module, "placement", WHOLE)
    module.placement = WHOLE  # type: ignore[assignment]  # no submodule
    try:
        yield
    finally:
        module.placement = placement  # type: ignore[assignment]
