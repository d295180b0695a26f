"""The learning rate as a pure function of the step."""

import math
from collections.abc import Callable, Mapping

from video_platform.config import pick
from video_platform.training.config import TrainingConfig

Decay = Callable[[float], float]
"""Progress after the warm-up in [0, 1] -> how much of the way from peak to final remains."""


def constant(progress: float) -> float:
    """Stay at the peak."""
    return 1.0


def cosine(progress: float) -> float:
    """Fall along half a cosine. SGDR, eq. 5, arXiv 1608.03983, without restarts."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


SCHEDULES: Mapping[str, Decay] = {"constant": constant, "cosine": cosine}
"""Those that know no more than the progress; `wsd` also asks the config for its last part."""


def warmup_stable_decay(progress: float, decay_share: float) -> float:
    """Stay at the peak, then fall linearly in the last part (Hu et al. 2024, arXiv 2404.06395).

    A run can be taken up from before the fall and prolonged, which a cosine does not allow.
    """
    return min(1.0, (1.0 - progress) / decay_share)


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Return the learning rate of the step with this number; the first is 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    span = max(1, config.steps - config.warmup_steps)
    progress = min(1.0, (step - config.warmup_steps) / span)
    if config.schedule == "wsd":
        remaining = warmup_stable_decay(progress, config.decay_share)
    else:
        remaining = pick(SCHEDULES, config.schedule, "schedule")(progress)
    final = config.final_learning_rate_fraction
    return config.learning_rate * (final + (1.0 - final) * remaining)
