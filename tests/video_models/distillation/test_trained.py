"""Whole distillations of small networks in the plane, against what each is known to reach.

pytest -m slow tests/video_models/distillation/test_trained.py
"""

import copy

import pytest
import torch
from torch import nn

from tests.video_models.distillation.plane import (
    Network,
    data,
    distance,
    fit,
    noised,
    pretrained,
    teacher,
    wasserstein,
)
from video_models.diffusion.samplers import sample_ancestral, sample_euler
from video_models.diffusion.timesteps import sampling_grid
from video_models.distillation import consistency, guidance, ladd, moment_matching, progressive
from video_models.distillation.heads import Heads

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def start():
    torch.manual_seed(0)
    network = pretrained(torch.Generator().manual_seed(1))
    assert distance(network, 16, shown=16) < 0.05
    return network


@pytest.fixture
def draw():
    torch.manual_seed(2)
    return torch.Generator().manual_seed(3)


def test_consistency_of_four_intervals_learns_four_euler_steps(start, draw):
    student, grid = copy.deepcopy(start), sampling_grid(4).float()

    def loss_of(step):
        hop = consistency.hop(torch.randint(4, (256,), generator=draw), grid)
        x_t, _ = noised(256, draw, hop.start)
        return consistency.consistency_loss(student, student, teacher, x_t, hop).mean()

    fit(student, loss_of, 5000)
    assert distance(student, 4) < 0.05
    assert distance(student, 4096) > 0.2  # it is not the exact flow that it learns


def test_progressive_from_sixteen_steps_to_one_learns_sixteen_euler_steps(start, draw):
    student, teaching = copy.deepcopy(start), teacher
    for steps in (8, 4, 2, 1):

        def loss_of(step, steps=steps, teaching=teaching):
            index = torch.randint(steps, (256,), generator=draw)
            interval = progressive.student_interval(index, steps)
            z, _ = noised(256, draw, interval.start.float())
            return progressive.halving_loss(student, teaching, z, interval).mean()

        fit(student, loss_of, 2000)
        teaching = copy.deepcopy(student).requires_grad_(False)
    assert distance(student, 16) < 0.08


MEANS = torch.tensor([2.0, -1.0]), torch.tensor([0.0, 0.5])
STD = 0.7
SCALES = (1.0, 3.0, 7.5)


def gaussian_velocity(x, t, mean):
    t = t[:, None]
    var = ((1 - t) * STD) ** 2 + t**2
    return -mean + (t - (1 - t) * STD**2) / var * (x - (1 - t) * mean)


def guided_teacher(scale):
    def velocity(x, t):
        c, u = (gaussian_velocity(x, t, mean) for mean in MEANS)
        return u + scale[:, None] * (c - u)

    return velocity


def guidance_student(draw, *, on_trajectories):
    """A student of scales from 0 to 9; its inputs are guided states, or noised data."""
    student = Network(extra=1)

    def loss_of(step):
        scale = 9 * torch.rand(64, generator=draw)
        teaching = guided_teacher(scale)
        if on_trajectories:
            grid = sampling_grid(8).float()
            grid[1:-1] += (torch.rand(7, generator=draw) - 0.5) / 8
            noise = torch.randn(64, 2, generator=draw)
            states, times, goal = guidance.guided_states(teaching, noise, grid)
            x_t, t = states.flatten(0, 1), times.flatten()
            told = scale.repeat(8)[:, None] / 9
            return (student(x_t, t, told) - goal.flatten(0, 1)).square().mean()
        t = torch.rand(64, generator=draw)
        clean = MEANS[0] + STD * torch.randn(64, 2, generator=draw)
        x_t = (1 - t)[:, None] * clean + t[:, None] * torch.randn(64, 2, generator=draw)
        told = scale[:, None] / 9
        return guidance.guidance_loss(lambda x, t: student(x, t, told), teaching, x_t, t).mean()

    fit(student, loss_of, 4000, rate=2e-3)
    return student


