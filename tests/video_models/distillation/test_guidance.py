"""Guidance distillation against the closed form: the guided law of two Gaussians is a Gaussian."""

import itertools

import pytest
import torch

from tests.video_models.diffusion.gaussian import Gaussian, example, noise
from video_models.diffusion import guidance as guiding
from video_models.diffusion.timesteps import sampling_grid
from video_models.distillation import guidance as distilling
from video_models.text.batch import TextBatch

CAPTIONED = example(0.7)
WHOLE = Gaussian(-CAPTIONED.mean, CAPTIONED.std)


def law(w):
    """The data that guidance at scale w samples from."""
    return Gaussian(WHOLE.mean + w * (CAPTIONED.mean - WHOLE.mean), CAPTIONED.std)


def text(num, value):
    embeddings = torch.full((num, 1, 1), value, dtype=torch.float64)
    return TextBatch(embeddings=embeddings, mask=torch.ones(num, 1, dtype=torch.bool))


def network(x, t, embeddings, *, text_mask, guidance):
    chosen = embeddings[:, 0]
    return chosen * CAPTIONED.velocity(x, t) + (1 - chosen) * WHOLE.velocity(x, t)


def teacher(w, num):
    return guiding.guided(network, text(num, 1.0), text(1, 0.0), w)


def loss_of_the_exact_student(w):
    x = noise()
    t = torch.linspace(0, 1, len(x), dtype=torch.float64)
    return distilling.guidance_loss(law(w).velocity, teacher(w, len(x)), x, t).max().item()


def drift_of_states(w):
    """How far the drawn states and targets are from those of the exact guided law."""
    x, grid = noise(), sampling_grid(8, shift=3.0)
    states, times, velocities = distilling.guided_states(teacher(w, len(x)), x, grid)
    exact, here = law(w), x
    worst = 0.0
    for index, (t, r) in enumerate(itertools.pairwise(grid)):
        v = exact.velocity(here, t.expand(len(x)))
        for ours, expected in ((states, here), (velocities, v), (times, t.expand(len(x)))):
            worst = max(worst, (ours[index] - expected).abs().max().item())
        here = here + (r - t) * v
    return worst


@pytest.mark.parametrize("w", [0.0, 1.0, 2.0, 7.5])
def test_the_student_of_the_guided_law_has_no_loss(w):
    assert loss_of_the_exact_student(w) < 1e-24


@pytest.mark.parametrize("w", [1.0, 7.5])
def test_states_and_targets_are_those_of_the_guided_trajectory(w):
    assert drift_of_states(w) < 1e-12


def test_the_best_linear_student_on_guided_states_is_the_guided_velocity():
    grid = sampling_grid(8)
    states, times, velocities = distilling.guided_states(teacher(4.0, 64), noise(64), grid)
    for x, t, v in zip(states, times, velocities, strict=True):
        inputs = torch.stack((x[:, 0], torch.ones(64)), dim=1)
        slope, offset = torch.linalg.lstsq(inputs, v[:, :1]).solution[:, 0]
        exact = law(4.0)
        assert slope.item() == pytest.approx(exact.slope(t[0])[0].item(), abs=1e-9)
        middle = exact.velocity(torch.zeros(1, 3, dtype=torch.float64), t[:1])[0, 0]
        assert offset.item() == pytest.approx(middle.item(), abs=1e-9)


def test_the_loss_is_the_mean_square_of_each_sample():
    x, t = noise(4), torch.full((4,), 0.5, dtype=torch.float64)
    loss = distilling.guidance_loss(
        lambda x, t: x + torch.arange(4.0)[:, None], lambda x, t: x, x, t
    )
    torch.testing.assert_close(loss, torch.arange(4.0, dtype=torch.float64) ** 2)


def test_the_teacher_gets_no_gradient():
    weights = torch.ones(2, dtype=torch.float64, requires_grad=True)
    x, t = noise(), torch.full((5,), 0.5, dtype=torch.float64)
    distilling.guidance_loss(lambda x, t: weights[0] * x, lambda x, t: 2 * weights[1] * x, x, t)[
        0
    ].backward()
    assert weights.grad[0] != 0
    assert weights.grad[1] == 0
