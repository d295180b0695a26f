"""How models are judged: how many clips, from which prompts, measured on what."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

NAMES = re.compile(r"[\w. -]+", re.ASCII)
"""What an autoencoder or a student may be called: its name is part of file names and of metrics."""

TEACHER = "teacher"
"""What tables call the recipe's model where students are judged beside it."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The `evaluate` section of a recipe."""

    prompts: int = 64
    """Prompts; each is generated once for each seed."""

    seeds: int = 4
    """Clips for each prompt, of the seeds `first_seed`, `first_seed + 1`, ...; every model gets
    the same ones, so that clips of equal seed begin from the same noise."""

    first_seed: int = 1000
    """The first seed."""

    held_out_share: float = 0.25
    """Share of the prompts that name withheld combinations, as far as the world withholds enough;
    they are reported apart."""

    benchmark: int | None = None
    """Prompts a suite of the world's benchmark, which is fixed and has a version: binding,
    counting, relations, motion, letters and more, each with its null controls. It takes the place
    of `prompts` and `held_out_share`; None asks those."""

    prompt_file: str | None = None
    """A JSONL file with a `prompt` a line, for worlds without detectors; None asks the recipe's
    synthetic world."""

    students: Mapping[str, str] | None = None
    """Students to judge beside the recipe's model: folders by the name that tables call them, such
    as `{progressive: outputs/p/student, consistency: outputs/c/student}`. None takes the one that
    `vdp distill` wrote, if there is one."""

    same_steps: bool = True
    """Judge the teacher at each student's number of steps too: what distillation has to beat."""

    at_steps: tuple[int, ...] = ()
    """Numbers of steps, such as `[1, 2, 4]`, at which each student is judged besides its own, and
    the undistilled teacher too; who runs at equal steps is compared."""

    batch_size: int = 32
    """Clips that are generated at once."""

    measure: Literal["mp4", "raw"] = "mp4"
    """What the detectors look at: the frames read back from the mp4 file, as a viewer gets them,
    or the frames as the model made them."""

    reconstructions: int = 32
    """Unseen clips that the autoencoder is judged on; with `benchmark`, of each suite."""

    level: float = 0.95
    """Confidence of the intervals."""

    resamples: int = 2000
    """Bootstrap draws for the intervals of means and differences."""

    shown: int = 12
    """Prompts whose clips play in the report, or clips that are shown side by side; all are in the
    tables."""

    autoencoders: Mapping[str, str] | str | None = None
    """Autoencoders to judge side by side, in place of models: folders by the name that the table
    calls them, such as `{ours: outputs/shapes/autoencoder, wan: Wan2.1_VAE.pth}`, or one folder.
    None judges the recipe's text-to-video models."""

    feature_network: str | None = None
    """Folder of a CLIP vision model. With it, clips are also judged by the Fréchet distance between
    the pooled embeddings of all frames: generated and unseen, or, for autoencoders, original and
    reconstructed. That is no FID and no FVD, and its name says from how many clips of which size it
    is. None leaves it out."""

    def __post_init__(self) -> None:
        """Check every number."""
        for name in ("prompts", "seeds", "batch_size", "resamples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)!r}; it must be at least 1")
        for name in ("first_seed", "reconstructions", "shown"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)!r}; it must not be negative")
        if not 0 <= self.held_out_share <= 1:
            raise ValueError(f"held_out_share = {self.held_out_share!r}; it must be in [0, 1]")
        if not 0 < self.level < 1:
            raise ValueError(f"level = {self.level!r}; it must lie between 0 and 1")
        if self.autoencoders is not None and not self.autoencoder_folders:
            raise ValueError("autoencoders names none; give {name: folder}, or one folder")
        _check_names("autoencoders", self.autoencoder_folders)
        self._check_students()
        if self.benchmark is not None and self.benchmark < 2:
            raise ValueError(f"benchmark = {self.benchmark!r}; a suite takes at least 2 prompts")
        if self.benchmark is not None and self.prompt_file is not None:
            raise ValueError(
                f"benchmark = {self.benchmark!r} and prompt_file = {self.prompt_file!r}; a "
                "benchmark has its own prompts, so give one of them"
            )

    def _check_students(self) -> None:
        if self.students is not None and not self.students:
            raise ValueError("students names none; give {name: folder}, or leave it out")
        _check_names("students", self.student_folders)
        if TEACHER in self.student_folders:
            raise ValueError(f"students calls one {TEACHER!r}, as the recipe's model is called")
        if any(steps < 1 for steps in self.at_steps):
            raise ValueError(f"at_steps = {list(self.at_steps)!r}; each must be at least 1")

    @property
    def autoencoder_folders(self) -> dict[str, Path]:
        """The autoencoders' folders by name; one folder is called as the folder is."""
        if isinstance(self.autoencoders, str):
            path = Path(self.autoencoders)
            return {path.absolute().name: path} if self.autoencoders else {}
        return {name: Path(path) for name, path in (self.autoencoders or {}).items()}

    @property
    def student_folders(self) -> dict[str, Path]:
        """The students' folders by name."""
        return {name: Path(path) for name, path in (self.students or {}).items()}


def _check_names(knob: str, folders: Mapping[str, Path]) -> None:
    for name in folders:
        if not NAMES.fullmatch(name):
            raise ValueError(
                f"{knob} holds the name {name!r}; names are made of letters, digits, "
                "spaces, '.', '_' and '-': give {name: folder}"
            )
