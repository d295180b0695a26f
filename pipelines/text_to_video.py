"""A prompt in, a clip out.

    model = TextToVideo.open("outputs/model")
    clip = model("a red circle moves right", seed=1)

    prompt -> text encoder -> transformer, from noise to latents in steps -> autoencoder -> frames

Each clip's noise comes from its own seed on the CPU, so neither the device nor the clips beside it
in a batch change it.

Legend: B clips, C latent channels, (T, H, W) latent frames, rows, columns.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.clip import Clip, prompt_hash
from pipelines.given import nothing_given
from pipelines.model_folder import ModelCard, ModelFolder
from pipelines.pixels import to_frames
from pipelines.request import Batch, Request, RequestError, Wish, check_frames, settle
from video_models.autoencoder.model import Autoencoder
from video_models.diffusion.guidance import VelocityFunction, conditioned
from video_models.diffusion.guidance_rules import steered
from video_models.diffusion.noise import initial_noise
from video_models.diffusion.samplers import SAMPLERS
from video_models.diffusion.stochastic import noise_of
from video_models.diffusion.timesteps import sampling_grid
from video_models.text.batch import TextBatch, pad_text, together
from video_models.text.encoder import open_text_encoder
from video_models.text.protocol import TextEncoder
from video_models.transformer.family import AnyTransformer
from video_models.transformer.given import Given, told
from video_models.transformer.prepared import PreparedTransformer
from video_platform.errors import ConfigError

PIXELS_AT_ONCE = 1 << 24
"""Most pixels, over all frames, that are decoded in one go."""

OnStep = Callable[[int, int], None]
"""Told after every step: how many are done, and of how many."""


class TextToVideo:
    """A model that is ready to generate.

    Attributes:
        card: what the model folder says about the model.
    """

    def __init__(
        self,
        card: ModelCard,
        *,
        autoencoder: Autoencoder,
        transformer: AnyTransformer,
        text_encoder: TextEncoder,
        more_text_encoders: Sequence[TextEncoder] = (),
        identity: str = "",
    ) -> None:
        self.card = card
        self.autoencoder = autoencoder.eval()
        self.transformer = transformer.eval()
        self.text_encoder = text_encoder
        self.text_encoders = [text_encoder, *more_text_encoders]
        self.identity = identity
        self._check_text()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> "TextToVideo":
        """Open a model folder.

        Args:
            folder: where the model is.
            device: where to compute; None takes a GPU if there is one.
            dtype: of the transformer; None is bfloat16 on a GPU and float32 on the CPU. The
                autoencoder stays in float32.

        Raises:
            ConfigError: it is not a model folder, or its parts do not belong together.
        """
        opened = ModelFolder.open(folder)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = dtype or (torch.bfloat16 if device.startswith("cuda") else torch.float32)
        try:
            text_encoder, *more = [open_text_encoder(each) for each in opened.card.texts]
        except (OSError, ValueError) as error:
            raise ConfigError(f"the text encoder of {str(folder)!r}: {error}") from None
        return cls(
            opened.card,
            autoencoder=opened.autoencoder().to(device),
            transformer=opened.transformer().to(device, dtype),
            text_encoder=text_encoder,
            more_text_encoders=more,
            identity=opened.identity,
        )

    @overload
    def __call__(
        self,
        prompt: str,
        *,
        seed: int | Sequence[int] = 0,
        negative_prompt: str = "",
        on_step: OnStep | None = None,
        **wish: Unpack[Wish],
    ) -> Clip: ...
    @overload
    def __call__(
        self,
        prompt: list[str] | tuple[str, ...],
        *,
        seed: int | Sequence[int] = 0,
        negative_prompt: str = "",
        on_step: OnStep | None = None,
        **wish: Unpack[Wish],
    ) -> list[Clip]: ...
    def __call__(
        self,
        prompt: str | list[str] | tuple[str, ...],
        *,
        seed: int | Sequence[int] = 0,
        negative_prompt: str = "",
        on_step: OnStep | None = None,
        **wish: Unpack[Wish],
    ) -> Clip | list[Clip]:
        """Generate a clip for a prompt, or one for each of several.

        Args:
            prompt: what to show; a list is generated as one batch.
            seed: where the noise comes from; one number for all clips, or one for each.
            negative_prompt: what guidance leads away from.
            on_step: told after every step.
            **wish: size, length, steps, guidance, sampler; see `Wish`.

        Raises:
            RequestError: the model cannot do what was asked.
        """
        request = self.settle(**wish)
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        seeds = [seed] * len(prompts) if isinstance(seed, int) else list(seed)
        if len(seeds) != len(prompts):
            raise RequestError(f"{len(prompts)} prompts with {len(seeds)} seeds; give one each")
        check_frames(self.card, 0, 0)
        if not prompts:
            return []
        batch = Batch(prompts=prompts, seeds=seeds, negative=negative_prompt)
        clips = self.make(batch, request, on_step)
        return clips[0] if isinstance(prompt, str) else clips

    def settle(self, **wish: Unpack[Wish]) -> Request:
        """Return what a call with these options would do.

        Raises:
            RequestError: the model cannot do it.
        """
        return settle(wish, self.card, self.autoencoder.config, self.transformer.config)

    @torch.no_grad()  # inference mode would mark what a network in training keeps for later
    def make(self, batch: Batch, request: Request, on_step: OnStep | None = None) -> list[Clip]:
        """Generate the clips of a batch, with what is given of them.

        Args:
            batch: prompts, seeds and given frames.
            request: as `settle` returned it.
            on_step: told after every step.
        """
        seeds, device = batch.seeds, next(self.transformer.parameters()).device
        given = batch.given or nothing_given(self.transformer.config, request, len(seeds))
        given = given.to(device)
        noise = torch.stack([initial_noise(seed, request.latent_shape) for seed in seeds])
        velocity = self._velocity(batch, given, request)
        latents = given.put_in(self._sample(velocity, noise.to(device), seeds, request, on_step))
        return [
            Clip(
                frames=shown,
                fps=self.card.clip.fps,
                provenance={**self._provenance(prompt, seed, request), **batch.provenance},
            )
            for shown, prompt, seed in zip(self._decode(latents), batch.prompts, seeds, strict=True)
        ]

    def _check_text(self) -> None:
        """Refuse an encoder that is not the one that the model was trained with."""
        encoders, identities = self.text_encoders, self.card.text_identities
        if len(encoders) != len(identities):
            raise ConfigError(
                f"{self.card.name!r} was trained with {len(identities)} text encoders, not "
                f"{len(encoders)}"
            )
        config = self.transformer.config
        further = (getattr(config, "pooled_dim", None),), getattr(config, "more_text_dims", ())
        wanted = 1 + sum(width is not None for widths in further for width in widths)
        if len(encoders) != wanted:
            raise ConfigError(
                f"{self.card.name!r} takes those of {wanted} text encoders, and its card names "
                f"{len(encoders)}; take the whole folder from one place"
            )
        for encoder, expected in zip(encoders, identities, strict=True):
            found = dict(encoder.identity)
            differing = [key for key in expected if found.get(key) != expected[key]]
            if differing:
                raise ConfigError(
                    f"{self.card.name!r} was trained with another text encoder; "
                    + "; ".join(f"{k}: {found.get(k)!r}, not {expected[k]!r}" for k in differing)
                )

    def _velocity(self, batch: Batch, given: Given, request: Request) -> VelocityFunction:
        """Return the velocity of latents (B, C, T, H, W) at times (B,), guided where asked."""
        weights, count = next(self.transformer.parameters()), len(batch.prompts)
        texts = self._encode([*batch.prompts, batch.negative]).to(weights.device, weights.dtype)
        text, empty = texts[:count], texts[count:]
        scale, config = request.sampling.guidance, self.transformer.config
        transformer = PreparedTransformer(self.transformer)

        def network(x: Tensor, t: Tensor, text: Any, **condition: Any) -> Tensor:
            v: Tensor = transformer(x.to(weights.dtype), t, text, **condition)
            return v.to(x.dtype)

        moved = given.to(weights.device, weights.dtype)
        informed = told(network, moved, patch=config.patch_size)
        if config.guidance_embedding:
            scales = torch.full((count,), scale, device=weights.device)
            return conditioned(informed, text, guidance=scales)
        return steered(informed, text, empty, scale, request.sampling.guiding)

    def _encode(self, prompts: Sequence[str]) -> TextBatch:
        """Return the prompts' embeddings, each distinct prompt encoded once."""
        distinct = list(dict.fromkeys(prompts))
        texts = []
        for encoder in self.text_encoders:
            known = dict(zip(distinct, encoder.encode(distinct), strict=True))
            texts.append(pad_text([known[prompt] for prompt in prompts], encoder.max_tokens))
        return together(texts)

    def _sample(
        self,
        velocity: VelocityFunction,
        noise: Tensor,
        seeds: Sequence[int],
        request: Request,
        on_step: OnStep | None,
    ) -> Tensor:
        """Return normalised latents."""
        sampling = request.sampling
        return SAMPLERS[sampling.sampler](
            velocity,
            noise,
            sampling_grid(sampling.steps, shift=request.shift),
            callback=None
            if on_step is None
            else lambda index, _time, _x: on_step(index + 1, sampling.steps),
            renoise=noise_of(seeds, request.latent_shape),
        )

    def _decode(self, latents: Tensor) -> list[NDArray[np.uint8]]:
        """Return the frames of each clip."""
        device = self.autoencoder.latent_mean.device
        frames: list[NDArray[np.uint8]] = []
        factor = self.autoencoder.config.temporal_factor * self.autoencoder.config.spatial_factor**2
        at_once = max(1, PIXELS_AT_ONCE // (latents[0, 0].numel() * factor))
        for group in torch.split(latents, at_once):
            video = self.autoencoder.decode(
                self.autoencoder.denormalise(group.to(device, torch.float32))
            )
            frames += list(to_frames(video))
        return frames

    def _provenance(self, prompt: str, seed: int, request: Request) -> dict[str, Any]:
        return {
            "model": self.card.name,
            "model_identity": self.identity,
            "run_id": self.card.run_id,
            "seed": seed,
            "sampler": request.sampling.sampler,
            "steps": request.sampling.steps,
            "guidance": request.sampling.guidance,
            "prompt_sha256": prompt_hash(prompt),
        }
