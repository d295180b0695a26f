"""The closed forms that other tests compare with agree with each other."""

import torch

from tests.video_models.diffusion.gaussian import noise
from tests.video_models.diffusion.mixture import two_hills
from video_models.diffusion.paths import convert
from video_models.diffusion.samplers import sample_heun

WORLD = two_hills()
T = torch.tensor([0.9, 0.6, 0.5, 0.3, 0.1], dtype=torch.float64)


def test_the_score_of_the_velocity_is_the_gradient_of_the_log_density():
    x = noise().requires_grad_()
    (score,) = torch.autograd.grad(WORLD.log_density(x, T).sum(), x)
    ours = convert(WORLD.velocity(x, T), x, T, source="v", target="score")
    torch.testing.assert_close(ours, score, rtol=1e-10, atol=1e-10)


def test_the_flow_is_where_many_small_steps_lead():
    x = noise()
    grid = torch.linspace(1, 0.1, 2001, dtype=torch.float64)
    end = sample_heun(WORLD.velocity, x, grid)
    torch.testing.assert_close(WORLD.flow(x, 1.0, 0.1), end, rtol=0, atol=1e-6)


def test_a_mixture_of_one_is_the_gaussian():
    from tests.video_models.diffusion.gaussian import Gaussian
    from tests.video_models.diffusion.mixture import Mixture

    one = Mixture(*(torch.tensor([v], dtype=torch.float64) for v in (1.0, 0.7, 0.6)))
    same = Gaussian(torch.tensor([0.7] * 3), torch.tensor([0.6] * 3))
    torch.testing.assert_close(
        one.velocity(noise(), T), same.velocity(noise(), T), rtol=1e-6, atol=1e-6
    )
