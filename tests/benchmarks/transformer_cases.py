"""What the transformer benchmarks share: sizes, the same weights on both sides, interleaved timing.

The peer is diffusers' `WanTransformer3DModel`; ours opens the folder that it wrote. Both run in one
process and take turns, so that other work on the machine disturbs both alike; figures are medians,
by the clock and by the processor.

Legend: B batch, C latent channels, (T, H, W) latent frames, rows, columns, L text tokens.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from video_models.formats import open_transformer
from video_models.transformer.model import VideoTransformer

TEXT_TOKENS, TEXT_DIM, CHANNELS = 512, 4096, 16
FULL_TIME = 1000.0  # the peer counts time from 0 to 1000

SIZES = {
    "25m": {"num_attention_heads": 3, "ffn_dim": 1536, "num_layers": 9},
    "130m": {"num_attention_heads": 6, "ffn_dim": 3072, "num_layers": 13},
}
"""What each size sets beside the defaults of Wan 2.1, whose heads have 128 channels."""

SIDE = 32
"""Latent rows and columns: 256 tokens a frame."""


@dataclass(frozen=True)
class Time:
    """How long something took."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Inputs:
    """What both models are given."""

    latents: torch.Tensor
    """(1, C, T, H, W)."""
    text: torch.Tensor
    """(1, L, text_dim)."""

    @classmethod
    def draw(cls, frames: int) -> "Inputs":
        """Draw latents of some frames and a text."""
        generator = torch.Generator().manual_seed(frames)
        latents = torch.randn(1, CHANNELS, frames, SIDE, SIDE, generator=generator)
        return cls(latents, torch.randn(1, TEXT_TOKENS, TEXT_DIM, generator=generator))

    @property
    def tokens(self) -> int:
        """Latent tokens."""
        return self.latents[0, 0].numel() // 4


def build_peer(size: str) -> torch.nn.Module:
    """Build diffusers' model with random weights."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    return WanTransformer3DModel(text_dim=TEXT_DIM, **SIZES[size])


def peer_in_bf16(size: str) -> torch.nn.Module:
    """Build it as `from_pretrained(torch_dtype=torch.bfloat16)` does: parts stay in float32."""
    model = build_peer(size).eval().to(torch.bfloat16)
    for name, module in model.named_modules():
        if any(part in name.split(".") for part in model._keep_in_fp32_modules):
            module.float()
    for name, parameter in model.named_parameters():
        if name.endswith("scale_shift_table"):
            parameter.data = parameter.data.float()
    return model


def compiled(model: torch.nn.Module) -> torch.nn.Module:
    """Compile the blocks one by one, for the shapes that they will see."""
    for block in model.blocks:
        block.compile(dynamic=False)
    return model


def open_ours(peer: torch.nn.Module, folder: Path) -> VideoTransformer:
    """Write the peer's folder, in the precision that it has, and open it as ours."""
    peer.save_config(folder)
    save_file(peer.state_dict(), folder / "diffusion_pytorch_model.safetensors")
    return open_transformer(folder, VideoTransformer)


def interleaved(sides: Mapping[str, Callable[[], object]], runs: int) -> dict[str, Time]:
    """Run all sides in turn, first once to warm up; return the median of each."""
    taken = {name: [] for name in sides}
    for run in range(runs + 1):
        for name, side in sides.items():
            start = time.perf_counter(), time.process_time()
            side()
            if run:
                taken[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return {
        name: Time(*(statistics.median(values) for values in zip(*rows, strict=True)))
        for name, rows in taken.items()
    }


def ratios(theirs: Time, ours: Time) -> str:
    """Return a row of both times and how many times as fast ours is."""
    pairs = ((theirs.wall_s, ours.wall_s), (theirs.cpu_s, ours.cpu_s))
    return "".join(f"{a:9.3f}{b:9.3f}{a / b:7.2f}" for a, b in pairs)


HEADER = f"{'':34}{'wall s':>18}{'ratio':>7}{'cpu s':>18}{'ratio':>7}"


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the largest difference over the largest number."""
    return float((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max())
