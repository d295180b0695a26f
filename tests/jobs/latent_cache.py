"""A latent cache of random latents, made in a moment, for the tests of training jobs."""

import torch

from tests.video_platform.latents.toy import POLICY, record
from video_platform.latents import snapshot
from video_platform.latents.config import CacheConfig
from video_platform.latents.layer import Encoded, open_layer
from video_platform.latents.manifest import Plan, latent_units, save_manifest, text_units
from video_platform.latents.spec import latent_spec, text_spec
from video_platform.storage import open_store

SHAPES = [(4, 2, 4, 4), (4, 1, 4, 4), (4, 2, 2, 4)]
"""Of the latents by number; 32, 16 and 16 tokens."""


def fill(url, count, *, maker, encoder, first=0, shapes=SHAPES):
    """Commit random latents and snapshot them."""
    records = [record(first + number, caption=f"a clip {number}") for number in range(count)]
    config, root = CacheConfig(url=url, unit_size=8), open_store(url)
    latent = open_layer(
        root,
        latent_spec(autoencoder_fingerprint=maker, policy=POLICY, config=config, information={}),
    )
    spec = text_spec(encoder.name, identity=encoder.identity, stored=config.stored)
    text = open_layer(root, spec)
    plan = Plan(
        source=save_manifest(root, records),
        latent=latent.spec.folder,
        text={encoder.name: text.spec.folder},
        unit_size=8,
        text_unit_size=8,
    )
    plan.save(root)
    for unit in latent_units(records, 8):
        encoded = []
        for member in unit.members:
            shape = shapes[int(member.id[5:8]) % len(shapes)]
            tensors = {"mean": torch.randn(shape), "logvar": torch.zeros(shape)}
            bucket = "x".join(map(str, shape))
            encoded.append(Encoded(member=member, tensors=tensors, bucket=bucket))
        latent.write(unit, encoded)
    for unit in text_units(records, 8):
        text.write(
            unit,
            [
                Encoded(member=m, tensors={"embedding": torch.randn(3, encoder.dim)}, bucket="8")
                for m in unit.members
            ],
        )
    return snapshot(url)
