"""Guidance: its arithmetic, its exact law on Gaussians, and what it costs."""

import pytest
import torch

from tests.video_models.diffusion.gaussian import Gaussian, example, noise
from video_models.diffusion.guidance import conditioned, guide, guided
from video_models.diffusion.samplers import sample_heun
from video_models.diffusion.timesteps import sampling_grid
from video_models.text.batch import TextBatch


def text(*values):
    embeddings = torch.tensor(values, dtype=torch.float64)[:, None, None]
    return TextBatch(embeddings=embeddings, mask=torch.ones(len(values), 1, dtype=torch.bool))


class TwoWorlds:
    """A network whose text is 1 for the captioned world and 0 for the whole world."""

    def __init__(self):
        self.captioned = example(0.7)
        self.whole = Gaussian(-self.captioned.mean, self.captioned.std)
        self.rows = []

    def __call__(self, x, t, embeddings, *, text_mask, guidance):
        self.rows.append(len(x))
        assert len(text_mask) == len(x)
        chosen = embeddings[:, 0]
        return chosen * self.captioned.velocity(x, t) + (1 - chosen) * self.whole.velocity(x, t)


@pytest.mark.parametrize("w", [0.0, 1.0, 2.0, 7.5])
def test_the_guided_velocity_is_that_of_the_shifted_gaussian(w):
    network, x = TwoWorlds(), noise()
    t = torch.linspace(0, 1, len(x), dtype=torch.float64)
    whole, captioned = network.whole, network.captioned
    law = Gaussian(whole.mean + w * (captioned.mean - whole.mean), captioned.std)
    v = guided(network, text(*[1.0] * len(x)), text(0.0), w)(x, t)
    torch.testing.assert_close(v, law.velocity(x, t), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("w", [0.0, 1.0, 2.0, 7.5])
def test_guided_samples_move_in_mean_and_keep_their_spread(w):
    network, x = TwoWorlds(), noise(4000)
    velocity = guided(network, text(*[1.0] * len(x)), text(0.0), w)
    samples = sample_heun(velocity, x, sampling_grid(64))
    mean = network.whole.mean + w * (network.captioned.mean - network.whole.mean)
    torch.testing.assert_close(samples.mean(0), mean, rtol=0, atol=0.05)
    torch.testing.assert_close(samples.std(0), network.captioned.std, rtol=0.05, atol=0)


def test_a_scale_of_one_skips_the_unconditional_half():
    network, x = TwoWorlds(), noise(3)
    t = torch.full((3,), 0.5, dtype=torch.float64)
    guided(network, text(1.0, 1.0, 1.0), text(0.0), 1.0)(x, t)
    guided(network, text(1.0, 1.0, 1.0), text(0.0), 2.0)(x, t)
    assert network.rows == [3, 6]


def test_each_sample_may_have_its_own_scale():
    network, x = TwoWorlds(), noise(3)
    t = torch.full((3,), 0.5, dtype=torch.float64)
    scales = [1.0, 4.0, 7.5]
    together = guided(
        network, text(1.0, 1.0, 1.0), text(0.0), torch.tensor(scales, dtype=torch.float64)
    )(x, t)
    for row, w in enumerate(scales):
        alone = guided(network, text(1.0), text(0.0), w)(x[[row]], t[[row]])
        torch.testing.assert_close(together[[row]], alone)


def test_a_negative_caption_for_each_sample_is_taken_as_it_is():
    network, x = TwoWorlds(), noise(2)
    t = torch.full((2,), 0.5, dtype=torch.float64)
    one = guided(network, text(1.0, 1.0), text(0.0, 0.0), 3.0)(x, t)
    torch.testing.assert_close(one, guided(network, text(1.0, 1.0), text(0.0), 3.0)(x, t))


def test_guide_is_linear_in_the_scale():
    c, u = noise(2), noise(2, seed=1)
    torch.testing.assert_close(guide(c, u, 0.0), u)
    torch.testing.assert_close(guide(c, u, 1.0), c)
    torch.testing.assert_close(guide(c, u, 3.0), 3 * c - 2 * u)


def test_the_scale_reaches_a_student_that_takes_it():
    seen = []

    def student(x, t, embeddings, *, text_mask, guidance):
        seen.append(guidance)
        return x

    scale = torch.tensor([4.0])
    conditioned(student, text(1.0), guidance=scale)(noise(1), torch.ones(1))
    assert seen == [scale]
