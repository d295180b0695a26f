"""Guidance distillation against the closed form: the guided law of two Gaussians is a Gaussian."""

import itertools

import pytest
import torch

from tests.video_models.diffusion.gaussian import Gaussian, example, noise
from tests.video_models.distillation.mutation import mutated
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


def teacher(w, num, code=guiding):
    return code.guided(network, text(num, 1.0), text(1, 0.0), w)


def loss_of_the_exact_student(w, code=guiding, loss=distilling.guidance_loss):
    x = noise()
    t = torch.linspace(0, 1, len(x), dtype=torch.float64)
    return loss(law(w).velocity, teacher(w, len(x), code), x, t).max().item()


def drift_of_states(w, code=distilling):
    """How far the drawn states and targets are from those of the exact guided law."""
    x, grid = noise(), sampling_grid(8, shift=3.0)
    states, times, velocities = code.guided_states(teacher(w, len(x)), x, grid)
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


GUIDING_MUTATIONS = {
    "the scale counts from zero": ("unconditional + scale *", "unconditional + (scale - 1) *"),
    "guidance on the wrong branch": (
        "conditional, unconditional = both",
        "unconditional, conditional = both",
    ),
    "added to the caption's branch": (
        "return unconditional + scale",
        "return conditional + scale",
    ),
    "the empty caption is not empty": ("join(text, empty)", "join(text, text)"),
}


@pytest.mark.parametrize("name", sorted(GUIDING_MUTATIONS))
def test_a_broken_target_is_noticed(name):
    code = mutated(guiding, *GUIDING_MUTATIONS[name])
    assert loss_of_the_exact_student(7.5, code) > 1e-2


def test_guidance_applied_twice_is_noticed():
    def guided_network(x, t, embeddings, **more):
        empty = text(len(x), 0.0).embeddings
        return guiding.guide(network(x, t, embeddings, **more), network(x, t, empty, **more), 2.0)

    x = noise()
    t = torch.linspace(0, 1, len(x), dtype=torch.float64)
    compounded = guiding.guided(guided_network, text(len(x), 1.0), text(1, 0.0), 2.0)
    assert distilling.guidance_loss(law(2.0).velocity, compounded, x, t).max() > 1e-2


STATE_MUTATIONS = {
    "states beside the trajectory": ("states.append(x)", "states.append(x - 0.1 * t[:, None])"),
    "targets of other states": (
        "velocities.append(v)",
        "velocities.append(velocities[-1] if velocities else v)",
    ),
    "the grid runs backwards": (
        "sample_euler(recorded, noise, grid)",
        "sample_euler(recorded, noise, grid.flip(0))",
    ),
}


@pytest.mark.parametrize("name", sorted(STATE_MUTATIONS))
def test_broken_states_are_noticed(name):
    assert drift_of_states(7.5, mutated(distilling, *STATE_MUTATIONS[name])) > 1e-2


def test_a_loss_that_lets_gradient_into_the_teacher_is_noticed():
    code = mutated(distilling, "    with torch.no_grad():\n", "    if True:\n")
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    x, t = noise(), torch.full((5,), 0.5, dtype=torch.float64)
    code.guidance_loss(lambda x, t: 3 * x, lambda x, t: weight * x, x, t).sum().backward()
    assert weight.grad != 0
