"""Mistakes in what all methods stand on: paths, times, samplers, autoencoders, measures."""

from tests.video_models.autoencoder.shapes import make_model
from tests.video_models.distillation.mutations import Group

DIFFUSION = "video_models.diffusion"

PATHS = (
    Group(
        method="conversions",
        module=f"{DIFFUSION}.paths",
        oracle=f"{DIFFUSION}.test_paths:test_velocity_and_score_are_those_of_a_gaussian",
        bugs={
            "the sign of the score": (
                'noise = predicted if kind == "eps" else -s * predicted',
                'noise = predicted if kind == "eps" else s * predicted',
            ),
            "noise and clean sample exchanged": (
                "return (q * x_t - s * predicted) / determinant, (a",
                "return (a * predicted - p * x_t) / determinant, (a",
            ),
        },
    ),
    Group(
        method="conversions",
        module=f"{DIFFUSION}.paths",
        oracle=f"{DIFFUSION}.test_paths:test_rectified_flow_is_what_the_project_says_it_is",
        bugs={
            "time running the other way": (
                "        a=lambda t: 1 - t,\n        s=lambda t: t,\n",
                "        a=lambda t: t,\n        s=lambda t: 1 - t,\n",
            ),
            "the sign of the velocity": (
                "        p=lambda t: -torch.ones_like(t),\n        q=torch.ones_like,\n",
                "        p=torch.ones_like,\n        q=lambda t: -torch.ones_like(t),\n",
            ),
        },
    ),
    Group(
        method="conversions",
        module=f"{DIFFUSION}.paths",
        oracle=f"{DIFFUSION}.test_paths:test_a_flow_network_behind_trigflow_gives_trigflows_velocity",
        bugs={
            "the sample not scaled between paths": (
                "return x_t * spread(factor, x_t), other",
                "return x_t, other",
            ),
        },
    ),
    Group(
        method="sampling",
        module=f"{DIFFUSION}.samplers",
        oracle=f"{DIFFUSION}.test_samplers:test_euler_contracts_by_its_closed_form_factor",
        given={"steps": 8},
        bugs={
            "Euler the wrong way": (
                "x = x + (r - t) * velocity(x, at(t, x))",
                "x = x + (t - r) * velocity(x, at(t, x))",
            ),
            "Euler at the end of its step": (
                "x = x + (r - t) * velocity(x, at(t, x))",
                "x = x + (r - t) * velocity(x, at(r, x))",
            ),
        },
    ),
    Group(
        method="sampling",
        module=f"{DIFFUSION}.samplers",
        oracle=f"{DIFFUSION}.test_samplers:"
        "test_halving_the_step_divides_the_error_by_two_to_the_order",
        given={"name": "heun"},
        bugs={
            "Heun with a whole step of both velocities": (
                "x + (r - t) / 2 * (v + velocity",
                "x + (r - t) * (v + velocity",
            ),
            "Heun's second velocity at the first time": (
                "(v + velocity(ahead, at(r, x)))",
                "(v + velocity(ahead, at(t, x)))",
            ),
        },
    ),
    Group(
        method="guidance rules",
        module=f"{DIFFUSION}.guidance_rules",
        oracle=f"{DIFFUSION}.test_guidance_rules:"
        "test_cfg_zero_leaves_nothing_of_the_unconditional_velocity_in_the_difference",
        bugs={
            "CFG-Zero* without its projection": (
                "return guide(conditional, spread(s, x).type_as(x) * unconditional, scale)",
                "return guide(conditional, unconditional, scale)",
            ),
        },
    ),
    Group(
        method="guidance rules",
        module=f"{DIFFUSION}.guidance_rules",
        oracle=f"{DIFFUSION}.test_guidance_rules:"
        "test_apg_without_eta_adds_nothing_along_the_clean_sample",
        bugs={
            "APG that keeps what saturates": (
                "guide(clean, clean - (d - along + self._eta * along), scale)",
                "guide(clean, clean - d, scale)",
            ),
        },
    ),
    Group(
        method="shift",
        module=f"{DIFFUSION}.timesteps",
        oracle=f"{DIFFUSION}.test_timesteps:"
        "test_shifted_uniform_times_have_the_closed_form_density",
        bugs={
            "the shift applied twice to drawn times": (
                "return shift_times(t, shift_of(config.shift, grid))",
                "return shift_times(t, shift_of(config.shift, grid) ** 2)",
            ),
        },
    ),
    Group(
        method="shift",
        module=f"{DIFFUSION}.timesteps",
        oracle="video_models.distillation.test_progressive:"
        "test_the_grids_of_student_and_teacher_nest",
        given={"shift": 3.0},
        bugs={
            "the shift applied twice to a grid": (
                "return shift_times(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift)",
                "return shift_times(torch.linspace(1, 0, steps + 1).double(), shift * shift)",
            ),
        },
    ),
    Group(
        method="shift",
        module=f"{DIFFUSION}.timesteps",
        oracle=f"{DIFFUSION}.test_timesteps:test_a_shift_multiplies_the_odds_of_noise",
        bugs={
            "the shift towards the clean end": (
                "return t / (t + (1 - t) / shift)",
                "return t / (t + (1 - t) * shift)",
            ),
        },
    ),
)

