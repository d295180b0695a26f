"""Parts of a model that are built in milliseconds, for the tests of several rooms."""

import torch

from pipelines.model_folder import ClipDefaults, ModelCard, ModelFolder
from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.model import Autoencoder
from video_models.diffusion.config import SamplingConfig
from video_models.text.config import TextConfig
from video_models.text.encoder import open_text_encoder
from video_models.transformer.config import TransformerConfig
from video_models.transformer.model import VideoTransformer


def make_autoencoder():
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


def make_transformer(**options):
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


def make_card(**changes):
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


def make_model(path, card=None, *, transformer=None):
    return ModelFolder.save(
        path,
        card or make_card(),
        autoencoder=make_autoencoder(),
        transformer=transformer or make_transformer(),
    )


def make_student_card(**changes):
    sampling = SamplingConfig(steps=1, guidance=1.0)
    values = {"name": "fast", "kind": "student", "sampling": sampling, "guidance_baked": True}
    return make_card(**(values | changes))
