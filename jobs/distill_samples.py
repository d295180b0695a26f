"""Clips of a student while it is distilled, beside those of its teacher at the same seeds.

Every rank samples its share of the prompts, all equally many, so that none waits for another.
"""

import copy
from collections.abc import Callable, Sequence
from typing import cast

from jobs.autoencoder_validation import evaluating
from jobs.distill_setting import Setting
from jobs.history import History
from jobs.sample_grid import Frames, SampleGrid
from jobs.samples import PICTURE, gathered, share_of
from pipelines.model_folder import ModelCard
from pipelines.text_to_video import TextToVideo
from video_models.transformer.family import AnyTransformer
from video_platform.tracking import Run
from video_platform.training.engine import Engine
from video_platform.video.encode import contact_sheet

TEACHER = -1
"""Where the teacher's clips stand in the picture: before all steps."""


def pictures(history: History, prompts: Sequence[str]) -> dict[str, bytes]:
    """Return all samples of a stage as a PNG by file name; nothing where there are none."""
    columns = history.pictures.get(PICTURE)
    return {PICTURE: drawn(SampleGrid(columns), prompts)} if columns else {}


def drawn(grid: SampleGrid, prompts: Sequence[str]) -> bytes:
    """Return the picture as a PNG; its first column is the teacher's."""
    return grid.draw(prompts, {TEACHER: "teacher"})


class StudentSamples:
    """Sample some prompts, and draw what came of them now and before.

    Args:
        engine: of the student.
        setting: of the stage; holds the teacher.
        cards: how the teacher is sampled, and how the student.
        prompts: what is sampled.
        history: where earlier samples are remembered.
        run: what pictures are logged to; None logs none.
        alive: told what is being done; see `Attempt.alive`.
    """

    def __init__(
        self,
        engine: Engine,
        setting: Setting,
        cards: tuple[ModelCard, ModelCard],
        *,
        prompts: Sequence[str],
        history: History,
        run: Run | None,
        alive: Callable[[str], None],
    ) -> None:
        self._engine, self._setting = engine, setting
        self._teachers_card, self._card = cards
        self._prompts, self._history = list(prompts), history
        self._run, self._alive = run, alive
        self._teachers: list[Frames] | None = None

    def __call__(self, step: int) -> dict[str, float]:
        """Sample and draw. Collective."""
        if not self._prompts:
            return {}
        if self._teachers is None:
            self._teachers = self._sampled(self._setting.teacher, self._teachers_card, "teacher")
        network = cast(AnyTransformer, self._engine.module)
        with self._engine.computing_with("ema"), evaluating(network):
            clips = self._sampled(network, self._card, "student")
        if self._run is not None:
            pairs = zip(self._teachers, clips, strict=True)
            labels = [f"{p} ({who})" for p in self._prompts for who in ("teacher", "student")]
            sheet = contact_sheet([clip for pair in pairs for clip in pair], labels=labels)
            self._run.image(sheet, f"samples/step-{step:06d}.png")
            grid = SampleGrid(self._history.pictures.get(PICTURE))
            grid.add(TEACHER, self._teachers)
            grid.add(step, clips)
            self._history.pictures[PICTURE] = grid.state_dict()
            self._run.image(drawn(grid, self._prompts), PICTURE)
        return {}

    def _sampled(self, network: AnyTransformer, card: ModelCard, who: str) -> list[Frames]:
        """Return a clip for each prompt; each rank makes its share at once."""
        source = self._setting.source
        model = TextToVideo(
            card,
            autoencoder=copy.deepcopy(source.autoencoder).to(self._setting.device),
            transformer=network,
            text_encoder=source.text_encoder,
            more_text_encoders=source.text_encoders[1:],
        )
        made = model(
            share_of(self._prompts),
            seed=0,
            on_step=lambda done, steps: self._alive(f"samples of {who}, step {done} of {steps}"),
        )
        return gathered([clip.frames for clip in made], len(self._prompts))