AUTOENCODER = (
    Group(
        method="autoencoder",
        module="video_models.layers.causal_conv",
        oracle="video_models.layers.test_causal_conv:"
        "test_whole_clips_and_chunks_agree_with_a_padded_convolution",
        given={"kernel": 3, "frames": 7},
        bugs={
            "frames padded on both sides": (
                "F.pad(x, (0, 0, 0, 0, taps - 1, 0))",
                "F.pad(x, (0, 0, 0, 0, taps // 2, taps // 2))",
            ),
        },
    ),
    Group(
        method="autoencoder",
        module="video_models.layers.channel_norm",
        oracle="video_models.autoencoder.test_causality:"
        "test_a_latent_depends_on_its_own_frames_and_those_before_only",
        given={"model": lambda: make_model("wan_2.1").double()},
        bugs={
            "a norm over the whole clip": (
                "y: Tensor = _normalise(x) * self.gamma",
                "y: Tensor = x / x.square().mean().sqrt() * self.gamma",
            ),
        },
    ),
    Group(
        method="autoencoder",
        module="video_models.autoencoder.posterior",
        oracle="video_models.autoencoder.test_posterior:"
        "test_kl_is_that_of_normal_laws_summed_over_a_clip",
        bugs={
            "the sign of the log-variance": ("- 1 - self.logvar", "- 1 + self.logvar"),
            "a mean in place of the sum": (
                "terms.flatten(1).sum(dim=1)",
                "terms.flatten(1).mean(dim=1)",
            ),
        },
    ),
    Group(
        method="autoencoder",
        module="video_models.autoencoder.quantisers.fsq",
        oracle="video_models.autoencoder.quantisers.test_fsq:"
        "test_index_and_code_are_a_bijection_over_the_whole_codebook",
        given={"levels": (8, 5, 5, 5)},
        bugs={
            "strides of other levels": (
                "levels.cumprod(0) // levels",
                "levels.flip(0).cumprod(0) // levels.flip(0)",
            ),
            "no middle level": (
                "% self.levels - middle\n",
                "% self.levels\n",
            ),
        },
    ),
    Group(
        method="autoencoder",
        module="video_models.autoencoder.quantisers.lfq",
        oracle="video_models.autoencoder.quantisers.test_lfq:"
        "test_index_and_code_are_a_bijection_over_the_whole_codebook",
        given={"num_bits": 5},
        bugs={
            "bits counted the other way": (
                "bits = indices.unsqueeze(-1) >> self.places & 1",
                "bits = indices.unsqueeze(-1) >> self.places.flip(0) & 1",
            ),
        },
    ),
    Group(
        method="autoencoder",
        module="video_models.objectives.outliers",
        oracle="video_models.objectives.test_outliers:"
        "test_one_planted_outlier_costs_what_it_sticks_out",
        bugs={
            "no free radius": ("(distance - radius).clamp_min(0)", "distance"),
        },
    ),
    Group(
        method="autoencoder",
        module="video_models.objectives.outliers",
        oracle="video_models.objectives.test_outliers:"
        "test_frames_and_clips_are_judged_by_themselves",
        bugs={
            "means over the whole clip": (
                "mean = z.mean((3, 4), keepdim=True)",
                "mean = z.mean((0, 2, 3, 4), keepdim=True)",
            ),
        },
    ),
)

MEASURES = (
    Group(
        method="Fréchet distance",
        module="video_models.metrics.frechet",
        oracle="video_models.metrics.test_frechet:test_agrees_with_the_matrix_root_of_scipy",
        bugs={
            "the root of one covariance alone": (
                "root @ b.covariance @ root",
                "root @ root @ root @ root",
            ),
            "the root of the product of the roots": (
                "torch.linalg.eigvalsh(root @ b.covariance @ root).clamp_min(0).sqrt().sum()",
                "(root @ _root(b.covariance)).trace()",
            ),
            "half of the cross term": ("- 2 * cross", "- cross"),
            "the means' distance not squared": (
                ".square().sum() + traces",
                ".abs().sum() + traces",
            ),
        },
    ),
)

GROUPS = (*PATHS, *AUTOENCODER, *MEASURES)