def guided_means(student):
    means = []
    for scale in SCALES:
        told = torch.full((4096, 1), scale / 9)
        noise = torch.randn(4096, 2, generator=torch.Generator().manual_seed(5))
        with torch.no_grad():
            samples = sample_euler(
                lambda x, t, told=told: student(x, t, told), noise, sampling_grid(64).float()
            )
        means.append((samples.mean(0), samples.std(0)))
    return means


def test_guidance_is_baked_in_at_every_scale_and_only_from_guided_states(draw):
    worst = {}
    for where in (True, False):
        found = guided_means(guidance_student(draw, on_trajectories=where))
        errors = []
        for scale, (mean, std) in zip(SCALES, found, strict=True):
            exact = MEANS[1] + scale * (MEANS[0] - MEANS[1])
            errors.append((mean - exact).abs().max().item())
            if where:
                assert std.tolist() == pytest.approx([STD, STD], abs=0.12)
        worst[where] = errors
    assert max(worst[True]) < 0.4
    assert worst[False][-1] > 2 * worst[True][-1]


def test_moment_matching_in_two_steps_learns_the_distribution(start, draw):
    student, auxiliary = copy.deepcopy(start), copy.deepcopy(start)
    players = {
        name: torch.optim.Adam(network.parameters(), lr=rate, betas=(0.0, 0.99))
        for name, network, rate in (("student", student, 3e-4), ("auxiliary", auxiliary, 1e-3))
    }
    for step in range(6000):
        t, s = moment_matching.draw_pairs(256, 2, generator=draw)
        z_t, _ = noised(256, draw, t)
        turn = "auxiliary" if step % 2 == 0 else "student"
        with torch.set_grad_enabled(turn == "student"):
            clean = moment_matching.denoise(student, z_t, t)
        noise = torch.randn(256, 2, generator=draw)
        z_s = moment_matching.noised_again(clean.detach(), z_t, t, s, noise)
        losses = {
            "auxiliary": moment_matching.auxiliary_loss,
            "student": moment_matching.matching_loss,
        }
        players[turn].zero_grad()
        losses[turn](auxiliary, teacher, clean, z_s, s).mean().backward()
        players[turn].step()
    x = torch.randn(8192, 2, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        samples = sample_ancestral(
            student, x, sampling_grid(2).float(),
            renoise=lambda index: torch.randn(8192, 2, generator=draw),
        )  # fmt: skip
    assert wasserstein(samples) < 0.15


def test_ladd_in_one_step_comes_near_the_distribution(start, draw):
    student, frozen = copy.deepcopy(start), copy.deepcopy(start).requires_grad_(False)
    heads = Heads([128, 128, 128], condition_dim=0, width=64)
    for head in heads.heads:
        head.norm, head.around = nn.Identity(), nn.Conv3d(64, 64, 1)  # a token has no neighbours
    grid = (1, 1, 1)

    def features(x_t, t):
        return [h[:, None] for h in frozen.hidden(x_t, t)]

    players = [
        torch.optim.Adam(net.parameters(), lr=rate, betas=(0.0, 0.99))
        for net, rate in ((student, 2e-4), (heads, 1e-3))
    ]
    for _ in range(4000):
        noise, ones = torch.randn(256, 2, generator=draw), torch.ones(256)
        fake = consistency.jump(student, noise, ones, 0 * ones)
        t = torch.sigmoid(torch.randn(256, generator=draw))
        again = torch.randn(256, 2, generator=draw)
        players[1].zero_grad()
        ladd.discriminator_loss(
            heads, features, data(256, draw), fake.detach(), again, t, grid=grid, r1=1e-2
        ).loss.mean().backward()
        players[1].step()
        players[0].zero_grad()
        ladd.student_loss(heads, features, fake, again, t, grid=grid).mean().backward()
        players[0].step()
    x = torch.randn(8192, 2, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        samples = consistency.jump(student, x, torch.ones(8192), torch.zeros(8192))
        before = consistency.jump(start, x, torch.ones(8192), torch.zeros(8192))
    assert wasserstein(samples) < 0.4 < wasserstein(before)
