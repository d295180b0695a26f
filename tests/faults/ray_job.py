"""A precompute job for tests that kill it, or what works for it.

    python -m tests.faults.ray_job SOURCE CACHE AUTOENCODER [ADDRESS]

It joins the Ray at the address, or starts one of its own. Prints a line for each unit that is done.
"""

import dataclasses
import sys

from jobs.precompute_latents import precompute
from jobs.recipe import AutoencoderSection, Recipe
from tests.jobs.precompute_world import LIMITS, POLICY
from video_models.text.config import TextConfig
from video_platform.cluster import start
from video_platform.cluster_config import ClusterConfig
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.source import open_source
from video_platform.latents.config import CacheConfig


def tell(now) -> None:
    print(now.layer, now.units_done, now.units, now.load.decoders, now.load.encoders, flush=True)


def main() -> None:
    source, cache, autoencoder, *address = sys.argv[1:]
    recipe = Recipe(
        name="world",
        pixels=POLICY,
        limits=dataclasses.replace(LIMITS, timeout_s=120),
        cache=CacheConfig(
            url=cache, unit_size=2, batch_size=2, clips_in_flight=4, decoders=2, encoders=2
        ),
        autoencoder=AutoencoderSection(path=autoencoder),
        text=TextConfig(dim=8, max_tokens=4),
    )
    with start(ClusterConfig(address=address[0] if address else None, num_cpus=2)):
        report = precompute(recipe, open_source(SourceConfig(url=source)), on_progress=tell)
    print("snapshot", report.snapshot, report.clips, report.encoded_now, flush=True)


if __name__ == "__main__":
    main()
