"""What models are asked, what they should answer, and who looks.

A bench is made of questions (prompts, and what a clip must show), references (clips that no model
has seen, for the autoencoder) and a judge. The synthetic world has all three; a file of prompts has
questions alone, whose clips are for people to look at.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.evaluation_config import EvaluationConfig
from jobs.evaluation_records import ALL
from video_platform.errors import ConfigError
from video_platform.shapes.program import Program
from video_platform.shapes.world import WorldConfig
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

Frames = NDArray[np.uint8]
Pool = Sequence[Frames]
"""Clips, each made when it is asked for."""
Law = Mapping[str, float]
"""Shares by answer; they add up to 1."""
Judge = Callable[[Frames, Any], Mapping[str, bool]]
"""Given frames (T, H, W, 3) and what they should show, says what is right, by attribute."""

Measurer = Callable[[Frames, Any], "Examined"]
"""Given the same, says everything that is looked at."""

REFERENCES = "references"
"""The split of what was measured on unseen clips."""
TRAINED, WITHHELD = "trained", "withheld"
"""Splits: prompts of combinations that training showed or withheld; `ALL` where there is one kind.
"""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was seen in one clip."""

    marks: Mapping[str, bool] = field(default_factory=dict)
    """What is right about it, by attribute."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Numbers that are no yes or no."""
    answers: Mapping[str, str] = field(default_factory=dict)
    """What it shows where its prompt leaves something open, by attribute."""
    controls: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Marks and measures where what was asked is taken away, by null control."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One prompt and its right answer."""

    prompt: str
    """What a model is given."""
    expected: Any = None
    """What the judge compares a clip with; None where there is no judge."""
    split: str = ALL
    """Which table its clips go to."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A clip that no model has seen."""

    frames: Frames
    """RGB, (T, H, W, 3)."""
    expected: Any = None
    """What the judge compares it with."""
    split: str = REFERENCES
    """Which table it counts in."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Everything that models are judged on."""

    questions: tuple[Question, ...]
    """The prompts."""
    references: tuple[Reference, ...] = ()
    """Unseen clips for the autoencoder."""
    judge: Judge | None = None
    """Looks at clips; None leaves that to people."""
    examiner: Measurer | None = None
    """Sees more than what is right; None sees what the judge says."""
    about: Mapping[str, str | int] = field(default_factory=dict)
    """What names the benchmark, for tables and trackers; empty where it is none."""
    laws: Mapping[int, Mapping[str, Law]] = field(default_factory=dict)
    """By prompt that leaves something open, what training shows there."""
    pools: tuple[Pool, Pool] | None = None
    """Training clips, and as many that training never shows; None looks for no copies."""

    @property
    def has_suites(self) -> bool:
        """Whether each split asks something else, with marks of its own."""
        return self.examiner is not None

    def examine(self, frames: Frames, expected: Any) -> Examined:
        """Look at one clip."""
        if self.examiner is not None:
            return self.examiner(frames, expected)
        return Examined(marks=self.judge(frames, expected) if self.judge else {})


def shapes_bench(world: WorldConfig, config: EvaluationConfig) -> Bench:
    """Ask a synthetic world, trained and withheld combinations apart.

    References are clips beyond the dataset's end, read back from files as the dataset's are.
    """
    from video_platform.shapes.captions import clip_at
    from video_platform.shapes.detect import detect_in
    from video_platform.shapes.judge import judge

    programs = [clip_at(world, world.num_clips + i)[0] for i in range(config.reconstructions)]
    return Bench(
        questions=tuple(_shapes_questions(world, config)),
        references=tuple(
            Reference(frames=filmed(each), expected=each.combinations) for each in programs
        ),
        judge=lambda frames, expected: judge(detect_in(world, frames), expected),
    )


def filmed(program: Program) -> Frames:
    """Render a program and read it back from an mp4 file like the dataset's."""
    from video_platform.shapes.render import render
    from video_platform.shapes.write import CRF
    from video_platform.video.decode import decode
    from video_platform.video.encode import encode_mp4

    side = program.size
    policy = PixelPolicy(frames=program.frames, height=side, width=side, fps=program.fps)
    mp4 = encode_mp4(render(program), fps=program.fps, crf=CRF)
    return decode(mp4, policy=policy, limits=MediaLimits()).frames


def _shapes_questions(world: WorldConfig, config: EvaluationConfig) -> Sequence[Question]:
    """Take the asked share of withheld prompts; a world that withholds nothing has none."""
    from video_platform.shapes.prompts import evaluation_prompts

    num_withheld = round(config.prompts * config.held_out_share)
    num_trained = config.prompts - num_withheld
    pool = evaluation_prompts(world, 2 * config.prompts, config.first_seed)
    withheld = [prompt for prompt in pool if prompt.held_out]
    trained = [prompt for prompt in pool if not prompt.held_out]
    if not withheld:
        num_trained, num_withheld = config.prompts, 0
    return [
        Question(
            prompt=prompt.text,
            expected=prompt.expected,
            split=WITHHELD if prompt.held_out else TRAINED,
        )
        for prompt in (*trained[:num_trained], *withheld[:num_withheld])
    ]


def file_bench(
    path: str | Path, config: EvaluationConfig, *, references: Sequence[Frames] = ()
) -> Bench:
    """Ask the prompts of a JSONL file, without a judge.

    Raises:
        ConfigError: the file is missing, or a line holds no `prompt`.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"there is no prompt file {str(path)!r}; evaluate.prompt_file names it")
    questions = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            questions.append(Question(prompt=_prompt(line, f"{path}:{number}")))
    if not questions:
        raise ConfigError(f"{path} holds no prompts; give lines such as " + '{"prompt": "a cat"}')
    return Bench(
        questions=tuple(questions[: config.prompts]),
        references=tuple(Reference(frames=frames) for frames in references),
    )


def _prompt(line: str, where: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError):
        prompt = None
    if not isinstance(prompt, str):
        raise ConfigError(f"{where} holds no prompt; a line is " + '{"prompt": "a cat"}')
    return prompt
