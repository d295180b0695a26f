"""Memory of every process of `precompute` while it works through thousands of small clips.

    python -m tests.benchmarks.precompute_memory                  # 5,000 clips
    python -m tests.benchmarks.precompute_memory --clips 500

A process's own memory is its resident set less what it shares; Ray's object store is the shared
memory that the raylet has ever touched, which is its high-water mark. What each has after a fifth
of the clips, when everything is warm, is compared with what it has at the end.
"""

import argparse
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil

WARM = 0.2
"""Share of the clips after which memory is expected to stay as it is."""


@dataclasses.dataclass
class Memory:
    """Megabytes of each role over the course of a job.

    Attributes:
        samples: of each look, the share of the clips that were done, and the memory by role.
    """

    samples: list[tuple[float, dict[str, float]]] = dataclasses.field(default_factory=list)

    def look(self, now) -> None:
        """Take note of every process; called by the job as it goes on."""
        if now.layer == "latent" and now.load.encoders:
            self.samples.append((now.load.settled / now.samples, _by_role()))

    def at(self, low: float, high: float) -> dict[str, float]:
        """Return the median of each role's memory while such a share of the clips was done."""
        chosen = [found for done, found in self.samples if low <= done <= high]
        roles = sorted({role for found in chosen for role in found})
        return {role: _median([found[role] for found in chosen if role in found]) for role in roles}


def fill_small_clips(folder: Path, clips: int, on_progress: Callable[[object], None]) -> None:
    """Write so many clips of the world of shapes, and run `precompute` on them."""
    from jobs.precompute_latents import precompute
    from jobs.recipe import AutoencoderSection, Recipe
    from tests.tiny import make_autoencoder
    from video_models.formats import save_autoencoder
    from video_models.text.config import TextConfig
    from video_platform.datasets.config import SourceConfig
    from video_platform.datasets.source import open_source
    from video_platform.latents.config import CacheConfig
    from video_platform.shapes.world import WorldConfig
    from video_platform.shapes.write import write_dataset
    from video_platform.video.policy import PixelPolicy

    write_dataset(WorldConfig(num_clips=clips), str(folder / "videos"), format="folder")
    save_autoencoder(make_autoencoder(), folder / "vae")
    recipe = Recipe(
        name="memory",
        pixels=PixelPolicy(frames=9, height=32, width=32, fps=8.0),
        cache=CacheConfig(url=str(folder / "cache"), unit_size=64, batch_size=16),
        autoencoder=AutoencoderSection(path=str(folder / "vae")),
        text=TextConfig(dim=8, max_tokens=8),
    )
    files = open_source(SourceConfig(url=str(folder / "videos")))
    report = precompute(recipe, files, on_progress=on_progress)
    if report.clips != clips:
        raise AssertionError(f"{report.clips} of {clips} clips are in the cache")


def _by_role() -> dict[str, float]:
    found: dict[str, float] = {"driver": _own_mb(psutil.Process())}
    for process in psutil.Process().children(recursive=True):
        try:
            line = " ".join(process.cmdline())
            role = next((role for mark, role in ROLES.items() if mark in line), None)
            if role:
                found[role] = max(found.get(role, 0.0), _own_mb(process))
            if role == "raylet":
                found["object store"] = process.memory_info().shared / 1e6
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


ROLES = {
    "ray::Decoder": "decoder",
    "video_platform.video.child": "decoder's child",
    "ray::ClipEncoder": "encoder",
    "/raylet": "raylet",
    "/gcs_server": "gcs",
}
"""What is in the command line of each role."""


def _own_mb(process: psutil.Process) -> float:
    info = process.memory_info()
    return (info.rss - info.shared) / 1e6


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--curve", help="write every sample to this file, as JSON")
    options = parser.parse_args()
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  (Ray spells it so)
    from video_platform.cluster import start
    from video_platform.cluster_config import ClusterConfig

    memory = Memory()
    with tempfile.TemporaryDirectory() as scratch, start(ClusterConfig(num_cpus=2)):
        fill_small_clips(Path(scratch), options.clips, memory.look)
    if options.curve:
        Path(options.curve).write_text(json.dumps(memory.samples))
    stops = [(WARM, WARM + 0.1), (0.45, 0.55), (0.9, 1.0)]
    table = [memory.at(low, high) for low, high in stops]
    print(f"{options.clips} clips; MB while so much is done")
    print(f"{'':18}" + "".join(f"{low:>8.0%} to {high:<4.0%}" for low, high in stops) + "  change")
    for role, warm in table[0].items():
        row = [found.get(role, float("nan")) for found in table]
        print(f"{role:18}" + "".join(f"{mb:16.1f}" for mb in row) + f"{row[-1] - warm:+8.1f}")


if __name__ == "__main__":
    main()
