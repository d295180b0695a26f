"""Joint transformers that are built and run in milliseconds, and every variant of them."""

import dataclasses

import torch

from video_models.layers.attention import attend
from video_models.transformer.joint import JointTransformer
from video_models.transformer.joint_config import JointTransformerConfig

CONFIG = JointTransformerConfig(
    latent_channels=4,
    text_dim=16,
    num_heads=2,
    head_dim=12,
    ffn_dim=32,
    num_layers=2,
    num_single_layers=2,
)
B, C, T, H, W, L = 2, 4, 3, 8, 6, 5
S = T * H * W // 4
VARIANTS = {
    "plain": {},
    "pooled text": {"pooled_dim": 10},
    "guidance": {"guidance_embedding": True},
    "condition": {"condition_channels": 3},
    "other axes": {"rope_axes": (2, 4, 6)},
    "two frames a token": {"patch_size": (3, 2, 2)},
    "only dual blocks": {"num_single_layers": 0},
    "only single blocks": {"num_layers": 0, "num_refiner_layers": 0},
}


def tiny(seed=0, *, attention=attend, **changes):
    """Return a joint transformer whose parameters are all drawn at random."""
    torch.manual_seed(seed)
    config = dataclasses.replace(CONFIG, zero_init_output=False, **changes)
    model = JointTransformer(config, attention=attention).eval()
    for name, parameter in model.named_parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
        elif "norm_" in name or name.endswith(("norm1.weight", "norm2.weight")):
            torch.nn.init.normal_(parameter, mean=1, std=0.1)
    return model


def inputs_of(model, size=(T, H, W), *, batch=B, seed=1, dtype=torch.float32):
    """Return latents and times, and the keyword arguments of the rest of a call."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    config = model.config
    latents, t = draw(batch, C, *size), torch.rand(batch, generator=generator, dtype=dtype)
    rest = {
        "text": draw(batch, L, config.text_dim),
        "text_mask": torch.arange(L) < torch.tensor([L, 3] * batch)[:batch, None],
    }
    if config.pooled_dim:
        rest["pooled"] = draw(batch, config.pooled_dim)
    if config.condition_channels:
        rest["condition"] = draw(batch, config.condition_channels, *size)
    if config.guidance_embedding:
        rest["guidance"] = 1 + 5 * torch.rand(batch, generator=generator, dtype=dtype)
    return latents, t, rest
