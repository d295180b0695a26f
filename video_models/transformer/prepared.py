"""A transformer as samplers call it: what it makes of a text is computed once, not at each step.

network = PreparedTransformer(model)
velocity = guided(network, text, empty, scale)  # one preparation, any number of steps
"""

from typing import Any, Protocol

from torch import Tensor


class Preparing(Protocol):
    """A transformer that can be told of a text before it is called."""

    def prepare(self, text: Any, *, text_mask: Any = None) -> Any:
        """Return what `__call__` takes in place of the text; some take an image beside."""

    def __call__(self, latents: Tensor, t: Tensor, text: Any, **beside: Any) -> Any:
        """Return the velocity."""


class PreparedTransformer:
    """A transformer that remembers the texts and images that it was called with.

    They are known by their tensors, or the list of them, which must not be written to meanwhile;
    nor may the weights.

    Args:
        model: the transformer, in the precision and on the device that it samples in.
    """

    def __init__(self, model: Preparing) -> None:
        self._model = model
        self._known: list[tuple[Any, Any, Tensor | None, Any]] = []

    def __call__(
        self,
        latents: Tensor,
        t: Tensor,
        text: Any,
        *,
        text_mask: Any,
        image: Tensor | None = None,
        **beside: Any,
    ) -> Any:
        """Return what the transformer does, with the same arguments."""
        return self._model(latents, t, self._prepared(text, text_mask, image), **beside)

    def _prepared(self, text: Any, mask: Any, image: Tensor | None) -> Any:
        for *known, prepared in self._known:
            if all(a is b for a, b in zip(known, (text, mask, image), strict=True)):
                return prepared
        beside = {} if image is None else {"image": image}
        prepared = self._model.prepare(text, text_mask=mask, **beside)
        self._known.append((text, mask, image, prepared))
        return prepared
