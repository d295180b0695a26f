"""A Gaussian world in TrigFlow: derivative and consistency function in closed form."""

import torch
from torch import Tensor

from tests.video_models.diffusion.gaussian import Gaussian, example

WORLD = example()


class Angles:
    """Data N(m, s^2) on x = cos(h) x0 + sin(h) sd e."""

    def __init__(self, world: Gaussian, sigma_data: float):
        self.world, self.sd = world, sigma_data

    def spread(self, h: Tensor) -> Tensor:
        cos, sin = torch.cos(h), torch.sin(h)
        return ((cos * self.world.std) ** 2 + (sin * self.sd) ** 2) ** 0.5

    def derivative(self, x: Tensor, angle: Tensor) -> Tensor:
        """The exact dx/dh."""
        h = angle[:, None]
        cos, sin = torch.cos(h), torch.sin(h)
        off = (x - cos * self.world.mean) / self.spread(h) ** 2
        clean = self.world.mean + cos * self.world.std**2 * off
        noise = sin * self.sd**2 * off
        return -sin * clean + cos * noise

    def consistency(self, x: Tensor, angle: Tensor) -> Tensor:
        """Where the exact trajectory through x ends at angle 0."""
        h = angle[:, None]
        return self.world.mean + self.world.std / self.spread(h) * (
            x - torch.cos(h) * self.world.mean
        )

    def exact_student(self, x: Tensor, angle: Tensor) -> Tensor:
        """The student's dx/dh whose consistency function is the exact one."""
        h = angle[:, None]
        return (torch.cos(h) * x - self.consistency(x, angle)) / torch.sin(h)


def network(x: Tensor, angle: Tensor) -> Tensor:
    """Some smooth student that is nobody's fixed point."""
    return torch.sin(2 * x) * torch.cos(3 * angle)[:, None] + 0.4 * x + torch.exp(-angle)[:, None]
