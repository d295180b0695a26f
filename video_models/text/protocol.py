"""What every text encoder offers.

Legend: L tokens of one caption, D width of an embedding.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor


class TextEncoder(Protocol):
    """A frozen function from captions to token embeddings."""

    @property
    def name(self) -> str:
        """A short name, fit for a folder or a table."""

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values that differ whenever the embeddings do."""

    @property
    def dim(self) -> int:
        """The width D."""

    @property
    def max_tokens(self) -> int:
        """The most tokens that one caption gives."""

    def encode(self, captions: Sequence[str]) -> list[Tensor]:
        """Return one (L, D) float32 tensor a caption, 1 <= L <= max_tokens, without padding.

        The empty caption is legal: it is what guidance steers away from.
        """
