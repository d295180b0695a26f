"""Captions of different lengths as one tensor, and captions left out for guidance.

Legend: B captions, L tokens, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """Text embeddings of a batch: what a transformer is conditioned on."""

    embeddings: Tensor
    """(B, L, D); zeros after a caption's last token."""

    mask: Tensor
    """(B, L) bool, True for real tokens."""

    def __len__(self) -> int:
        return len(self.embeddings)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "TextBatch":
        """Return it on another device, the embeddings in another dtype if one is given."""
        return TextBatch(embeddings=self.embeddings.to(device, dtype), mask=self.mask.to(device))

    def __getitem__(self, rows: Tensor | slice) -> "TextBatch":
        """Return some of the captions."""
        return TextBatch(embeddings=self.embeddings[rows], mask=self.mask[rows])


def pad_text(captions: Sequence[Tensor], length: int) -> TextBatch:
    """Lay captions (L_i, D) into one batch of `length` tokens.

    Raises:
        ValueError: a caption is longer than `length`.
    """
    longest = max(len(caption) for caption in captions)
    if longest > length:
        raise ValueError(
            f"a caption has {longest} tokens; the batch takes {length}: raise max_tokens"
        )
    embeddings = captions[0].new_zeros(len(captions), length, captions[0].shape[-1])
    mask = torch.zeros(len(captions), length, dtype=torch.bool, device=embeddings.device)
    for row, caption in enumerate(captions):
        embeddings[row, : len(caption)] = caption
        mask[row, : len(caption)] = True
    return TextBatch(embeddings=embeddings, mask=mask)


def drop_captions(text: TextBatch, empty: TextBatch, dropped: Tensor) -> TextBatch:
    """Return the batch with the empty caption in place of those marked in `dropped`, (B,) bool.

    Classifier-free guidance needs a model that has seen both (Ho & Salimans 2022, arXiv
    2207.12598).

    Args:
        text: the captions.
        empty: the empty caption, a batch of one of the same length.
        dropped: which captions to leave out.
    """
    return TextBatch(
        embeddings=torch.where(dropped[:, None, None], empty.embeddings, text.embeddings),
        mask=torch.where(dropped[:, None], empty.mask, text.mask),
    )


def join(*batches: TextBatch) -> TextBatch:
    """Return several batches of one length as one."""
    return TextBatch(
        embeddings=torch.cat([batch.embeddings for batch in batches]),
        mask=torch.cat([batch.mask for batch in batches]),
    )
