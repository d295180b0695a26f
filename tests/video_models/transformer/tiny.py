"""Transformers that are built and run in milliseconds, and every variant of them."""

import dataclasses

import torch

from video_models.layers.attention import attend_plainly
from video_models.transformer.config import TransformerConfig
from video_models.transformer.model import VideoTransformer

CONFIG = TransformerConfig(
    latent_channels=4, text_dim=16, num_heads=2, head_dim=12, ffn_dim=32, num_layers=2, freq_dim=32
)
B, C, T, H, W, L = 2, 4, 3, 8, 6, 5
S = T * H * W // 4
IMAGE = {"image_dim": 10}
VARIANTS = {
    "plain": {},
    "factorised": {"attention": "factorised"},
    "windowed": {"attention": "windowed", "window": (2, 3, 2), "num_layers": 3, "full_every": 3},
    "block modulation": {"modulation": "block"},
    "norms per head": {"qk_norm": "per_head"},
    "no norms": {"qk_norm": "none", "cross_attention_norm": False},
    "image tokens": {"image_dim": 10, "image_positions": 6},
    "condition": {"condition_channels": 3},
    "two text encoders": {"more_text_dims": (6,), "text_padding": "mask"},
    "guidance": {"guidance_embedding": True},
    "absolute positions": {"absolute_positions": True},
    "stretched": {"extrapolation": "ntk", "trained_grid": (2, 2, 2)},
}


def tiny(seed=0, *, plainly=False, **changes):
    """Return a transformer whose parameters are all drawn at random."""
    torch.manual_seed(seed)
    kernels = dict.fromkeys(("attention", "cross_attention"), attend_plainly) if plainly else {}
    config = dataclasses.replace(CONFIG, zero_init_output=False, **changes)
    model = VideoTransformer(config, **kernels).eval()
    for name, parameter in model.named_parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
        elif "norm" in name:
            torch.nn.init.normal_(parameter, mean=1, std=0.1)
        elif "text_embedder" in name:  # so that the text matters
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def inputs_of(model, size=(T, H, W), *, batch=B, seed=1, dtype=torch.float32):
    """Return latents and times, and the keyword arguments of the rest of a call."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    config = model.config
    latents, t = draw(batch, C, *size), torch.rand(batch, generator=generator, dtype=dtype)
    masks = [torch.arange(L) < torch.tensor([L, 3] * batch)[:batch, None] for _ in range(2)]
    texts = [draw(batch, L, width) for width in (config.text_dim, *config.more_text_dims)]
    rest = {"text": texts[0] if len(texts) == 1 else texts}
    if config.text_padding == "mask":
        rest["text_mask"] = masks[: len(texts)]
    if config.image_dim:
        rest["image"] = draw(batch, 6, config.image_dim)
    if config.condition_channels:
        rest["condition"] = draw(batch, config.condition_channels, *size)
    if config.guidance_embedding:
        rest["guidance"] = 1 + 5 * torch.rand(batch, generator=generator, dtype=dtype)
    return latents, t, rest


def relative_error(ours, theirs):
    """Return |ours - theirs| / |theirs|."""
    return float((ours - theirs).detach().norm() / theirs.detach().norm())
