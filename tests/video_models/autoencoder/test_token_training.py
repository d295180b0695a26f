"""Each kind of codebook learns the small world from nothing: `pytest -m slow`, minutes long."""

import pytest
import torch

from video_models.autoencoder.quantiser_config import QuantiserConfig, TokenAutoencoderConfig
from video_models.autoencoder.tokens import TokenAutoencoder
from video_models.metrics.reconstruction import psnr
from video_models.objectives.reconstruction import gradient_error
from video_models.presets import AUTOENCODERS
from video_platform.shapes.program import program_at
from video_platform.shapes.render import render
from video_platform.shapes.world import WorldConfig
from video_platform.training.optimizers import orthogonalise

STEPS = 200
IMAGE_STEPS = 50
CLIPS, HELD_OUT = 768, 64
QUANTISERS = {
    "fsq": (QuantiserConfig(kind="fsq", levels=(8, 6, 5)), {}),
    "lfq": (
        QuantiserConfig(kind="lfq", num_bits=10, temperature=0.5, diversity=2.0),
        {"commitment": 0.5, "entropy": 4.0},
    ),
    "vq": (
        QuantiserConfig(kind="vq", num_codes=512, decay=0.9, restart_below=0.1),
        {"commitment": 0.25},
    ),
}
"""Codebooks, and the weights of their penalties."""


@pytest.fixture(scope="module")
def clips():
    world = WorldConfig(num_clips=CLIPS)
    frames = [torch.from_numpy(render(program_at(world, i))) for i in range(CLIPS + HELD_OUT)]
    return torch.stack(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1  # (N, C, T, H, W)


class Trainer:
    """Muon for the matrices of the blocks and AdamW for the rest, as recipes have it."""

    def __init__(self, model):
        self.model = model
        blocks = [model.get_submodule(name) for name in model.block_names()]
        matrices = [p for block in blocks for p in block.parameters() if p.ndim > 1]
        self.momenta = {p: torch.zeros_like(p) for p in matrices}
        rest = [p for p in model.parameters() if p not in self.momenta]
        self.adam = torch.optim.AdamW(rest, betas=(0.9, 0.99), weight_decay=0.0)

    def step(self, loss, rate):
        self.model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
        self.adam.param_groups[0]["lr"] = rate
        self.adam.step()
        with torch.no_grad():
            for p, momentum in self.momenta.items():
                if p.grad is not None:
                    momentum.lerp_(p.grad, 0.05)
                    update = torch.lerp(p.grad, momentum, 0.95).flatten(1)
                    size = 0.2 * max(update.shape) ** 0.5
                    p.add_(orthogonalise(update).view_as(p), alpha=-rate * size)


def train(model, clips, weights):
    generator = torch.Generator().manual_seed(0)
    trainer = Trainer(model)
    for step in range(STEPS):
        video = clips[torch.randint(len(clips), (8,), generator=generator)]
        if step < IMAGE_STEPS:
            frames = torch.randperm(video.shape[2], generator=generator)[:4]
            video = torch.cat(video[:, :, frames].split(1, dim=2))
        reconstruction, code = model(video)
        difference = reconstruction - video
        loss = difference.square().flatten(1).mean(1) + 0.5 * gradient_error(difference)
        for name, term in code.penalties().items():
            loss = loss + weights[name] * term / video[0].numel()
        trainer.step(loss.mean(), 8e-3 * min(1, (step + 1) / 50, 2 * (1 - step / STEPS)))
        model.update_codebook()


@pytest.mark.slow
@pytest.mark.parametrize("kind", QUANTISERS)
def test_a_few_hundred_steps_beat_the_mean_image_with_most_of_the_codebook(kind, clips):
    quantiser, weights = QUANTISERS[kind]
    torch.manual_seed(0)
    model = TokenAutoencoder(
        TokenAutoencoderConfig(backbone=AUTOENCODERS["shapes"], quantiser=quantiser)
    )
    train(model, clips[:CLIPS], weights)
    shown = clips[CLIPS:]
    with torch.no_grad():
        reconstruction, code = model.eval()(shown)
    mean = clips[:CLIPS].mean(dim=0, keepdim=True).expand_as(shown)
    gain = psnr(reconstruction.clamp(-1, 1), shown).mean() - psnr(mean, shown).mean()
    usage = len(code.indices.unique()) / model.codebook_size
    assert gain > 6, f"{gain:.2f} dB"
    assert usage > 0.5, f"{usage:.3f}"
