"""Games whose second network denoises the student's samples, as the frozen teacher denoises clips.

Where the two differ, the student has to go.

Legend: B clips, x clean samples of the student.
"""

import torch
from torch import Tensor

from jobs.distill_game import Game, TwoPlayerStep, comparison
from jobs.distill_heads import Judges, believed, told_apart
from jobs.distill_setting import Batch, Lesson
from jobs.distill_trajectory import angle_setting
from video_models.diffusion.timesteps import shift_times
from video_models.distillation.dmd import dmd_loss, matching
from video_models.distillation.moment_matching import (
    auxiliary_loss,
    denoise,
    matching_loss,
    noised_again,
)
from video_models.distillation.rcm import rcm_loss
from video_models.objectives.denoising import flow_matching_loss
from video_platform.training.draws import generator
from video_platform.training.loop import At


def fake_turn(step: TwoPlayerStep, batch: Batch, at: At) -> Lesson:
    """Teach the second network to denoise the student's samples, and its heads to know them."""
    with torch.no_grad():
        x = step.sample(batch, at)
    noise, t = comparison(step.setting, batch, at)
    denoising = flow_matching_loss(step.velocity(step.second.module, batch), x, noise=noise, t=t)
    lesson = Lesson(losses=denoising, times=t, forwards=2 + step.sampled_step(at))
    if not isinstance(step.second.module, Judges):
        return lesson
    return lesson + told_apart(step, step.second.module.heads, x, batch, at)


def dmd_turn(step: TwoPlayerStep, batch: Batch, at: At) -> Lesson:
    """Push the student's samples from its own denoiser's answer to the teacher's."""
    setting, x = step.setting, step.sample(batch, at)
    noise, t = comparison(setting, batch, at)
    teacher = setting.guided_teacher(setting.text(batch))
    found = matching(step.velocity(step.second.module, batch), teacher, x.detach(), noise, t)
    lesson = Lesson(
        losses=dmd_loss(x, found.direction),
        times=t,
        told={"scores/to_teacher": found.to_teacher, "scores/to_fake": found.to_fake},
        forwards=2 + step.sampled_step(at) + setting.teacher_calls,
    )
    if not isinstance(step.second.module, Judges):
        return lesson
    judged = believed(step, step.second.module.heads, x, batch, at)
    return lesson + judged.weighed(setting.stage.gan_weight)


def rcm_turn(step: TwoPlayerStep, batch: Batch, at: At) -> Lesson:
    """Follow the teacher's trajectories and match its distribution, both at once."""
    setting = step.setting
    student, teacher, x, angle = angle_setting(setting, step.student.module, batch, at)
    done, warmup = at.step // (setting.stage.turns + 1), setting.stage.tangent_warmup
    consistency = rcm_loss(student, teacher, x, angle, warmup=min(1.0, done / warmup))
    followed = Lesson(losses=consistency / x[0].numel(), forwards=3 + setting.teacher_calls)
    return followed + dmd_turn(step, batch, at).weighed(setting.stage.dmd_weight)


def auxiliary_turn(step: TwoPlayerStep, batch: Batch, at: At) -> Lesson:
    """Teach the second network where the student's samples, noised, denoise to."""
    setting = step.setting
    with torch.no_grad():
        clean, z_s, s = _matched(step, batch, at)
    teacher = setting.guided_teacher(setting.text(batch))
    losses = auxiliary_loss(step.velocity(step.second.module, batch), teacher, clean, z_s, s)
    return Lesson(losses=losses, times=s, forwards=2 + setting.teacher_calls)


def matching_turn(step: TwoPlayerStep, batch: Batch, at: At) -> Lesson:
    """Move the student against the difference of the two denoisers."""
    setting = step.setting
    clean, z_s, s = _matched(step, batch, at)
    teacher = setting.guided_teacher(setting.text(batch))
    auxiliary = step.velocity(step.second.module, batch)
    losses = matching_loss(auxiliary, teacher, clean, z_s.detach(), s)
    return Lesson(losses=losses, times=s, forwards=2 + setting.teacher_calls)


def _matched(step: TwoPlayerStep, batch: Batch, at: At) -> tuple[Tensor, Tensor, Tensor]:
    """Return the student's samples, these noised through the posterior, and at which times."""
    setting, steps = step.setting, step.setting.stage.steps or 1
    index = setting.index(batch, at, steps).double()
    inside = [1 - torch.rand(1, generator=generator(at.seed, "inside", p)) for p in batch.positions]
    later = index + torch.cat(inside).to(index)
    t, s = (shift_times(1 - place / steps, setting.shift).float() for place in (index, later))
    z_t = setting.noised(batch, at, t)
    clean = denoise(step.velocity(step.student.module, batch), z_t, t)
    noise = setting.noise(batch, at, "again")
    return clean, noised_again(clean.detach(), z_t, t, s, noise), s


DMD = Game(second=fake_turn, student=dmd_turn)
MOMENT_MATCHING = Game(second=auxiliary_turn, student=matching_turn)
RCM = Game(second=fake_turn, student=rcm_turn)
