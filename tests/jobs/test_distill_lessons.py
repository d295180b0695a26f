"""What networks learn from a micro-batch in each stage, against the same written out by hand."""

import dataclasses
import functools
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from jobs.distill_frames import FramesGame, latent_frames
from jobs.distill_game import TwoPlayerStep, comparison
from jobs.distill_matching import DMD, dmd_turn
from jobs.distill_players import GAMES
from jobs.distill_setting import Setting, tempered
from jobs.distill_stage import AddConfig, StageConfig
from jobs.distill_trajectory import TRAJECTORIES, TrajectoryStep
from jobs.latents import LatentSource
from jobs.recipe import Recipe
from tests.jobs.latent_cache import fill
from tests.jobs.test_distill import RECIPE
from tests.tiny import make_autoencoder, make_card, make_transformer
from tests.tiny_vision import make_vision
from video_models.diffusion.config import TimestepConfig
from video_models.diffusion.guidance import conditioned, guide, guided
from video_models.diffusion.guidance_config import GuidanceConfig
from video_models.diffusion.guidance_rules import steered
from video_models.diffusion.samplers import sample_euler
from video_models.distillation import dmd
from video_models.formats import fingerprint, save_autoencoder
from video_models.text.encoder import open_text_encoder
from video_platform.config import load_recipe
from video_platform.errors import ConfigError
from video_platform.training.config import TrainingConfig
from video_platform.training.loop import At

TRAINING = TrainingConfig(steps=12, batch_size=4, micro_batch_size=4)
AT = At(step=3, seed=0)
SCALE, SHIFT = 4.0, 3.0


@functools.cache
def world():
    """A folder that lives as long as the tests, a source of latents, and a batch of four clips."""
    kept = tempfile.TemporaryDirectory()
    folder = Path(kept.name)
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder))
    model, card = make_autoencoder(), make_card()
    save_autoencoder(model, folder / "vae")
    make_vision(folder / "vision")
    encoder = open_text_encoder(card.text)
    fill(f"{folder}/cache", 8, maker=fingerprint(model), encoder=encoder, shapes=[(4, 3, 4, 4)])
    source = LatentSource(load_recipe(Recipe, folder / "recipe.yaml", []))
    parts, _ = source.split(1.0, seed=0)
    return kept, source, next(source.fixed_batches(parts, most=4))


def opened(method="dmd", *, dtype=torch.float32, **knobs):
    """Return the setting of a stage, and a batch; teacher and student differ."""
    kept, source, batch = world()
    if method == "add":
        knobs = {"add": AddConfig(vision=f"{kept.name}/vision", frames=1, weight=0.0)} | knobs
    stage = StageConfig(**({"method": method, "training": TRAINING, "steps": 2} | knobs))
    teacher = make_transformer().requires_grad_(False).to(dtype)
    setting = Setting(
        stage=stage,
        source=source,
        teacher=teacher,
        start=teacher,
        scale=SCALE,
        guiding=GuidanceConfig(),
        steps=8,
        shift=SHIFT,
        device=torch.device("cpu"),
        dtype=dtype,
    )
    return setting, batch


def other(seed):
    """A network that is not the teacher."""
    torch.manual_seed(seed)
    network = make_transformer()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def engine(network):
    """What a lesson needs of an engine."""
    return SimpleNamespace(module=network, dtype=torch.float32)


def playing(setting, second, game=DMD):
    return TwoPlayerStep(engine(other(8)), engine(second), setting, game, watch=None)


def following(setting):
    return TrajectoryStep(engine(other(8)), setting, watch=None)


def velocity(setting, batch, network):
    return conditioned(network, setting.text(batch))


def guided_by_hand(setting, batch):
    """The teacher's guided velocity in two calls."""
    text = setting.text(batch)
    empty = setting.source.empty_text[torch.zeros(len(text), dtype=torch.long)]
    both = [conditioned(setting.teacher, each) for each in (text, empty)]
    return lambda x, t: guide(both[0](x, t), both[1](x, t), SCALE)


