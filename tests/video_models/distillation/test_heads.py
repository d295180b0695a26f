"""Adversarial heads and the two games that they play: signs, penalties, and where gradient goes."""

import pytest
import torch
from torch import nn

from tests.video_models.diffusion.gaussian import example
from video_models.distillation import add, heads, ladd

GRID = (2, 3, 2)
N = 12


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def made(condition_dim=0, dims=(5, 5)):
    return heads.Heads(dims, condition_dim=condition_dim, width=8).double()


def tokens(num=4, dim=5, shift=0.0):
    return torch.randn(num, N, dim, dtype=torch.float64) + shift


class FrozenTeacher(nn.Module):
    """Latents (B, 5, F, R, Q) to tokens after two layers; frozen, as a teacher is."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Linear(5, 5).double() for _ in range(2))
        self.requires_grad_(False)

    def forward(self, x, t):
        one = torch.tanh(self.first(x.flatten(2).transpose(1, 2)) + t[:, None, None])
        return [one, torch.tanh(self.second(one))]


def latents(num=4):
    return torch.randn(num, 5, *GRID, dtype=torch.float64)


T = torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64)


def test_every_head_judges_every_token():
    assert made()([tokens(), tokens()], GRID).shape == (4, 2 * N)


def test_features_without_a_head_are_an_error():
    with pytest.raises(ValueError, match="1 features for 2 heads"):
        made()([tokens()], GRID)


def test_samples_are_judged_apart():
    judge, features = made(3), [tokens(), tokens()]
    condition = torch.randn(4, 3, dtype=torch.float64)
    alone = judge([f[1:2] for f in features], GRID, condition[1:2])
    torch.testing.assert_close(judge(features, GRID, condition)[1:2], alone)


def test_a_head_sees_neighbours_in_time_and_space_and_no_further():
    head = made(dims=(5,)).heads[0]
    head.norm = nn.Identity()  # which looks at the whole clip
    x = tokens(1).requires_grad_()
    head(x, GRID)[0, 0].backward()
    seen = x.grad[0].abs().sum(1).reshape(GRID) > 0
    assert seen[:2, :2, :2].all()
    assert not seen[:, 2].any()


def test_the_condition_decides():
    judge, features = made(3), [tokens(), tokens()]
    one, other = torch.randn(2, 4, 3, dtype=torch.float64)
    assert not torch.equal(judge(features, GRID, one), judge(features, GRID, other))


class Linear(nn.Module):
    """A head whose logit is u f, so that its penalty is known."""

    def __init__(self, u):
        super().__init__()
        self.u = nn.Parameter(u)

    def forward(self, tokens, grid, condition=None):
        return tokens @ self.u


def linear_heads():
    judge = made()
    judge.heads = nn.ModuleList(
        Linear(torch.arange(1.0, 6.0, dtype=torch.float64) * k) for k in (1, 2)
    )
    return judge


def test_r1_of_a_linear_head_is_the_square_of_its_weights():
    judge = linear_heads()
    squares = sum((h.u.detach() ** 2).sum() for h in judge.heads)
    # The mean over N tokens: each token's gradient is u / N, and there are N of them.
    found = judge.penalty([tokens(), tokens()], GRID)
    torch.testing.assert_close(found, (squares / N / 2).expand(4))


def test_r1_trains_the_heads():
    judge = linear_heads()
    judge.penalty([tokens(), tokens()], GRID).sum().backward()
    for h in judge.heads:
        torch.testing.assert_close(h.u.grad, 4 * h.u.detach() / N)


def hinge_by_hand(judge, real, fake):
    up, down = judge(real, GRID), judge(fake, GRID)
    return ((1 - up).clamp_min(0).mean(1) + (1 + down).clamp_min(0).mean(1)) / 2


def test_the_heads_side_is_hinge_and_penalty():
    judge, real, fake = made(), [tokens(), tokens()], [tokens(), tokens()]
    found = heads.tell_apart(judge, real, fake, grid=GRID, r1=0.3).loss
    expected = hinge_by_hand(judge, real, fake) + 0.3 * judge.penalty(real, GRID)
    torch.testing.assert_close(found, expected)


def separation(*, steps=200):
    """How much higher trained heads judge real tokens, which are shifted, than fake ones."""
    judge = made()
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-2)
    for _ in range(steps):
        real, fake = [tokens(8, shift=0.7) for _ in "ab"], [tokens(8) for _ in "ab"]
        optimizer.zero_grad()
        heads.tell_apart(judge, real, fake, grid=GRID).loss.mean().backward()
        optimizer.step()
    real, fake = [tokens(64, shift=0.7) for _ in "ab"], [tokens(64) for _ in "ab"]
    return (judge(real, GRID).mean() - judge(fake, GRID).mean()).item()


def test_trained_heads_tell_real_from_fake():
    assert separation() > 0.5


def ladd_gradients():
    """Gradients of the student's loss: by the fake latents, by the heads, by the frozen teacher."""
    judge, teacher, fake = made(), FrozenTeacher(), latents().requires_grad_()
    ladd.student_loss(judge, teacher, fake, latents(), T, grid=GRID).sum().backward()
    frozen = [p.grad for p in teacher.parameters()]
    return fake.grad, judge, teacher, frozen


