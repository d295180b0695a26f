"""Captions of different lengths as one tensor, and captions left out for guidance.

Legend: B captions, L tokens, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """Text embeddings of a batch: what a transformer is conditioned on."""

    embeddings: Tensor
    """(B, L, D); zeros after a caption's last token."""

    mask: Tensor
    """(B, L) bool, True for real tokens."""

    more: tuple["TextBatch", ...] = ()
    """The same captions as further text encoders read them, in the order of the model's."""

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Slots of one caption, L of each encoder."""
        return (self.mask.shape[1], *(each.mask.shape[1] for each in self.more))

    @property
    def inputs(self) -> tuple[Any, Any]:
        """Embeddings and masks as a transformer takes them: lists of those of several encoders."""
        if not self.more:
            return self.embeddings, self.mask
        each = (self, *self.more)
        return [text.embeddings for text in each], [text.mask for text in each]

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "TextBatch":
        """Return it on another device, the embeddings in another dtype if one is given."""
        return TextBatch(
            embeddings=self.embeddings.to(device, dtype),
            mask=self.mask.to(device),
            more=tuple(each.to(device, dtype) for each in self.more),
        )

    def __getitem__(self, rows: Tensor | slice) -> "TextBatch":
        """Return some of the captions."""
        return TextBatch(
            embeddings=self.embeddings[rows],
            mask=self.mask[rows],
            more=tuple(each[rows] for each in self.more),
        )


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


def together(texts: Sequence[TextBatch]) -> TextBatch:
    """Return the same captions, as several text encoders read them, as one batch."""
    first, *more = texts
    return TextBatch(embeddings=first.embeddings, mask=first.mask, more=tuple(more))


def drop_captions(text: TextBatch, empty: TextBatch, dropped: Tensor) -> TextBatch:
    """Return the batch with the empty caption in place of those marked in `dropped`, (B,) bool.

    Classifier-free guidance needs a model that has seen both (Ho & Salimans 2022, arXiv
    2207.12598). A caption is left out for all text encoders at once.

    Args:
        text: the captions.
        empty: the empty caption, a batch of one of the same length.
        dropped: which captions to leave out.
    """

    def drop(one: TextBatch, none: TextBatch) -> TextBatch:
        return TextBatch(
            embeddings=torch.where(dropped[:, None, None], none.embeddings, one.embeddings),
            mask=torch.where(dropped[:, None], none.mask, one.mask),
        )

    return _by_encoder(drop, text, empty)


def join(*batches: TextBatch) -> TextBatch:
    """Return several batches of one length as one."""

    def lay(*parts: TextBatch) -> TextBatch:
        return TextBatch(
            embeddings=torch.cat([part.embeddings for part in parts]),
            mask=torch.cat([part.mask for part in parts]),
        )

    return _by_encoder(lay, *batches)


def _by_encoder(function: Callable[..., TextBatch], *batches: TextBatch) -> TextBatch:
    """Apply a function to what each text encoder made of some batches."""
    each = zip(*((batch, *batch.more) for batch in batches), strict=True)
    return together([function(*texts) for texts in each])