def test_the_fake_network_is_asked_without_guidance():
    setting, batch = opened()
    fake = other(9)
    step = playing(setting, fake)
    found = dmd_turn(step, batch, AT)
    x, (noise, t) = step.sample(batch, AT), comparison(setting, batch, AT)
    by_hand = dmd.matching(
        velocity(setting, batch, fake), guided_by_hand(setting, batch), x.detach(), noise, t
    )
    torch.testing.assert_close(
        found.losses, dmd.dmd_loss(x, by_hand.direction), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(found.times, t)


def test_a_sample_is_the_end_of_the_students_own_trajectory():
    setting, batch = opened(steps=4)
    step = playing(setting, other(9))
    for at in (At(step=number, seed=0) for number in range(6)):
        index, grid = step.sampled_step(at), setting.grid(4).float()
        student, x = velocity(setting, batch, step.student.module), setting.noise(batch, at)
        for place in range(index + 1):
            t = grid[place].expand(len(x))
            clean = x - t[0] * student(x, t)
            after = grid[place + 1]
            x = (1 - after) * clean + after * setting.noise(batch, at, "again", place)
        torch.testing.assert_close(step.sample(batch, at), clean, rtol=1e-4, atol=1e-5)
    assert len({step.sampled_step(At(step=number, seed=0)) for number in range(40)}) == 4


@pytest.mark.parametrize("jumps", ["edge", "end"])
def test_on_noised_clips_the_student_jumps_to_where_it_jumps_from_the_teachers_step(jumps):
    setting, batch = opened("consistency", jumps=jumps, steps=2)
    step = following(setting)
    lesson = TRAJECTORIES["consistency"](step, batch, AT)
    grid, index = setting.grid(8).float(), setting.index(batch, AT, 8)
    t, r = grid[index], grid[index + 1]
    edge = torch.where(t > grid[4], grid[4], 0.0) if jumps == "edge" else torch.zeros(4)
    shape = (-1, 1, 1, 1, 1)
    t_, r_, edge_ = (each.view(shape) for each in (t, r, edge))
    x_t = (1 - t_) * setting.clean(batch, AT) + t_ * setting.noise(batch, AT)
    x_r = x_t + (r_ - t_) * guided_by_hand(setting, batch)(x_t, t)
    student = velocity(setting, batch, step.engine.module)
    goal, landed = x_r + (edge_ - r_) * student(x_r, r), x_t + (edge_ - t_) * student(x_t, t)
    expected = (goal - landed).square().flatten(1).mean(1)
    torch.testing.assert_close(lesson.losses, expected, rtol=1e-3, atol=1e-6)


def test_on_trajectories_the_student_learns_at_states_of_the_teacher_from_pure_noise():
    setting, batch = opened("consistency", states="trajectories", intervals=4, steps=2)
    step = following(setting)
    lesson = TRAJECTORIES["consistency"](step, batch, AT)
    states = [setting.noise(batch, AT)[:1]]
    sample_euler(
        lambda x, t: guided_by_hand(setting, batch)(x.expand(4, -1, -1, -1, -1), t.expand(4))[:1],
        states[0],
        setting.grid(4),
        callback=lambda *told: states.append(told[2]),
    )
    grid, student = setting.grid(4).float(), velocity(setting, batch, step.engine.module)
    by_time = dict(zip(lesson.times.tolist(), lesson.losses.tolist(), strict=True))
    assert len(by_time) == 4  # every step of the one clip, once
    for index in range(4):
        t, r, edge = grid[index], grid[index + 1], grid[2 if index < 2 else 4]

        def jumped(x, time, edge=edge):
            many = x.float().expand(4, -1, -1, -1, -1)
            return many[:1] + (edge - time) * student(many, time.expand(4))[:1]

        off = jumped(states[index], t) - jumped(states[index + 1], r)
        found = by_time[setting.grid(4)[index].item()]
        assert found == pytest.approx(off.square().mean().item(), rel=2e-3)


def add_game(**knobs):
    setting, batch = opened("add", **knobs)
    heads, game = GAMES["add"](setting)
    frames: FramesGame = game.student.__self__
    return setting, batch, playing(setting, heads, game), frames


def test_adds_gradient_reaches_the_student_through_the_decoder():
    _, batch, step, game = add_game()
    step.game.student(step, batch, AT).losses.mean().backward()  # weight 0: by the game alone
    assert all(p.grad is not None for p in step.student.module.parameters() if p.requires_grad)
    assert sum(p.grad.abs().sum() for p in step.student.module.parameters()) > 0
    frozen = (game.vision, game.autoencoder, step.second.module)
    assert all(p.grad is None for each in frozen for p in each.parameters())


def test_add_computes_with_networks_in_bf16():
    setting, batch = opened("add", dtype=torch.bfloat16)
    heads, game = GAMES["add"](setting)
    players = [
        SimpleNamespace(module=network.bfloat16(), dtype=torch.bfloat16)
        for network in (other(8), heads)
    ]
    step = TwoPlayerStep(*players, setting, game, watch=None)
    for turn in (game.second, game.student):
        assert turn(step, batch, AT).losses.isfinite().all()


def test_adds_heads_learn_and_the_student_does_not_meanwhile():
    _, batch, step, _ = add_game()
    lesson = step.game.second(step, batch, AT)
    lesson.losses.mean().backward()
    assert all(p.grad is not None for p in step.second.module.parameters())
    assert all(p.grad is None for p in step.student.module.parameters())
    assert {"heads/accuracy_real", "heads/accuracy_fake", "scores/real"} <= lesson.told.keys()


def test_adds_heads_see_the_same_window_of_clip_and_student():
    setting, batch, _, game = add_game()
    one, two = setting.clean(batch, AT), setting.noise(batch, AT)
    vae, windows = setting.source.autoencoder, set()
    for at in (At(step=number, seed=0) for number in range(12)):
        shown = game._decoded(one, at), game._decoded(two, at)
        places = [
            place
            for place in range(3)
            if all(
                torch.allclose(
                    found, vae.decode(vae.denormalise(x[:, :, place : place + 1])), atol=1e-5
                )
                for found, x in zip(shown, (one, two), strict=True)
            )
        ]
        assert len(places) == 1
        windows.update(places)
    assert windows == {0, 1, 2}


def test_adds_student_jumps_from_each_clips_own_time():
    setting, batch, step, game = add_game()
    grid, student = setting.grid(2).float(), velocity(setting, batch, step.student.module)
    seen = set()
    for at in (At(step=number, seed=number) for number in range(4)):
        x, t = game._denoised(step, batch, at)
        assert set(t.tolist()) <= set(grid[:-1].tolist())
        seen.update(t.tolist())
        t_ = t.view(-1, 1, 1, 1, 1)
        x_t = (1 - t_) * setting.clean(batch, at) + t_ * setting.noise(batch, at)
        torch.testing.assert_close(x, x_t - t_ * student(x_t, t), rtol=1e-4, atol=1e-5)
        real = game._decoded(setting.clean(batch, at), at)
        told = game._condition(batch, real, t)[:, -game.vision.dim :]
        assert torch.equal(told.abs().sum(dim=1) > 0, t < 1)
    assert seen == set(grid[:-1].tolist())


def test_frames_that_are_no_whole_latents_are_refused_by_name():
    assert latent_frames(None, 4) is None
    assert [latent_frames(frames, 4) for frames in (1, 5, 9)] == [1, 2, 3]
    with pytest.raises(ConfigError, match=r"add\.frames is 4"):
        latent_frames(4, 4)


def test_states_and_velocities_are_fp32_whatever_networks_compute_in():
    setting, batch = opened(dtype=torch.bfloat16)
    x = setting.noised(batch, AT, setting.times(batch, AT))
    assert x.dtype == torch.float32
    v = setting.guided_teacher(setting.text(batch))(x, torch.full((4,), 0.5))
    assert v.dtype == torch.float32


@pytest.mark.parametrize(
    "config",
    [
        GuidanceConfig(),
        GuidanceConfig(rule="cfg_zero", rescale=0.7),
        GuidanceConfig(interval=(0.3, 0.8), zero_above=0.9),
        GuidanceConfig(rule="apg", momentum=0.0, limit=1.0, eta=0.2),
    ],
)
def test_guidance_is_tempered_at_each_samples_time_as_in_sampling(config):
    setting, batch = opened()
    text, x = setting.text(batch), setting.noise(batch, AT)
    t = torch.tensor([0.2, 0.5, 0.85, 0.95])
    together = guided(
        setting.teacher, text, setting.source.empty_text, SCALE, combine=tempered(config)
    )(x, t)
    for row in range(4):
        rows = slice(row, row + 1)
        alone = steered(setting.teacher, text[rows], setting.source.empty_text, SCALE, config)
        torch.testing.assert_close(together[rows], alone(x[rows], t[rows]), rtol=1e-4, atol=1e-5)


def test_first_steps_without_velocity_are_left_to_those_who_imitate_steps():
    for method, zero in (("progressive", True), ("dmd", False)):
        setting, batch = opened(method)
        setting = dataclasses.replace(setting, guiding=GuidanceConfig(zero_above=0.9))
        teacher = setting.guided_teacher(setting.text(batch))
        v = teacher(setting.noise(batch, AT), torch.full((4,), 0.95))
        assert (not v.any()) == zero


def test_times_are_shifted_as_the_teacher_is_sampled_unless_said_otherwise():
    setting, batch = opened()
    given, _ = opened(timesteps=TimestepConfig(density="uniform"))
    shifted, plain = setting.times(batch, AT), given.times(batch, AT)
    torch.testing.assert_close(shifted, SHIFT * plain / (1 + (SHIFT - 1) * plain))
