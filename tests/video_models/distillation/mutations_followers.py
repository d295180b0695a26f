"""Mistakes in methods whose student follows a teacher: guidance, progressive, consistency, sCM."""

from tests.video_models.distillation.mutations import Group

HERE, TESTS = "video_models.distillation", "video_models.distillation"

GUIDANCE = (
    Group(
        method="guidance",
        module="video_models.diffusion.guidance",
        oracle=f"{TESTS}.test_guidance:test_the_student_of_the_guided_law_has_no_loss",
        given={"w": 7.5},
        bugs={
            "the scale counts from zero": (
                "unconditional + scale *",
                "unconditional + (scale - 1) *",
            ),
            "guidance on the wrong branch": (
                "conditional, unconditional = both",
                "unconditional, conditional = both",
            ),
            "added to the caption's branch": (
                "return unconditional + scale",
                "return conditional + scale",
            ),
            "the empty caption is not empty": ("join(text, empty)", "join(text, text)"),
            "guidance applied twice": (
                "combine(conditional, unconditional, scale, x, t)",
                "guide(combine(conditional, unconditional, scale, x, t), unconditional, scale)",
            ),
        },
    ),
    Group(
        method="guidance",
        module=f"{HERE}.guidance",
        oracle=f"{TESTS}.test_guidance:test_states_and_targets_are_those_of_the_guided_trajectory",
        given={"w": 7.5},
        bugs={
            "states beside the trajectory": (
                "states.append(x)",
                "states.append(x - 0.1 * t[:, None])",
            ),
            "targets of other states": (
                "velocities.append(v)",
                "velocities.append(velocities[-1] if velocities else v)",
            ),
            "the grid runs backwards": (
                "sample_euler(recorded, noise, grid)",
                "sample_euler(recorded, noise, grid.flip(0))",
            ),
        },
    ),
    Group(
        method="guidance",
        module=f"{HERE}.guidance",
        oracle=f"{TESTS}.test_guidance:test_the_teacher_gets_no_gradient",
        bugs={
            "gradient into the teacher": ("    with torch.no_grad():\n", "    if True:\n"),
        },
    ),
)

PROGRESSIVE = (
    Group(
        method="progressive",
        module=f"{HERE}.progressive",
        oracle=f"{TESTS}.test_progressive:"
        "test_exact_students_of_all_stages_are_the_first_teacher_at_all_its_steps",
        given={"stages": (16, 8, 4), "shift": 3.0},
        bugs={
            "the teacher's last prediction as target": (
                "return (z - z_r) / spread(t - r, z)",
                "return teacher(z_m, m)",
            ),
            "the teacher's first prediction as target": (
                "return (z - z_r) / spread(t - r, z)",
                "return teacher(z, t)",
            ),
            "the sign of the target": ("(z - z_r) / spread", "(z_r - z) / spread"),
            "half the interval": ("spread(t - r, z)", "spread(t - m, z)"),
            "the second call at the first state": ("teacher(z_m, m)", "teacher(z, m)"),
            "the second call at the first time": ("teacher(z_m, m)", "teacher(z_m, t)"),
        },
    ),
    Group(
        method="progressive",
        module=f"{HERE}.progressive",
        oracle=f"{TESTS}.test_progressive:test_the_grids_of_student_and_teacher_nest",
        given={"shift": 3.0},
        bugs={
            "a midpoint off the middle": ("(0, 0.5, 1)", "(0, 0.4, 1)"),
            "a midpoint taken after the shift": (
                "return Interval(start=start, middle=middle, end=end)",
                "return Interval(start=start, middle=(start + end) / 2, end=end)",
            ),
            "steps counted from one": ("k = index.double()", "k = index.double() + 1"),
            "the shift applied twice": (
                "shift_times(1 - (k + part) / steps, shift)",
                "shift_times(shift_times(1 - (k + part) / steps, shift), shift)",
            ),
            "time running the other way": ("1 - (k + part) / steps", "(k + part) / steps"),
        },
    ),
    Group(
        method="progressive",
        module=f"{HERE}.progressive",
        oracle=f"{TESTS}.test_progressive:"
        "test_the_student_is_asked_at_the_start_of_its_step_and_the_teacher_gets_no_gradient",
        bugs={
            "gradient into the teacher": ("@torch.no_grad()\ndef halving", "def halving"),
            "the student asked at the end of its step": (
                "student(z, interval.start.to(z))",
                "student(z, interval.end.to(z))",
            ),
        },
    ),
)

