"""Mistakes in methods with a second trained network: DMD, rCM, moment matching, LADD, ADD."""

from tests.video_models.distillation.mutations import Group

HERE, TESTS = "video_models.distillation", "video_models.distillation"

DMD = (
    Group(
        method="dmd",
        module=f"{HERE}.dmd",
        oracle=f"{TESTS}.test_dmd:test_the_gradient_is_the_difference_of_the_denoisers",
        bugs={
            "the sign": ("(ours - theirs) / spread", "(theirs - ours) / spread"),
            "against the sample instead of the teacher": (
                "(ours - theirs) / spread",
                "(ours - x) / spread",
            ),
            "not normalised": ("/ spread(size, x)", "/ 1"),
            "normalised by the fake's distance": ("(x - theirs).flatten", "(x - ours).flatten"),
            "one size for the whole batch": (
                ".mean(dim=1).clamp_min",
                ".mean().expand(len(x)).clamp_min",
            ),
            "the clean sample is not noised": ("x_t = add_noise(x, noise, t)", "x_t = x"),
            "the step is added": ("goal = (x - direction)", "goal = (x + direction)"),
            "a target that follows the student": ("(x - direction).detach()", "x - direction"),
            "fake and teacher exchanged": (
                "for network in (fake, teacher)",
                "for network in (teacher, fake)",
            ),
        },
    ),
    Group(
        method="dmd",
        module=f"{HERE}.dmd",
        oracle=f"{TESTS}.test_dmd:test_the_student_is_trained_on_its_own_states",
        bugs={
            "a state one step too late": ("grid[: index + 1]", "grid[: index + 2]"),
            "pure noise at every step": ("    if index == 0:\n", "    if True:\n"),
            "the same noise again": ("renoise=renoise", "renoise=lambda i: noise"),
        },
    ),
    Group(
        method="dmd",
        module=f"{HERE}.dmd",
        oracle=f"{TESTS}.test_dmd:test_earlier_steps_carry_no_gradient",
        bugs={
            "gradient through earlier steps": ("@torch.no_grad()\ndef simulated", "def simulated"),
        },
    ),
)

RCM = (
    Group(
        method="rcm",
        module=f"{HERE}.rcm",
        oracle=f"{TESTS}.test_rcm:test_after_the_warm_up_it_is_the_tangent_of_scm",
        bugs={
            "the sign of the derivative": ("- warmup * (spread", "+ warmup * (spread"),
            "the warm-up left out of the pull": ("(1 - (warmup * sin).square())", "(1 + 0 * sin)"),
            "the sign of the pull": ("return -spread(pull, x)", "return spread(pull, x)"),
            "cos left out of the pull": ("pull = cos * (1", "pull = (1"),
        },
    ),
    Group(
        method="rcm",
        module=f"{HERE}.rcm",
        oracle=f"{TESTS}.test_rcm:test_a_sample_whose_tangent_is_not_finite_counts_nothing",
        bugs={
            "a sample gone wrong counts": (
                "g = torch.where(spread(fine, x), g, torch.zeros_like(g))",
                "g = g + 0",
            ),
        },
    ),
)

