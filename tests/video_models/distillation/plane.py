"""A world in the plane, a product of two mixtures, and small networks that learn it in seconds."""

import itertools
import math

import torch
from torch import Tensor, nn

from tests.video_models.diffusion.mixture import Mixture
from video_models.diffusion.samplers import sample_euler
from video_models.diffusion.timesteps import sampling_grid
from video_models.objectives.denoising import squared_error


def mixture(weights, means, stds):
    return Mixture(*(torch.tensor(v, dtype=torch.float32) for v in (weights, means, stds)))


AXES = (
    mixture([0.3, 0.7], [-2.0, 1.0], [0.3, 0.6]),
    mixture([0.5, 0.5], [-1.0, 1.2], [0.4, 0.5]),
)
"""The world of each coordinate."""


def teacher(x: Tensor, t: Tensor) -> Tensor:
    """The exact velocity; x (B, 2), t (B,)."""
    return torch.cat([axis.velocity(x[:, i : i + 1], t) for i, axis in enumerate(AXES)], dim=1)


def data(num: int, draw: torch.Generator) -> Tensor:
    columns = []
    for axis in AXES:
        part = torch.multinomial(axis.weights, num, replacement=True, generator=draw)
        noise = torch.randn(num, generator=draw)
        columns.append(axis.means[part] + axis.stds[part] * noise)
    return torch.stack(columns, dim=1)


class Network(nn.Module):
    """A velocity of three hidden layers; `features` gives what they hold."""

    def __init__(self, *, extra: int = 0, width: int = 128):
        super().__init__()
        sizes = [2 + 9 + extra, width, width, width]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.out = nn.Linear(width, 2)

    def hidden(self, x: Tensor, t: Tensor, *more: Tensor) -> list[Tensor]:
        powers = 2.0 ** torch.arange(4)
        angles = math.pi / 2 * t[:, None] * powers
        h = torch.cat((x, t[:, None], angles.cos(), angles.sin(), *more), dim=1)
        states = []
        for layer in self.layers:
            h = nn.functional.silu(layer(h))
            states.append(h)
        return states

    def forward(self, x: Tensor, t: Tensor, *more: Tensor) -> Tensor:
        return self.out(self.hidden(x, t, *more)[-1])


def fit(network, loss_of, steps: int, *, rate: float = 1e-3, betas=(0.9, 0.99)) -> None:
    """Train with Adam, annealed to nothing; `loss_of(step)` gives the loss of a batch."""
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, betas=betas)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        loss_of(step).backward()
        optimizer.step()


def pretrained(draw: torch.Generator, steps: int = 4000) -> Network:
    """A network that has learned the exact velocity."""
    network = Network()

    def loss_of(step):
        x_t, t = noised(256, draw)
        return squared_error(network(x_t, t), teacher(x_t, t)).mean()

    fit(network, loss_of, steps, rate=2e-3)
    return network


def noised(num: int, draw: torch.Generator, t: Tensor | None = None) -> tuple[Tensor, Tensor]:
    t = torch.rand(num, generator=draw) if t is None else t
    noise = torch.randn(num, 2, generator=draw)
    return (1 - t)[:, None] * data(num, draw) + t[:, None] * noise, t


@torch.no_grad()
def distance(network, steps: int, *, shown: int = 1, num: int = 4096) -> float:
    """RMS distance of a student in `shown` steps from the exact velocity in `steps` Euler steps."""
    x = torch.randn(num, 2, generator=torch.Generator().manual_seed(77))
    few = sample_euler(network, x, sampling_grid(shown).float())
    many = sample_euler(teacher, x, sampling_grid(steps).float())
    return (few - many).square().mean().sqrt().item()


@torch.no_grad()
def wasserstein(samples: Tensor) -> float:
    """Mean over the axes of the 1-Wasserstein distance of samples to as many of the data."""
    truth = data(len(samples), torch.Generator().manual_seed(78))
    return (samples.sort(dim=0).values - truth.sort(dim=0).values).abs().mean().item()
