"""Named sizes."""

from video_models.autoencoder.config import AutoencoderConfig
from video_models.transformer.config import TransformerConfig

AUTOENCODERS: dict[str, AutoencoderConfig] = {
    "causal-8x8x8": AutoencoderConfig(
        base_dim=96,
        latent_channels=16,
        dim_mult=(1, 2, 4, 4),
        num_res_blocks=2,
        space_down=(True, True, True),
        time_down=(True, True, True),
    ),
    "hunyuan-video": AutoencoderConfig(
        base_dim=128,
        latent_channels=16,
        dim_mult=(1, 2, 4, 4),
        num_res_blocks=2,
        space_down=(True, True, True),
        time_down=(False, True, True),
        time_up=(False, True, True),
        padding="replicate",
        norm="group_clip",
        resampler="strided",
        mid_attention="clip",
    ),
    "hunyuan-video-1.5": AutoencoderConfig(
        base_dim=128,
        latent_channels=32,
        dim_mult=(1, 2, 4, 8, 8),
        num_res_blocks=2,
        space_down=(True, True, True, True),
        time_down=(False, False, True, True),
        padding="replicate",
        resampler="shuffle",
        mid_attention="clip",
        latent_convs=False,
    ),
    "shapes": AutoencoderConfig(
        base_dim=32,
        decoder_dim=48,
        latent_channels=12,
        dim_mult=(1, 1, 1),
        num_res_blocks=1,
        space_down=(False, False),
        time_down=(True, True),
        patch_size=4,
        kernel_frames=1,
    ),
    "wan-2.1": AutoencoderConfig(
        base_dim=96,
        latent_channels=16,
        dim_mult=(1, 2, 4, 4),
        num_res_blocks=2,
        space_down=(True, True, True),
        time_down=(False, True, True),
    ),
    "wan-2.2": AutoencoderConfig(
        base_dim=160,
        decoder_dim=256,
        latent_channels=48,
        dim_mult=(1, 2, 4, 4),
        num_res_blocks=2,
        space_down=(True, True, True),
        time_down=(False, True, True),
        patch_size=2,
        residual_resampling=True,
    ),
}
"""Autoencoders by name: `shapes` for the small synthetic world (4 x 4 x 4, 0.5M parameters; all its
levels lie on the grid of folded patches, which trains in minutes on a CPU), the published sizes of
Wan 2.1 (4 x 8 x 8, 127M parameters) and 2.2 (4 x 16 x 16, 705M) and of HunyuanVideo (4 x 8 x 8,
246M) and 1.5 (4 x 16 x 16, 1.26B), and `causal-8x8x8`, which shrinks time by eight as Movie Gen's
does (Polyak et al. 2024, arXiv 2410.13720, section 3.1.1)."""

TRANSFORMERS: dict[str, TransformerConfig] = {
    "shapes": TransformerConfig(
        latent_channels=12,
        text_dim=64,
        num_heads=4,
        head_dim=32,
        ffn_dim=256,
        num_layers=6,
        absolute_positions=True,
        text_padding="mask",
    ),
    "wan-2.1-1.3b": TransformerConfig(
        latent_channels=16,
        text_dim=4096,
        num_heads=12,
        head_dim=128,
        ffn_dim=8960,
        num_layers=30,
    ),
    "wan-2.1-14b": TransformerConfig(
        latent_channels=16,
        text_dim=4096,
        num_heads=40,
        head_dim=128,
        ffn_dim=13824,
        num_layers=40,
    ),
}
"""Transformers by name: `shapes` for the small synthetic world, and the published text-to-video
sizes of Wan 2.1."""
