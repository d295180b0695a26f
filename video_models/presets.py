"""Named sizes."""

import dataclasses

from video_models.autoencoder.config import AutoencoderConfig
from video_models.transformer.config import TransformerConfig
from video_models.transformer.joint_config import AnyTransformerConfig, JointTransformerConfig

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


def _wan(num_heads: int, ffn_dim: int, num_layers: int, head_dim: int = 128) -> TransformerConfig:
    """Return Wan's text to video of a size."""
    return TransformerConfig(
        latent_channels=16,
        text_dim=4096,
        num_heads=num_heads,
        head_dim=head_dim,
        ffn_dim=ffn_dim,
        num_layers=num_layers,
    )


_WAN_14B = _wan(40, 13824, 40)
_WAN_I2V_14B = dataclasses.replace(_WAN_14B, condition_channels=20, image_dim=1280)

TRANSFORMERS: dict[str, TransformerConfig] = {
    "130m": _wan(12, 3072, 13, head_dim=64),
    "25m": _wan(6, 1536, 9, head_dim=64),
    "movie-gen-30b": _wan(48, 24576, 48),
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
    "wan-2.1-1.3b": _wan(12, 8960, 30),
    "wan-2.1-14b": _WAN_14B,
    "wan-2.1-flf2v-14b": dataclasses.replace(_WAN_I2V_14B, image_positions=514),
    "wan-2.1-i2v-14b": _WAN_I2V_14B,
    "wan-2.2-i2v-a14b": dataclasses.replace(_WAN_14B, condition_channels=20),
    "wan-2.2-t2v-a14b": _WAN_14B,
    "wan-2.2-ti2v-5b": dataclasses.replace(_wan(24, 14336, 30), latent_channels=48),
}
"""Transformers with text cross-attention by name: `shapes` for the small synthetic world, `25m` and
`130m`, the published sizes of Wan (each of the two experts of an A14B; TI2V-5B takes a time for
each token), and the shape of Movie Gen (Polyak et al. 2024, arXiv 2410.13720, table 5): width 6144,
48 heads, 48 layers. Its feed-forward networks have three matrices with an inner width of 16384; two
with 24576, as many parameters, stand for them, and one text encoder of width 4096 for its three."""

JOINT_TRANSFORMERS: dict[str, JointTransformerConfig] = {
    "flux-12b": JointTransformerConfig(
        latent_channels=16,
        text_dim=4096,
        num_heads=24,
        head_dim=128,
        ffn_dim=12288,
        num_layers=19,
        num_single_layers=38,
        num_refiner_layers=0,
        pooled_dim=768,
        guidance_embedding=True,
        rope_axes=(16, 56, 56),
        rope_theta=10000.0,
    ),
    "hunyuan-video": JointTransformerConfig(
        latent_channels=16,
        text_dim=4096,
        num_heads=24,
        head_dim=128,
        ffn_dim=12288,
        num_layers=20,
        num_single_layers=40,
        pooled_dim=768,
        guidance_embedding=True,
        rope_axes=(16, 56, 56),
    ),
    "joint-25m": JointTransformerConfig(
        latent_channels=16,
        text_dim=4096,
        num_heads=6,
        head_dim=64,
        ffn_dim=1536,
        num_layers=2,
        num_single_layers=4,
        num_refiner_layers=1,
    ),
}
"""Transformers in which video and text attend to each other, by name: the published sizes of
HunyuanVideo and of FLUX.1, both distilled to take the guidance scale, the latter without refiner,
and a small one without pooled text."""

ALL_TRANSFORMERS: dict[str, AnyTransformerConfig] = {
    **TRANSFORMERS,
    **JOINT_TRANSFORMERS,
}
"""Both kinds."""