CONSISTENCY = (
    Group(
        method="consistency",
        module=f"{HERE}.consistency",
        oracle=f"{TESTS}.test_consistency:"
        "test_the_fixed_point_is_the_teacher_at_all_steps_of_the_solver",
        given={"phases": 2, "solver": "euler"},
        bugs={
            "no boundary": (
                "return x + spread(edge - t, x) * network",
                "return spread(edge - t, x) * network",
            ),
            "the teacher steps the wrong way": (
                "ahead = x + spread(r - t, x) * v",
                "ahead = x + spread(t - r, x) * v",
            ),
            "the target jumps from the first sample": (
                "landing(target, solve(teacher, x_t, step, solver=solver), step)",
                "landing(target, x_t, step)",
            ),
            "the target jumps from the first time": (
                "jump(target, x_r, step.end",
                "jump(target, x_r, step.start",
            ),
            "all phases end at 0": (
                "edge=grid[(index // length + 1) * length]",
                "edge=grid[index * 0 - 1]",
            ),
            "phases one interval off": (
                "(index // length + 1) * length",
                "((index // length + 1) * length - 1)",
            ),
            "the teacher's step from data without its noise": (
                "    v = teacher(x, t)\n    ahead",
                "    v = teacher(0 * x, t)\n    ahead",
            ),
        },
    ),
    Group(
        method="consistency",
        module=f"{HERE}.consistency",
        oracle=f"{TESTS}.test_consistency:"
        "test_the_fixed_point_is_the_teacher_at_all_steps_of_the_solver",
        given={"phases": 1, "solver": "heun"},
        bugs={
            "Heun with the first velocity twice": (
                "(v + teacher(ahead, r))",
                "(v + teacher(x, t))",
            ),
            "Heun at the first time": ("teacher(ahead, r)", "teacher(ahead, t)"),
            "Heun with a whole step of each": ("spread((r - t) / 2, x)", "spread(r - t, x)"),
            "Heun to the very end": (
                "torch.where(spread(r > 0, x), second, ahead)",
                "second",
            ),
            "Euler in place of Heun": ('if solver == "euler":', "if True:"),
        },
    ),
    Group(
        method="consistency",
        module=f"{HERE}.consistency",
        oracle=f"{TESTS}.test_consistency:"
        "test_training_without_a_teacher_has_another_target_where_data_is_no_gaussian",
        bugs={
            "lines of noise where the teacher's step belongs": (
                "solve(teacher, x_t, step, solver=solver), step)",
                "solve(lambda x, t: 0 * x, x_t, step, solver=solver), step)",
            ),
            "the teacher where lines of noise belong": (
                "return lambda x, t: velocity(x0, noise, t)",
                "return lambda x, t: velocity(x0, 0 * noise, t)",
            ),
        },
    ),
    Group(
        method="consistency",
        module=f"{HERE}.consistency",
        oracle=f"{TESTS}.test_consistency:test_the_target_gets_no_gradient_and_the_student_does",
        bugs={
            "gradient into the target": ("@torch.no_grad()\ndef landing", "def landing"),
            "the student without gradient": (
                "return distance(jump(student, x_t, step.start, step.edge), goal)",
                "return distance(jump(student, x_t, step.start, step.edge).detach(), goal)",
            ),
        },
    ),
    Group(
        method="consistency",
        module=f"{HERE}.consistency",
        oracle=f"{TESTS}.test_consistency:test_states_of_a_trajectory_are_those_of_the_sampler",
        given={"solver": "heun"},
        bugs={
            "every state a step from the noise": (
                "solve(teacher, states[-1], step, solver=solver)",
                "solve(teacher, noise, step, solver=solver)",
            ),
            "states of another solver": (
                "solve(teacher, states[-1], step, solver=solver)",
                'solve(teacher, states[-1], step, solver="euler")',
            ),
        },
    ),
    Group(
        method="consistency",
        module="video_platform.training.ema",
        oracle="video_platform.training.test_schedules:"
        "test_an_average_follows_its_recurrence_and_swaps_in_place",
        bugs={
            "the average of the wrong sign": (
                "weight = 1.0 - self._decay(step)",
                "weight = self._decay(step)",
            ),
        },
    ),
)

