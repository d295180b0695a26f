"""A transformer as samplers call it: what it makes of a text is computed once, not at each step.

network = PreparedTransformer(model)
velocity = guided(network, text, empty, scale)  # one preparation, any number of steps
"""

from typing import Any, Protocol

from torch import Tensor

from video_models.transformer.context import Prepared


class Preparing(Protocol):
    """A transformer that can be told of a text before it is called."""

    def prepare(self, text: Tensor, *, text_mask: Tensor | None = None) -> Any:
        """Return what `__call__` takes in place of the text."""

    def __call__(self, latents: Tensor, t: Tensor, text: Any, **beside: Any) -> Any:
        """Return the velocity."""


class PreparedTransformer:
    """A transformer that remembers the texts that it was called with.

    A text is known by its tensor, which must not be written to meanwhile; nor may the weights.

    Args:
        model: the transformer, in the precision and on the device that it samples in.
    """

    def __init__(self, model: Preparing) -> None:
        self._model = model
        self._known: list[tuple[Tensor, Tensor | None, Prepared]] = []

    def __call__(
        self, latents: Tensor, t: Tensor, text: Tensor, *, text_mask: Tensor | None, **beside: Any
    ) -> Any:
        """Return what the transformer does, with the same arguments."""
        return self._model(latents, t, self._prepared(text, text_mask), **beside)

    def _prepared(self, text: Tensor, mask: Tensor | None) -> Any:
        for known, its_mask, prepared in self._known:
            if known is text and its_mask is mask:
                return prepared
        self._known.append((text, mask, self._model.prepare(text, text_mask=mask)))
        return self._known[-1][-1]
