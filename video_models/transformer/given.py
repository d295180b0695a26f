"""What a transformer is told of a clip beside noise, time and text, bound to it as text is.

Models with condition channels take a mask and latents beside the noisy ones (Wan 2.1 and 2.2);
models without keep given latent frames clean in the noisy clip, whose tokens then have time 0
(the 5B model of Wan 2.2). Both may attend to tokens of an image besides.

    network = told(model, Given(condition=condition, image=image), patch=model.config.patch_size)
    velocity = guided(network, text, empty, scale)

Legend: B batch, C latent channels, (T, H, W) latent frames, rows, columns, I image tokens, D width.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from video_models.transformer.given_frames import token_times
from video_models.transformer.spans import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """What is given of the clips of a batch."""

    condition: Tensor | None = None
    """Beside the noisy latents, (B, condition channels, T, H, W), as `given_frames` lays it out."""

    image: Tensor | None = None
    """Tokens of an image encoder, (B, I, D)."""

    clean: Tensor | None = None
    """Latents that stay in the noisy clip where frames are known, (B, C, T, H, W)."""

    known: Tensor | None = None
    """Which latent frames those are, (B, T) bool; exactly with `clean`."""

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Given":
        """Return it on another device, numbers in another dtype if one is given."""

        def moved(x: Tensor) -> Tensor:
            return x.to(device, dtype if x.is_floating_point() else None)

        return self._map(moved)

    def repeated(self, times: int) -> "Given":
        """Return it for the batch several times over, one after the other."""
        return self if times == 1 else self._map(lambda x: torch.cat([x] * times))

    def put_in(self, latents: Tensor) -> Tensor:
        """Return latents (B, C, T, H, W) with the clean ones where frames are known."""
        if self.clean is None or self.known is None:
            return latents
        return torch.where(_spread(self.known), self.clean.type_as(latents), latents)

    def times(self, t: Tensor, latents: Tensor, patch: Grid) -> Tensor:
        """Return times (B,), or one for each token, (B, S), where frames are known."""
        if self.known is None:
            return t
        grid = _grid(latents, patch)
        by_token = torch.unflatten(self.known, 1, (grid[0], patch[0])).all(dim=2)
        return token_times(t, by_token, grid)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Given":
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        changed = {name: function(x) for name, x in fields.items() if x is not None}
        return dataclasses.replace(self, **changed)


def told(network: Callable[..., Any], given: Given, *, patch: Grid) -> Callable[..., Any]:
    """Return a network that is told what is given of each clip, in every call.

    It may be called with the batch several times over, as guidance does. Where frames stay clean
    its velocity is 0.

    Args:
        network: the transformer.
        given: of a batch of B.
        patch: latent frames, rows and columns of a token.
    """
    known_sizes: dict[int, Given] = {}

    def answer(latents: Tensor, t: Tensor, text: Any, **beside: Any) -> Any:
        if len(latents) not in known_sizes:
            known_sizes[len(latents)] = given.repeated(_times(given, len(latents)))
        now = known_sizes[len(latents)]
        v = network(
            now.put_in(latents), now.times(t, latents, patch), text, **_passed(now), **beside
        )
        return v if now.known is None else v.masked_fill(_spread(now.known), 0)

    return answer


def told_each(
    network: Callable[..., Any], given: Sequence[Given], *, patch: Grid
) -> Callable[..., Any]:
    """Return the same for packed samples (C, T, H, W) of different shapes.

    Args:
        network: the transformer.
        given: of each sample, as a batch of one.
        patch: latent frames, rows and columns of a token.
    """
    parts = [_passed(each) for each in given]
    passed = {name: [part[name] for part in parts] for name in parts[0]}
    beside = {
        name: torch.cat(x) if name == "image" else [y[0] for y in x] for name, x in passed.items()
    }

    def answer(latents: Sequence[Tensor], t: Tensor, text: Any, **more: Any) -> Any:
        batches = [x[None] for x in latents]
        put = [each.put_in(x)[0] for each, x in zip(given, batches, strict=True)]
        if given[0].known is None:
            return network(put, t, text, **beside, **more)
        times = [
            each.times(time[None], x, patch)[0]
            for each, time, x in zip(given, t, batches, strict=True)
        ]
        return network(put, times, text, **beside, **more)

    return answer


def _passed(given: Given) -> dict[str, Tensor]:
    """Return what a transformer takes by name; what is None is not passed at all."""
    inputs = {"condition": given.condition, "image": given.image}
    return {name: x for name, x in inputs.items() if x is not None}


def _times(given: Given, batch: int) -> int:
    """Return how often a batch holds what is given."""
    for x in (given.condition, given.image, given.clean):
        if x is not None:
            return batch // len(x)
    return 1


def _grid(latents: Tensor, patch: Grid) -> Grid:
    F, R, Q = (n // step for n, step in zip(latents.shape[-3:], patch, strict=True))
    return F, R, Q


def _spread(known: Tensor) -> Tensor:
    return known[:, None, :, None, None]