def test_the_students_gradient_flows_through_the_frozen_teacher():
    gradient, _, _, frozen = ladd_gradients()
    assert gradient.abs().sum() > 0
    assert all(grad is None for grad in frozen)


def test_a_step_of_the_student_makes_the_heads_believe_it_more():
    judge, teacher = made(), FrozenTeacher()
    fake, noise = latents().requires_grad_(), latents()

    def believed(x):
        return ladd.judge(judge, teacher, x, noise, T, grid=GRID).mean()

    before = believed(fake)
    loss = ladd.student_loss(judge, teacher, fake, noise, T, grid=GRID).sum()
    (gradient,) = torch.autograd.grad(loss, fake)
    assert believed(fake - 0.1 * gradient) > before


def test_the_heads_side_sees_real_and_fake_noised_alike_and_gives_the_student_no_gradient():
    judge, teacher = made(), FrozenTeacher()
    real, fake, noise = latents(), latents().requires_grad_(), latents()
    loss = ladd.discriminator_loss(judge, teacher, real, fake, noise, T, grid=GRID).loss

    def seen(x):
        return teacher((1 - T.view(-1, 1, 1, 1, 1)) * x + T.view(-1, 1, 1, 1, 1) * noise, T)

    torch.testing.assert_close(loss, hinge_by_hand(judge, seen(real), seen(fake.detach())))
    loss.sum().backward()
    assert fake.grad is None
    assert all(p.grad is not None for n, p in judge.named_parameters())


def test_the_students_times_come_as_often_as_they_should():
    t = ladd.draw_student_times(
        8000,
        (1.0, 0.75, 0.5, 0.25),
        (0.7, 0.1, 0.1, 0.1),
        generator=torch.Generator().manual_seed(0),
    )
    for time, share in ((1.0, 0.7), (0.75, 0.1), (0.5, 0.1), (0.25, 0.1)):
        assert (t == time).float().mean().item() == pytest.approx(share, abs=0.02)


WORLD = example()


def test_the_teachers_pull_is_weighted_by_the_signal():
    x, noise = torch.randn(2, 4, 3, dtype=torch.float64)
    x_t = (1 - T)[:, None] * x + T[:, None] * noise
    expected = (1 - T) * (x - WORLD.denoised(x_t, T)).square().mean(1)
    torch.testing.assert_close(add.teacher_loss(WORLD.velocity, x, noise, T), expected)


def test_the_teacher_gets_no_gradient_and_the_student_does():
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    x, noise = torch.randn(2, 4, 3, dtype=torch.float64)
    x.requires_grad_()
    add.teacher_loss(lambda z, t: weight * z, x, noise, T).sum().backward()
    assert weight.grad is None
    assert x.grad.abs().sum() > 0


def test_add_adds_the_game_on_frames_and_the_pull_on_latents():
    judge, vision = made(), FrozenTeacher()
    x = torch.randn(4, 5, *GRID, dtype=torch.float64).requires_grad_()
    frames = 2 * x
    noise = latents()

    def features(video):
        return vision(video, 0 * T)

    def teacher(z, t):
        return -z

    found = add.student_loss(judge, features, teacher, x, frames, noise, T, grid=GRID, weight=2.5)
    game, pull = -judge(features(frames), GRID).mean(1), add.teacher_loss(teacher, x, noise, T)
    torch.testing.assert_close(found.loss, game + 2.5 * pull)
    torch.testing.assert_close(found.score, -game)
    torch.testing.assert_close(found.distance, pull)
    frames.retain_grad()
    found.loss.sum().backward()
    assert x.grad.abs().sum() > 0
    assert frames.grad.abs().sum() > 0
    assert all(p.grad is None for p in vision.parameters())


def test_the_penalty_is_taken_at_the_features_of_real_frames():
    judge, vision = made(), FrozenTeacher()
    real, fake = latents(), latents()

    def features(video):
        return vision(video, 0 * T)

    found = add.discriminator_loss(judge, features, real, fake, grid=GRID, r1=0.2).loss
    expected = hinge_by_hand(judge, features(real), features(fake))
    torch.testing.assert_close(found, expected + 0.2 * judge.penalty(features(real), GRID))