SCM = (
    Group(
        method="scm",
        module=f"{HERE}.scm",
        oracle=f"{TESTS}.test_scm:"
        "test_a_velocity_on_the_rectified_flow_is_the_derivative_on_angles",
        given={"sigma_data": 0.5},
        bugs={
            "the deviation omitted in the time": (
                "cos, sin = torch.cos(angle), sigma_data * torch.sin(angle)",
                "cos, sin = torch.cos(angle), torch.sin(angle)",
            ),
            "the deviation omitted in the turn": (
                "turned = sigma_data * cos - torch.sin(angle)",
                "turned = cos - torch.sin(angle)",
            ),
            "the deviation omitted in the velocity": (
                "+ sigma_data * v) / spread",
                "+ v) / spread",
            ),
            "the sample not scaled": ("network(x / spread(n, x), sin / n)", "network(x, sin / n)"),
            "the time of the tangent": ("sin / n)", "sin / cos)"),
        },
    ),
    Group(
        method="scm",
        module=f"{HERE}.scm",
        oracle=f"{TESTS}.test_scm:test_the_tangent_is_the_derivative_of_the_consistency_function",
        bugs={
            "the sign of the derivative": ("- warmup * (spread", "+ warmup * (spread"),
            "the sign of the pull": (
                "return -spread(cos.square(), x)",
                "return spread(cos.square(), x)",
            ),
            "the time does not move": ("* dx, cos * sin\n", "* dx, 0 * cos\n"),
            "the sample does not move": (
                "direction = spread(cos * sin, x) * dx",
                "direction = 0 * x",
            ),
            "cos sin missing": ("(spread(cos * sin, x) * x + change)", "(x + change)"),
            "the sample moves along the student": (
                "dx = teacher(x, angle)",
                "dx = student(x, angle)",
            ),
            "one cos in the pull": ("cos.square()", "cos"),
        },
    ),
    Group(
        method="scm",
        module=f"{HERE}.scm",
        oracle=f"{TESTS}.test_scm:test_a_step_down_the_loss_goes_towards_the_exact_student",
        given={"constant": 0.1},
        bugs={
            "the sign of the loss": ("(f - f.detach() - g)", "(f - f.detach() + g)"),
            "the student's last call without gradient": (
                "f = student(x, angle) / sigma_data",
                "f = off = student(x, angle).detach() / sigma_data",
            ),
        },
    ),
    Group(
        method="scm",
        module=f"{HERE}.scm",
        oracle=f"{TESTS}.test_scm:test_the_loss_is_that_of_the_normalised_tangent",
        bugs={
            "the tangent not normalised": ("if constant is not None:", "if False:"),
            "not divided by the tangent of the angle": (
                "error / (sigma_data * torch.tan(angle))",
                "error / sigma_data",
            ),
        },
    ),
    Group(
        method="scm",
        module=f"{HERE}.scm",
        oracle=f"{TESTS}.test_scm:test_the_adaptive_weight_rests_at_the_log_of_the_loss",
        bugs={
            "the adaptive weight's sign": (
                "torch.exp(-log_variance) + log",
                "torch.exp(-log_variance) - log",
            ),
        },
    ),
)

GROUPS = (*GUIDANCE, *PROGRESSIVE, *CONSISTENCY, *SCM)
