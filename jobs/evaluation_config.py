"""How models are judged: how many clips, from which prompts, measured on what."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

NAMES = re.compile(r"[\w. -]+", re.ASCII)
"""What an autoencoder may be called: its name is part of file names and of metrics."""


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

    prompt_file: str | None = None
    """A JSONL file with a `prompt` a line, for worlds without detectors; None asks the recipe's
    synthetic world."""

    same_steps: bool = True
    """Judge the teacher at each student's number of steps too: what distillation has to beat."""

    batch_size: int = 32
    """Clips that are generated at once."""

    measure: Literal["mp4", "raw"] = "mp4"
    """What the detectors look at: the frames read back from the mp4 file, as a viewer gets them,
    or the frames as the model made them."""

    reconstructions: int = 32
    """Unseen clips that the autoencoder is judged on."""

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
    """Folder of a CLIP vision model. With it, autoencoders are also judged by the Fréchet distance
    between the pooled embeddings of all frames, original and reconstructed; that is no FID and no
    FVD. None leaves it out."""

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
        folders = self.autoencoder_folders
        if self.autoencoders is not None and not folders:
            raise ValueError("autoencoders names none; give {name: folder}, or one folder")
        for name in folders:
            if not NAMES.fullmatch(name):
                raise ValueError(
                    f"autoencoders holds the name {name!r}; names are made of letters, digits, "
                    "spaces, '.', '_' and '-': give {name: folder}"
                )

    @property
    def autoencoder_folders(self) -> dict[str, Path]:
        """The autoencoders' folders by name; one folder is called as the folder is."""
        if isinstance(self.autoencoders, str):
            path = Path(self.autoencoders)
            return {path.absolute().name: path} if self.autoencoders else {}
        return {name: Path(path) for name, path in (self.autoencoders or {}).items()}
