"""What training starts from, and which parameters it trains.

    network = begun(recipe, source)              # on every rank
    ...                                          # train those that require a gradient
    model = finished(recipe, source, trained)    # what was frozen is bit for bit what it was

Training starts afresh, or from a model folder: ours, a published pipeline's, or a transformer's.
"""

import dataclasses
import fnmatch
import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from jobs.latents import LatentSource
from jobs.model_inputs import following, mismatches
from jobs.pretrain_config import LoraConfig, PretrainSection, Trained
from jobs.recipe import Recipe, needed, transformer_size
from pipelines.model_folder import CARD, ModelCard, ModelFolder
from video_models.formats import ModelFormatError, open_transformer
from video_models.transformer.family import AnyTransformer, build_transformer
from video_models.transformer.joint_config import AnyTransformerConfig
from video_models.transformer.lora import add_lora
from video_platform.errors import ConfigError
from video_platform.tracking import Tracker


@dataclasses.dataclass(frozen=True)
class Base:
    """A folder that training starts from."""

    folder: Path
    """Of the transformer alone."""
    card: ModelCard | None
    """What it says of itself; None for a published one."""

    @property
    def fingerprint(self) -> str:
        """The identity of its weights."""
        if self.card is not None:
            return self.card.fingerprints["transformer"]
        digest = hashlib.sha256()
        for path in sorted([*self.folder.glob("*.safetensors"), *self.folder.glob("config.json")]):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def base_of(section: PretrainSection) -> Base | None:
    """Return what training starts from; None where it starts afresh.

    Raises:
        ConfigError: there is no such folder, or it holds a distilled model.
    """
    if section.start_from is None:
        return None
    folder = Path(section.start_from)
    card = ModelFolder.open(folder).card if (folder / CARD).exists() else None
    if card is not None and card.guidance_baked:
        raise ConfigError(
            f"pretrain.start_from = {section.start_from!r} is a student with guidance baked in, "
            "which flow matching would undo; start from its teacher"
        )
    inner = folder / "transformer"
    return Base(inner if inner.is_dir() else folder, card)


def base_run(tracker: Tracker, base: Base) -> str:
    """Return the run that made a base, or one that stands for it, starting that if it is new."""
    found = tracker.find(base.fingerprint)
    if found is not None:
        return found
    tags = {"vdp.fingerprint": base.fingerprint, "vdp.folder": str(base.folder.absolute())}
    name, params = f"{base.folder.parent.name} weights", {"folder": str(base.folder)}
    with tracker.start("transformer", name=name, params=params, tags=tags) as run:
        return run.id


def begun(recipe: Recipe, source: LatentSource) -> AnyTransformer:
    """Build the transformer as training finds it, on the CPU; frozen where it is not trained.

    Raises:
        ConfigError: it does not fit the cache, or `train` names nothing of it.
    """
    section = needed(recipe.pretrain, "pretrain", "pretrain")
    base = base_of(section)
    if base is None:
        return build_transformer(fresh_size(recipe, source))
    try:
        network = open_transformer(base.folder)
    except ModelFormatError as error:
        raise ConfigError(f"pretrain.start_from = {section.start_from!r}: {error}") from None
    _check_base(base, network.config, recipe, source)
    choose_trained(network, section.train)
    return network.train()


def choose_trained(network: AnyTransformer, train: Trained) -> None:
    """Let the parameters require a gradient that a recipe trains, adapters being added.

    Raises:
        ConfigError: `train` names nothing of the network.
    """
    if isinstance(train, LoraConfig):
        try:
            add_lora(network, rank=train.rank, alpha=train.alpha, targets=train.targets)
        except ValueError as error:
            raise ConfigError(f"pretrain.train: {error}") from None
        return
    patterns = ("*",) if train == "all" else train
    names = [name for name, _ in network.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(
                f"pretrain.train has {pattern!r}, which matches no parameter; there are "
                f"{', '.join(names[:3])}, ..., {names[-1]}"
            )
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(any(fnmatch.fnmatchcase(name, each) for each in patterns))


def finished(recipe: Recipe, source: LatentSource, trained: Mapping[str, Tensor]) -> AnyTransformer:
    """Build the trained transformer; what was frozen is exactly what it started as.

    Args:
        recipe: how it was trained.
        source: what it was trained on.
        trained: the trained parameters by name.
    """
    network = begun(recipe, source)
    network.load_state_dict({**network.state_dict(), **trained})
    return network.requires_grad_(False).eval()


def fresh_size(recipe: Recipe, source: LatentSource) -> AnyTransformerConfig:
    """Return the size of a transformer that starts afresh; a preset's ends follow the cache.

    Raises:
        ConfigError: a size that is spelled out does not fit the cache, or takes what the recipe
            does not give.
    """
    section = needed(recipe.pretrain, "pretrain", "pretrain")
    size = transformer_size(recipe.model)
    channels, text_dim = source.channels, source.text_dims[0]
    spelled = recipe.model.transformer or recipe.model.joint_transformer
    if spelled is None:
        size = following(size, source, section)
    elif (spelled.latent_channels, spelled.text_dim) != (channels, text_dim):
        raise ConfigError(
            f"the transformer has latent_channels {spelled.latent_channels} and text_dim "
            f"{spelled.text_dim}, but the cache has {channels} and the text encoder {text_dim}; "
            "change them, or use model.preset, which follows"
        )
    if problems := mismatches(size, source, section):
        raise ConfigError(f"the transformer: {'; '.join(problems)}")
    return size


def _check_base(
    base: Base, size: AnyTransformerConfig, recipe: Recipe, source: LatentSource
) -> None:
    """Refuse a base that was made for other inputs, or that a size is given beside."""
    problems = []
    model = recipe.model
    if any(each is not None for each in (model.preset, model.transformer, model.joint_transformer)):
        problems.append("its size is its own: leave out model.preset and model.transformer")
    if size.latent_channels != source.channels:
        problems.append(
            f"it takes {size.latent_channels} latent channels, the cache has {source.channels}: "
            "take its own autoencoder"
        )
    problems += mismatches(size, source, needed(recipe.pretrain, "pretrain", "pretrain"))
    if base.card is not None:
        if base.card.fingerprints["vae"] != source.autoencoder_fingerprint:
            problems.append("its autoencoder is not that of the cache: encode with its own")
        if base.card.text_identities != [dict(each.identity) for each in source.text_encoders]:
            problems.append("its text encoder is not that of the recipe: take its own")
        images = base.card.given.images if base.card.given else ()
        identities = [dict(each) for each in source.image_identities.values()]
        if images and [dict(each.identity) for each in images] != identities:
            problems.append("its image encoder is not that of the cache: embed with its own")
    if problems:
        raise ConfigError(f"pretrain.start_from = {str(base.folder)!r}: {'; '.join(problems)}")
