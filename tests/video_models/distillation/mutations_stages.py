"""Mistakes in the stages of `vdp distill`: what networks are asked, where, and who teaches."""

from tests.video_models.distillation.mutations import Group
from video_models.diffusion.guidance_config import GuidanceConfig

LESSONS = "jobs.test_distill_lessons"

GROUPS = (
    Group(
        method="consistency",
        module="jobs.distill_trajectory",
        oracle=f"{LESSONS}:"
        "test_on_noised_clips_the_student_jumps_to_where_it_jumps_from_the_teachers_step",
        given={"jumps": "edge"},
        bugs={
            "lines from clip to noise in place of the teacher": (
                "teacher, solver = setting.guided_teacher(text), setting.stage.solver\n    goal",
                "solver = setting.stage.solver\n"
                "    teacher = lambda x, t: setting.noise(batch, at) - setting.clean(batch, at)\n"
                "    goal",
            ),
            "the teacher without guidance": (
                "teacher, solver = setting.guided_teacher(text), setting.stage.solver\n    goal",
                "teacher, solver = setting.velocity(setting.teacher, text), setting.stage.solver\n"
                "    goal",
            ),
            "one phase whatever the steps": (
                'phases = 1 if stage.jumps == "end" else stage.steps or 1',
                "phases = 1",
            ),
        },
    ),
    Group(
        method="consistency",
        module="jobs.distill_trajectory",
        oracle=f"{LESSONS}:"
        "test_on_trajectories_the_student_learns_at_states_of_the_teacher_from_pure_noise",
        bugs={
            "the target from the state where the step began": (
                "landing(step.target(text), states[index + 1, rows], interval)",
                "landing(step.target(text), states[index, rows], interval)",
            ),
            "the same step for all of a clip": (
                'generator=generator(at.seed, "time", position))[:count]',
                'generator=generator(at.seed, "time", position))[:1].repeat(count)',
            ),
        },
    ),
    Group(
        method="guidance",
        module="jobs.distill_setting",
        oracle=f"{LESSONS}:test_guidance_is_tempered_at_each_samples_time_as_in_sampling",
        given={"config": GuidanceConfig(interval=(0.3, 0.8), zero_above=0.9)},
        bugs={
            "guided outside the interval": ("(low < t) & (t <= high)", "(t <= low) | (high < t)"),
            "all samples at the first one's time": (
                "inside = spread((low < t) & (t <= high), x)",
                "inside = spread(((low < t) & (t <= high))[:1].expand(len(t)), x)",
            ),
            "first steps not left out": ("spread(t <= config.zero_above, x)", "spread(t <= 1, x)"),
        },
    ),
    Group(
        method="all",
        module="jobs.distill_setting",
        oracle=f"{LESSONS}:test_states_and_velocities_are_fp32_whatever_networks_compute_in",
        bugs={
            "velocities in bf16": ("return v.float()", "return v"),
            "states in bf16": (
                "return add_noise(self.clean(batch, at), self.noise(batch, at), t.float())",
                "return add_noise(self.clean(batch, at), self.noise(batch, at), t).to(self.dtype)",
            ),
        },
    ),
    Group(
        method="progressive",
        module="jobs.distill_stage",
        oracle="jobs.test_distill:test_followers_learn_from_the_stage_before",
        bugs={
            "the teacher not refreshed between stages": (
                "        last = number\n",
                "        last = 0\n",
            ),
        },
    ),
    Group(
        method="dmd",
        module="jobs.distill_matching",
        oracle=f"{LESSONS}:test_the_fake_network_is_asked_without_guidance",
        bugs={
            "the fake network guided": (
                "found = matching(step.velocity(step.second.module, batch), teacher,",
                "found = matching(teacher, teacher,",
            ),
            "the teacher without guidance": (
                "    teacher = setting.guided_teacher(setting.text(batch))\n    found",
                "    teacher = step.velocity(setting.teacher, batch)\n    found",
            ),
        },
    ),
    Group(
        method="dmd",
        module="jobs.distill_game",
        oracle=f"{LESSONS}:test_a_sample_is_the_end_of_the_students_own_trajectory",
        bugs={
            "always the first step": (
                "steps, index = setting.stage.steps or 1, self.sampled_step(at)",
                "steps, index = setting.stage.steps or 1, 0",
            ),
            "the noise of the start again between steps": (
                'setting.noise(batch, at, "again", i)',
                "noise",
            ),
            "asked at the time of the next step": (
                "t = grid[index].float()",
                "t = grid[index + 1].float()",
            ),
        },
    ),
    Group(
        method="add",
        module="jobs.distill_frames",
        oracle=f"{LESSONS}:test_adds_gradient_reaches_the_student_through_the_decoder",
        bugs={
            "the decoder under no_grad": (
                "window = latents[:, :, start : start + length]",
                "window = latents[:, :, start : start + length].detach()",
            ),
            "heads that gather the student's gradient": (
                "without_gradient(step.second.module), self._features",
                "step.second.module, self._features",
            ),
            "the vision network under no_grad": (
                "        seen: Seen = self.vision(frames)\n",
                "        seen: Seen = self.vision(frames.detach())\n",
            ),
        },
    ),
    Group(
        method="add",
        module="jobs.distill_frames",
        oracle=f"{LESSONS}:test_adds_heads_see_the_same_window_of_clip_and_student",
        bugs={
            "another window of the clip than of the student": (
                'generator(at.seed, "window", at.step)',
                'generator(id(latents), "window", at.step)',
            ),
            "latents decoded without their mean and deviation": (
                "self.autoencoder.denormalise(window)",
                "window",
            ),
        },
    ),
    Group(
        method="add",
        module="jobs.distill_frames",
        oracle=f"{LESSONS}:test_adds_student_jumps_from_each_clips_own_time",
        bugs={
            "the student told another time": (
                "jump(student, x_t, t, torch.zeros_like(t)), t",
                "jump(student, x_t, 0.5 * t, torch.zeros_like(t)), t",
            ),
            "the clip's looks told where nothing of it is left": (
                "self._seen(real).summary * (t < 1)[:, None]",
                "self._seen(real).summary",
            ),
        },
    ),
)
