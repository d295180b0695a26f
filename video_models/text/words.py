"""A text encoder with nothing to download: every word has a fixed vector, made from its hash.

Two captions differ in exactly the tokens in which their words differ, which is all that a small
world with a small vocabulary needs. The position of a word is added as a sinusoid, so that the
order of words can be told from the embeddings alone.

Legend: L tokens, D width.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from video_models.layers.embeddings import sinusoid

VERSION = 1
"""To be raised by any change that changes an embedding."""

END = "</s>"
"""The token after the last word; the empty caption is this token alone."""

POSITION_WEIGHT = 0.5
"""Size of the position's sinusoid beside a word's vector, whose entries have unit variance."""


class WordEncoder:
    """Frozen word-hash vectors plus positions."""

    def __init__(self, *, dim: int, seed: int, max_tokens: int, name: str = "words"):
        self.name = name
        self.dim = dim
        self.seed = seed
        self.max_tokens = max_tokens

    @property
    def identity(self) -> dict[str, Any]:
        """The numbers that decide every embedding."""
        return {
            "name": "words",
            "version": VERSION,
            "dim": self.dim,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }

    def encode(self, captions: Sequence[str]) -> list[Tensor]:
        """Return one (L, D) tensor a caption: its words and an end token."""
        return [self._encode(caption) for caption in captions]

    def _encode(self, caption: str) -> Tensor:
        words = [*split_words(caption)[: self.max_tokens - 1], END]
        vectors = torch.stack([word_vector(word, dim=self.dim, seed=self.seed) for word in words])
        positions = torch.arange(len(words), dtype=torch.float32)
        return vectors + POSITION_WEIGHT * sinusoid(positions, self.dim)


def split_words(caption: str) -> list[str]:
    """Return the words of a caption, lower case, punctuation as words of its own."""
    return re.findall(r"\w+|[^\w\s]", caption.lower())


def word_vector(word: str, *, dim: int, seed: int) -> Tensor:
    """Return `dim` numbers of mean 0 and variance 1 that depend on the word and the seed alone.

    They are uniform on (-sqrt 3, sqrt 3), straight from SHAKE-256, so that no generator of any
    library or version is involved.
    """
    data = hashlib.shake_256(f"{seed}\0{word}".encode()).digest(4 * dim)
    draws = [int.from_bytes(data[i : i + 4], "little") for i in range(0, 4 * dim, 4)]
    uniform = (torch.tensor(draws, dtype=torch.float64) + 0.5) / 2**32
    return ((2 * uniform - 1) * 3**0.5).float()
