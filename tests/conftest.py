"""Fixtures that several rooms share: model folders that are built in milliseconds."""

from types import SimpleNamespace

import pytest


def tiny_autoencoder():
    import torch

    from video_models.autoencoder.config import AutoencoderConfig
    from video_models.autoencoder.model import Autoencoder

    torch.manual_seed(0)
    config = AutoencoderConfig(
        base_dim=8,
        latent_channels=4,
        dim_mult=(1, 1, 1),
        space_down=(False, False),
        time_down=(True, True),
        num_res_blocks=1,
        patch_size=4,
    )
    model = Autoencoder(config)
    model.set_normalisation([0.1] * 4, [2.0] * 4)
    return model.eval()


def tiny_transformer(**options):
    import torch

    from video_models.transformer.config import TransformerConfig
    from video_models.transformer.model import VideoTransformer

    torch.manual_seed(1)
    config = TransformerConfig(
        latent_channels=4,
        text_dim=16,
        num_heads=2,
        head_dim=6,
        ffn_dim=16,
        num_layers=1,
        freq_dim=8,
        zero_init_output=False,
        **options,
    )
    return VideoTransformer(config).eval()


def tiny_card(**changes):
    from pipelines.model_folder import ClipDefaults, ModelCard
    from video_models.diffusion.config import SamplingConfig
    from video_models.text.config import TextConfig
    from video_models.text.encoder import open_text_encoder

    text = TextConfig(kind="words", dim=16, max_tokens=8)
    values = {
        "name": "tiny",
        "kind": "base",
        "text": text,
        "text_identity": open_text_encoder(text).identity,
        "sampling": SamplingConfig(steps=2, guidance=4.0),
        "clip": ClipDefaults(frames=5, height=16, width=24, fps=8.0),
        "run_id": "ab" * 16,
    }
    return ModelCard(**(values | changes))


def tiny_model(path, card=None, *, transformer=None):
    from pipelines.model_folder import ModelFolder

    return ModelFolder.save(
        path,
        card or tiny_card(),
        autoencoder=tiny_autoencoder(),
        transformer=transformer or tiny_transformer(),
    )


@pytest.fixture(scope="session")
def tiny():
    """Makers of the parts of a tiny model: `card`, `autoencoder`, `transformer`, and `model`."""
    return SimpleNamespace(
        card=tiny_card,
        autoencoder=tiny_autoencoder,
        transformer=tiny_transformer,
        model=tiny_model,
    )


@pytest.fixture(scope="session")
def model(tiny, tmp_path_factory):
    """The folder of a base model; not to be changed."""
    return tiny.model(tmp_path_factory.mktemp("models") / "base").path


@pytest.fixture(scope="session")
def student(tiny, tmp_path_factory):
    """The folder of a student with guidance baked in; not to be changed."""
    from video_models.diffusion.config import SamplingConfig

    sampling = SamplingConfig(steps=1, guidance=1.0)
    card = tiny.card(name="fast", kind="student", sampling=sampling, guidance_baked=True)
    return tiny.model(tmp_path_factory.mktemp("models") / "student", card).path
