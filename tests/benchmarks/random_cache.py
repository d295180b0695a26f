"""A latent cache of random numbers, with samples as large as real ones, to measure reading.

Three shapes of latents in bfloat16 (clips of two sizes, and images), each with mean and
log-variance, and captions of 20 to 256 tokens: 0.8 MB a sample on average. Shards are smaller than
real ones, some 6 MB: moto reads the whole object to answer for a part of it.
"""

import torch

from tests.video_platform.latents.toy import config_for, latents, plan_for, record
from video_platform.latents import snapshot
from video_platform.latents.layer import Encoded, open_layer
from video_platform.latents.manifest import latent_units, text_units
from video_platform.latents.spec import text_spec
from video_platform.storage import open_store

SHAPES = [(16, 13, 32, 32), (16, 7, 40, 24), (16, 1, 64, 64)]
TEXT_DIM = 1024


def fill(url: str, samples: int) -> None:
    """Write a cache and a snapshot of it."""
    records = [record(n, id=f"clip-{n:06d}", caption=f"caption {n}") for n in range(samples)]
    config = config_for(url, unit_size=24, text_unit_size=24, stored="bfloat16")
    root = open_store(url)
    plan_for(root, records, config)
    draw = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(shape, generator=draw).bfloat16()

    layer = open_layer(root, latents(config))
    for unit in latent_units(records, config.unit_size):
        encoded = []
        for member in unit.members:
            shape = SHAPES[int(member.id[-6:]) % len(SHAPES)]
            tensors = {"mean": noise(*shape), "logvar": noise(*shape)}
            encoded.append(
                Encoded(member=member, tensors=tensors, bucket="x".join(map(str, shape)))
            )
        layer.write(unit, encoded)
    layer = open_layer(root, text_spec("toy", identity={"name": "toy"}, stored=config.stored))
    for unit in text_units(records, config.text_unit_size):
        encoded = []
        for member in unit.members:
            length = int(torch.randint(20, 257, (), generator=draw))
            embedding = noise(length, TEXT_DIM)
            encoded.append(
                Encoded(member=member, tensors={"embedding": embedding}, bucket=str(TEXT_DIM))
            )
        layer.write(unit, encoded)
    snapshot(url)
