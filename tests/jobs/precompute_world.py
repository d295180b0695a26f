"""A few real videos and an autoencoder, and what runs in other processes over them.

`python -m tests.jobs.precompute_world FOLDER CACHE` fills a cache and kills itself half-way.
"""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import psutil
import torch

from jobs.precompute_latents import PrecomputeReport, precompute
from jobs.recipe import AutoencoderSection, Recipe
from tests.tiny import make_autoencoder
from tests.video_platform.latents.toy import encode
from video_models.autoencoder.quantiser_config import QuantiserConfig, TokenAutoencoderConfig
from video_models.autoencoder.tokens import TokenAutoencoder
from video_models.formats import save_autoencoder
from video_models.text.config import TextConfig
from video_platform.cluster import start
from video_platform.cluster_config import ClusterConfig
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.record import Record
from video_platform.datasets.source import open_source
from video_platform.latents.config import CacheConfig
from video_platform.video.encode import write_mp4
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

POLICY = PixelPolicy(frames=5, height=16, width=16, fps=8.0)
CLIPS = 10
LIMITS = MediaLimits(timeout_s=60)


def make_world(folder: Path) -> None:
    """Write clips with captions, a file that is no video, and an autoencoder."""
    videos = folder / "videos"
    videos.mkdir()
    for number in range(CLIPS):
        add_clip(folder, number)
    (videos / "garbage.mp4").write_bytes(b"this is no video")
    save_autoencoder(make_autoencoder(), folder / "autoencoder")


def save_tokens(folder: Path) -> TokenAutoencoder:
    """Write an autoencoder with a codebook, and return it."""
    torch.manual_seed(3)
    backbone = dataclasses.replace(make_autoencoder().config, latents_mean=None, latents_std=None)
    quantiser = QuantiserConfig(kind="fsq", levels=(8, 5, 5))
    model = TokenAutoencoder(TokenAutoencoderConfig(backbone=backbone, quantiser=quantiser)).eval()
    save_autoencoder(model, folder)
    return model


def add_clip(folder: Path, number: int) -> None:
    path = folder / "videos" / f"{number:02d}.mp4"
    draw = np.random.default_rng(number)
    coarse = draw.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    write_mp4(path, coarse.repeat(8, axis=1).repeat(8, axis=2), fps=8.0)
    with (folder / "videos" / "captions.jsonl").open("a") as file:
        file.write(json.dumps({"video": path.name, "caption": f"noise {number % 4}"}) + "\n")


def config_for(url: str, **changes) -> CacheConfig:
    return CacheConfig(url=url, **{"unit_size": 2, "batch_size": 2, **changes})


def run_precompute(folder: Path, config: CacheConfig, on_progress, **changes) -> PrecomputeReport:
    return precompute(
        recipe_for(folder, config, **changes), clips_of(folder), on_progress=on_progress
    )


def recipe_for(folder: Path, config: CacheConfig, **changes) -> Recipe:
    """Return the recipe of the world, with other sections where they are given."""
    return Recipe(
        **{
            "name": "world",
            "pixels": POLICY,
            "limits": LIMITS,
            "cache": config,
            "autoencoder": AutoencoderSection(path=str(folder / "autoencoder")),
            "text": TextConfig(dim=8, max_tokens=4),
            **changes,
        }
    )


def clips_of(folder: Path) -> list[Record]:
    return open_source(SourceConfig(url=str(folder / "videos")))


def open_hostile(folder: str):
    """Open the toy encoder; its first call kills the decoder, its third kills its own process."""
    notes = Path(folder)

    def hostile(frames: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        calls = len(list(notes.iterdir()))
        (notes / str(calls)).touch()
        if calls == 1:  # the very first call encodes the canary clip
            victims = [p for p in psutil.process_iter() if "ray::Decoder" in p.name()]
            ours = {p.pid for p in psutil.Process().parent().children()}
            for victim in victims:
                if victim.pid in ours:
                    victim.kill()
                    (notes / "decoder").touch()
        if calls == 4:
            os._exit(1)
        return encode(frames)

    return hostile


def die_halfway(now) -> None:
    if now.layer == "latent" and now.units_done >= 2:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    with start(ClusterConfig(num_cpus=2)):
        run_precompute(Path(sys.argv[1]), config_for(sys.argv[2]), die_halfway)
