"""The transformer that a plan is about: its size, and what it is given besides noisy latents.

What `jobs.model_inputs` reads from a cache and its encoders follows here from the recipe, which may
be planned before either is there.
"""

import dataclasses
from pathlib import Path
from typing import Any

from jobs.latent_order import Size
from jobs.pretrain_config import GivenConfig
from jobs.recipe import Recipe, transformer_size
from video_models.autoencoder.config import AutoencoderConfig
from video_models.formats.folder import ModelFormatError, read_config
from video_models.formats.transformer import read_transformer_config
from video_models.text.config import TextConfig
from video_models.text.encoder import DEFAULT_WORD_DIM
from video_models.transformer.costs import Costs, parameter_count
from video_models.transformer.joint_config import AnyTransformerConfig, JointTransformerConfig
from video_models.transformer.joint_costs import any_costs, joint_parameter_count
from video_platform.errors import ConfigError

IMAGE_TOKENS, IMAGE_DIM = 257, 1280
"""Of one image, as the CLIP of Wan 2.1 gives them."""

WIDTHS = {"byt5": 1472, "clip": 768, "t5": 4096, "umt5": 4096}
"""Of embeddings of the published encoders, where the folder of one is not there to be read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A transformer and how much it is given of each clip."""

    config: AnyTransformerConfig
    text_tokens: tuple[int, ...]
    """Slots of a caption, of each text encoder whose tokens it takes."""
    image_tokens: int = 0
    """Tokens of an image encoder."""
    time_per_token: bool = False
    """Whether each token has a time of its own."""

    @property
    def parameters(self) -> int:
        """Elements of all parameters."""
        if isinstance(self.config, JointTransformerConfig):
            return joint_parameter_count(self.config)
        return parameter_count(self.config)

    @property
    def block_fields(self) -> tuple[str, ...]:
        """The fields of the config that count blocks, in the order of the blocks."""
        joint = isinstance(self.config, JointTransformerConfig)
        return ("num_layers", "num_single_layers") if joint else ("num_layers",)

    @property
    def layers(self) -> int:
        """Blocks."""
        return sum(getattr(self.config, field) for field in self.block_fields)

    def costs(self, size: Size) -> Costs:
        """Count what one clip takes whose latents have a size."""
        return any_costs(
            self.config,
            size,
            text_tokens=self.text_tokens,
            image_tokens=self.image_tokens,
            time_per_token=self.time_per_token,
        )

    def sequence(self, tokens: int) -> int:
        """Return how many tokens attend to each other, of so many of a video."""
        joint = isinstance(self.config, JointTransformerConfig)
        return tokens + (self.text_tokens[0] if joint else 0)


def network_of(recipe: Recipe, autoencoder: AutoencoderConfig) -> Network:
    """Return the transformer that a recipe trains, as it is given its inputs.

    A text that it takes and no encoder of the recipe gives has as many tokens as the first.

    Raises:
        ConfigError: no size is given, its folder is not there, or more texts than it takes.
    """
    given = recipe.pretrain.given if recipe.pretrain else None
    config = _config(recipe, autoencoder, given)
    return Network(
        config=config,
        text_tokens=_text_tokens(recipe, config),
        image_tokens=_image_tokens(config, given),
        time_per_token=given is not None and not given.beside,
    )


def _config(
    recipe: Recipe, autoencoder: AutoencoderConfig, given: GivenConfig | None
) -> AnyTransformerConfig:
    model = recipe.model
    spelled = model.transformer or model.joint_transformer
    base = recipe.pretrain.start_from if recipe.pretrain else None
    if base is not None and model.preset is None and spelled is None:
        inner = Path(base) / "transformer"
        try:
            return read_transformer_config(inner if inner.is_dir() else base)
        except ModelFormatError as error:
            raise ConfigError(
                f"pretrain.start_from = {base!r}: {error}; to plan without it, name model.preset"
            ) from None
    size = transformer_size(model)
    return size if spelled else _following(size, recipe, autoencoder, given)


def _following(
    size: AnyTransformerConfig,
    recipe: Recipe,
    autoencoder: AutoencoderConfig,
    given: GivenConfig | None,
) -> AnyTransformerConfig:
    """Return a preset with the inputs that the recipe gives it; what it has besides stays."""
    first, *others = recipe.model_texts
    channels, further = autoencoder.latent_channels, tuple(_width(each) for each in others)
    ends: dict[str, Any] = {
        "latent_channels": channels,
        "text_dim": _width(first, unread=size.text_dim),
    }
    if isinstance(size, JointTransformerConfig):
        ends["pooled_dim"] = further[0] if further else size.pooled_dim
    else:
        ends["more_text_dims"] = further
        if given is not None and given.image:
            ends["image_dim"] = size.image_dim or IMAGE_DIM
    if given is not None and given.beside:
        ends["condition_channels"] = autoencoder.temporal_factor + channels
    return dataclasses.replace(size, **ends)


def _width(text: TextConfig, *, unread: int | None = None) -> int:
    """Return the width of an encoder's embeddings; `unread` where its folder is not here."""
    if text.kind == "words":
        return DEFAULT_WORD_DIM if text.dim is None else text.dim
    try:
        tree = read_config(str(text.path))
    except ModelFormatError:
        return WIDTHS[text.kind] if unread is None else unread
    inner = tree.get("text_config", tree)
    return int(inner.get("d_model") or inner["hidden_size"])


def _text_tokens(recipe: Recipe, config: AnyTransformerConfig) -> tuple[int, ...]:
    texts = recipe.model_texts
    tokens = [1 if text.output == "pooled" else text.max_tokens for text in texts]
    if isinstance(config, JointTransformerConfig):
        taken, expected = 1, 1 if config.pooled_dim is None else 2
    else:
        taken = expected = 1 + len(config.more_text_dims)
    if len(tokens) > expected:
        raise ConfigError(
            f"model.text names {len(tokens)} text encoders; the transformer takes {expected}: "
            "leave out the others, or give it their widths"
        )
    return tuple([*tokens, *tokens[:1] * (taken - len(tokens))][:taken])


def _image_tokens(config: AnyTransformerConfig, given: GivenConfig | None) -> int:
    if isinstance(config, JointTransformerConfig) or config.image_dim is None:
        return 0
    images = len(given.image) if given is not None else 0
    return config.image_positions or IMAGE_TOKENS * max(images, 1)