MOMENTS = (
    Group(
        method="moment_matching",
        module=f"{HERE}.moment_matching",
        oracle=f"{TESTS}.test_moment_matching:test_the_gradient_is_that_of_the_moments",
        bugs={
            "the sign": (
                "(auxiliary, z_s, s) - denoise(teacher, z_s, s)",
                "(teacher, z_s, s) - denoise(auxiliary, z_s, s)",
            ),
            "the teacher left out": ("- denoise(teacher, z_s, s)", "- 0"),
            "the bracket not detached": (
                "    with torch.no_grad():\n        difference",
                "    if True:\n        difference",
            ),
            "asked at another time": (
                "denoise(teacher, z_s, s)\n    return (clean",
                "denoise(teacher, z_s, 0.5 * s)\n    return (clean",
            ),
        },
    ),
    Group(
        method="moment_matching",
        module=f"{HERE}.moment_matching",
        oracle=f"{TESTS}.test_moment_matching:test_noising_again_stays_on_the_path",
        bugs={
            "the step of DDIM in place of the posterior": (
                "return mean + deviation * noise",
                "return mean",
            ),
        },
    ),
    Group(
        method="moment_matching",
        module=f"{HERE}.moment_matching",
        oracle=f"{TESTS}.test_moment_matching:test_noising_again_keeps_a_part_of_the_noise",
        bugs={
            "fresh noise in place of the posterior": (
                "mean, deviation = posterior(z_t, clean, t, s)",
                "mean, deviation = (1 - s)[:, None] * clean, s[:, None]",
            ),
        },
    ),
    Group(
        method="moment_matching",
        module=f"{HERE}.moment_matching",
        oracle=f"{TESTS}.test_moment_matching:"
        "test_the_auxiliary_network_rests_between_student_and_teacher",
        bugs={
            "no pull to the teacher": (" + squared_error(seen, goal)", ""),
            "the pull subtracted": ("+ squared_error(seen, goal)", "- squared_error(seen, goal)"),
        },
    ),
    Group(
        method="moment_matching",
        module=f"{HERE}.moment_matching",
        oracle=f"{TESTS}.test_moment_matching:test_pairs_of_times_lie_in_one_step_of_the_student",
        bugs={
            "pairs over the whole range": (
                "gap = (1 - torch.rand(num, generator=generator)) / steps",
                "gap = (1 - torch.rand(num, generator=generator)) * t",
            ),
        },
    ),
    Group(
        method="moment_matching",
        module="video_models.diffusion.stochastic",
        oracle="video_models.diffusion.test_stochastic:"
        "test_the_posterior_keeps_mean_and_variance_of_the_path",
        bugs={
            "the deviation of DDIM's step": ("r * gained.clamp_min(0).sqrt()", "0 * gained"),
            "the clean sample counted whole": ("(1 - r) * gained * x0", "gained * x0"),
            "the ratio of times not squared": ("(r / t).square()", "(r / t)"),
            "the signal's ratio upside down": (
                "    a = (1 - t) / (1 - r)\n",
                "    a = (1 - r) / (1 - t).clamp_min(1e-3)\n",
            ),
        },
    ),
)

HEADS = (
    Group(
        method="heads",
        module=f"{HERE}.heads",
        oracle=f"{TESTS}.test_heads:test_the_heads_side_is_hinge_and_penalty",
        bugs={
            "real and fake exchanged": (
                "up, down = heads(real, grid, condition), heads(fake, grid",
                "up, down = heads(fake, grid, condition), heads(real, grid",
            ),
            "the penalty of the fake features": (
                "heads.penalty(real, grid",
                "heads.penalty(fake, grid",
            ),
            "the penalty unweighted": ("loss + r1 * heads", "loss + heads"),
            "the penalty subtracted": ("loss + r1 * heads", "loss - r1 * heads"),
        },
    ),
    Group(
        method="heads",
        module="video_models.objectives.adversarial",
        oracle=f"{TESTS}.test_heads:test_r1_of_a_linear_head_is_the_square_of_its_weights",
        bugs={
            "R1 of the loss and not of the logits": (
                "score = discriminator(video).flatten(1).mean(1).sum()",
                "score = F.relu(1 - discriminator(video)).flatten(1).mean(1).sum()",
            ),
            "R1 not halved": (".square().flatten(1).sum(1) / 2", ".square().flatten(1).sum(1)"),
            "R1 of the batch's mean": (".flatten(1).mean(1).sum()", ".mean()"),
        },
    ),
    Group(
        method="heads",
        module="video_models.objectives.adversarial",
        oracle=f"{TESTS}.test_heads:test_r1_trains_the_heads",
        bugs={
            "R1 that cannot be differentiated": ("create_graph=True", "retain_graph=True"),
        },
    ),
    Group(
        method="heads",
        module="video_models.objectives.adversarial",
        oracle=f"{TESTS}.test_heads:test_a_step_of_the_student_makes_the_heads_believe_it_more",
        bugs={
            "the sign of the student's side": (
                "return -fake.flatten(1).mean(1)",
                "return fake.flatten(1).mean(1)",
            ),
        },
    ),
)

