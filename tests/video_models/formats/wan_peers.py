"""Small models of diffusers' Wan, of every published kind, and how both sides are called."""

import dataclasses

import torch
from diffusers import WanTransformer3DModel

from video_models.transformer.config import TransformerConfig

B, C, T, H, W = 2, 4, 3, 8, 6
TEXT_TOKENS, IMAGE_TOKENS, IMAGE_DIM = 512, 7, 10
"""The peer tells text from image tokens by the 512."""

BASE = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": C,
    "out_channels": C,
    "text_dim": 16,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
}
CLIP = {"in_channels": 2 * C + 4, "image_dim": IMAGE_DIM, "added_kv_proj_dim": 24}
PEERS = {
    "Wan 2.1 T2V": {},
    "Wan 2.1 T2V, no cross norm": {"cross_attn_norm": False},
    "Wan 2.1 I2V": CLIP,
    "Wan 2.1 FLF2V": {**CLIP, "pos_embed_seq_len": 2 * IMAGE_TOKENS},
    "Wan 2.2 I2V": {"in_channels": 2 * C + 4},
    "Wan 2.2 TI2V": {"eps": 1e-5, "rope_max_seq_len": 512},
}
CONFIG = TransformerConfig(
    latent_channels=C, text_dim=16, num_heads=2, head_dim=12, ffn_dim=32, num_layers=1, freq_dim=32
)


@dataclasses.dataclass(frozen=True)
class Inputs:
    latents: torch.Tensor
    condition: torch.Tensor | None
    t: torch.Tensor
    text: torch.Tensor
    image: torch.Tensor | None

    def cast(self, dtype):
        """Return them with latents, text and image in another dtype."""
        wide = {"t": self.t}
        rest = {
            field.name: None if (x := getattr(self, field.name)) is None else x.to(dtype)
            for field in dataclasses.fields(self)
        }
        return Inputs(**(rest | wide))


def make_peer(kind):
    """Return a model of diffusers, all of whose parameters matter."""
    torch.manual_seed(0)
    peer = WanTransformer3DModel(**BASE | PEERS[kind]).eval()
    for name, parameter in peer.named_parameters():
        if "pos_embed" in name or "norm" in name:
            torch.nn.init.normal_(parameter, mean=0.5)
    peer.per_token = "TI2V" in kind
    return peer


def draw_inputs(peer):
    config, size = peer.config, (T, H, W)
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    images = 2 if config.pos_embed_seq_len else 1
    beside = config.in_channels - config.out_channels
    tokens = (T * H * W // 4,) if getattr(peer, "per_token", False) else ()
    return Inputs(
        latents=draw(B, C, *size),
        condition=draw(B, beside, *size) if beside else None,
        t=torch.rand(B, *tokens, generator=generator),
        text=draw(B, TEXT_TOKENS, config.text_dim),
        image=draw(B, images * IMAGE_TOKENS, IMAGE_DIM) if config.image_dim else None,
    )


def pass_ours(model, given):
    return model(given.latents, given.t, given.text, condition=given.condition, image=given.image)


@torch.no_grad()
def call_ours(model, given):
    return pass_ours(model, given)


@torch.no_grad()
def call_theirs(peer, given):
    beside, image = given.condition, given.image
    latents = given.latents if beside is None else torch.cat((given.latents, beside), dim=1)
    apart = None if image is None else image.reshape(-1, IMAGE_TOKENS, IMAGE_DIM)
    return peer(latents, given.t * 1000, given.text, apart, return_dict=False)[0]
