"""The model folder that a training run leaves behind, and what it says of itself."""

from pathlib import Path

from jobs.latents import LatentSource
from jobs.launch import Payload
from jobs.recipe import Recipe, needed
from pipelines.model_folder import (
    ClipDefaults,
    FramesInput,
    FurtherText,
    ImageInput,
    ModelCard,
    ModelFolder,
)
from video_models.transformer.family import AnyTransformer, build_transformer
from video_models.transformer.joint_config import AnyTransformerConfig
from video_platform.cluster import WorkerContext
from video_platform.training.engine import Engine


def averaged(
    engine: Engine, size: AnyTransformerConfig, context: WorkerContext
) -> AnyTransformer | None:
    """Return the averaged network on rank 0. Called on every rank."""
    weights = engine.ema_parameters()
    if context.rank != 0:
        return None
    transformer = build_transformer(size)
    transformer.load_state_dict(weights)
    return transformer.eval()


def model_card(payload: Payload, source: LatentSource) -> ModelCard:
    """Describe the model that a recipe trains."""
    recipe = payload.recipe
    pixels = needed(recipe.pixels, "pixels", "pretrain")
    return ModelCard(
        name=recipe.name,
        kind="base",
        text=recipe.model_text,
        text_identity=source.text_encoder.identity,
        more_texts=tuple(
            FurtherText(config=config, identity=encoder.identity)
            for config, encoder in zip(recipe.model_texts, source.text_encoders, strict=True)
        )[1:],
        given=frames_input(recipe, source),
        sampling=recipe.model.sampling,
        clip=ClipDefaults(
            frames=pixels.frames, height=pixels.height, width=pixels.width, fps=pixels.fps
        ),
        run_id=payload.run_id,
        parents=payload.parents,
    )


def frames_input(recipe: Recipe, source: LatentSource) -> FramesInput | None:
    """Describe the frames that the model may be given; None for text alone."""
    if source.given is None:
        return None
    config, identities = source.given.config, source.image_identities
    layers = {name: recipe.layers[name] for name in config.image}
    return FramesInput(
        ways=tuple((way.first, way.last) for way in source.given.ways),
        required=config.required,
        images=tuple(
            ImageInput(
                path=str(layer.path),
                output=layer.output,
                frame=layer.frame,
                identity=identities[name],
            )
            for name, layer in layers.items()
        ),
    )


def save_model(
    path: Path, card: ModelCard, *, source: LatentSource, transformer: AnyTransformer
) -> ModelFolder:
    """Write a model folder with the recipe's autoencoder."""
    return ModelFolder.save(path, card, autoencoder=source.autoencoder, transformer=transformer)


def model_tags(folder: ModelFolder) -> dict[str, str]:
    """Return what a run says about the model that it made."""
    return {
        "vdp.fingerprint": folder.card.fingerprints["transformer"],
        "vdp.folder": str(folder.path.absolute()),
    }