LADD = (
    Group(
        method="ladd",
        module=f"{HERE}.ladd",
        oracle=f"{TESTS}.test_heads:"
        "test_the_heads_side_sees_real_and_fake_noised_alike_and_gives_the_student_no_gradient",
        bugs={
            "real latents are noised zeros": (
                "for x in (real, fake))",
                "for x in (0 * real, fake))",
            ),
            "real latents are not noised": (
                "features(add_noise(x, noise, t), t) for x in (real, fake)",
                "features(x, t) for x in (real, fake)",
            ),
            "real and fake exchanged": ("for x in (real, fake))", "for x in (fake, real))"),
            "the teacher told another time": (
                "(features(add_noise(x, noise, t), t) for x",
                "(features(add_noise(x, noise, t), 0 * t) for x",
            ),
            "the same small noise for all": (
                "(features(add_noise(x, noise, t), t) for x",
                "(features(add_noise(x, noise, 0 * t + 0.02), 0 * t + 0.02) for x",
            ),
        },
    ),
    Group(
        method="ladd",
        module=f"{HERE}.ladd",
        oracle=f"{TESTS}.test_heads:test_the_students_gradient_flows_through_the_frozen_teacher",
        bugs={
            "the student's side under no_grad": (
                "    return heads(features",
                "    with torch.no_grad():\n        return heads(features",
            ),
            "the teacher's tokens detached": (
                "heads(features(add_noise(x, noise, t), t), grid, condition)",
                "heads([f.detach() for f in features(add_noise(x, noise, t), t)], grid, condition)",
            ),
        },
    ),
    Group(
        method="ladd",
        module=f"{HERE}.ladd",
        oracle=f"{TESTS}.test_heads:test_the_students_times_come_as_often_as_they_should",
        bugs={
            "times drawn evenly": (
                "torch.tensor(weights)",
                "torch.ones(len(weights))",
            ),
        },
    ),
)

ADD = (
    Group(
        method="add",
        module=f"{HERE}.add",
        oracle=f"{TESTS}.test_heads:test_the_teachers_pull_is_weighted_by_the_signal",
        bugs={
            "weighted by the noise": ("RECTIFIED_FLOW.a(t)", "RECTIFIED_FLOW.s(t)"),
            "the teacher sees a clean sample": ("x_t = add_noise(x, noise, t)", "x_t = x"),
            "the teacher's noise for its sample": ('target="x0")', 'target="eps")'),
        },
    ),
    Group(
        method="add",
        module=f"{HERE}.add",
        oracle=f"{TESTS}.test_heads:test_the_teacher_gets_no_gradient_and_the_student_does",
        bugs={
            "gradient into the teacher": (
                "    with torch.no_grad():\n        x_t",
                "    if True:\n        x_t",
            ),
            "the student detached": ("squared_error(x, goal)", "squared_error(x.detach(), goal)"),
        },
    ),
    Group(
        method="add",
        module=f"{HERE}.add",
        oracle=f"{TESTS}.test_heads:test_add_adds_the_game_on_frames_and_the_pull_on_latents",
        bugs={
            "the pull unweighted": ("game + weight * pull", "game + pull"),
            "the game on latents": ("heads(features(frames)", "heads(features(x)"),
            "the game without gradient": (
                "game = generator_hinge(heads(features(frames), grid, condition))",
                "game = generator_hinge(heads(features(frames), grid, condition)).detach()",
            ),
        },
    ),
    Group(
        method="add",
        module=f"{HERE}.add",
        oracle=f"{TESTS}.test_heads:test_the_penalty_is_taken_at_the_features_of_real_frames",
        bugs={
            "real and fake frames exchanged": (
                "features(real), features(fake)",
                "features(fake), features(real)",
            ),
            "no penalty": ("condition=condition, r1=r1)", "condition=condition)"),
            "R1 by pixels and not by features": (
                "    return tell_apart(heads, tokens, others, grid=grid, condition=condition, "
                "r1=r1)",
                "    from video_models.objectives.adversarial import gradient_penalty\n"
                "    told = tell_apart(heads, tokens, others, grid=grid, condition=condition)\n"
                "    pixels = gradient_penalty(\n"
                "        lambda frames: heads(features(frames), grid, condition), real\n"
                "    )\n"
                "    return Verdict(loss=told.loss + r1 * pixels, real=told.real, fake=told.fake)",
            ),
        },
    ),
)

GROUPS = (*DMD, *RCM, *MOMENTS, *HEADS, *LADD, *ADD)
