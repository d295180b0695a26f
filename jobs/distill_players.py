"""The games of `vdp distill`: which second network judges a student, and what both learn."""

import copy
from collections.abc import Callable

from torch import nn

from jobs.distill_frames import open_frames_game
from jobs.distill_game import Game
from jobs.distill_heads import LADD, Judges, open_heads
from jobs.distill_matching import DMD, MOMENT_MATCHING, RCM
from jobs.distill_setting import Setting

Opener = Callable[[Setting], tuple[nn.Module, Game]]
"""Returns the second network, untrained, and what both players do."""


def _against_denoiser(game: Game) -> Opener:
    """Return what opens a game whose second network is a copy of the teacher."""

    def opened(setting: Setting) -> tuple[nn.Module, Game]:
        fake = copy.deepcopy(setting.teacher).requires_grad_(True).train()
        weighed = setting.stage.gan_weight > 0
        return (Judges(fake, open_heads(setting)) if weighed else fake), game

    return opened


GAMES: dict[str, Opener] = {
    "add": open_frames_game,
    "dmd": _against_denoiser(DMD),
    "ladd": lambda setting: (open_heads(setting), LADD),
    "moment_matching": _against_denoiser(MOMENT_MATCHING),
    "rcm": _against_denoiser(RCM),
}
"""What opens the game of a method, by its name."""
