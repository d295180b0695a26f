"""A cache of a toy source, filled without Ray: every test of the files themselves stands on it."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from video_platform.datasets.record import Record
from video_platform.latents.canary import encode_canary
from video_platform.latents.config import CacheConfig
from video_platform.latents.layer import Encoded, Layer, open_layer
from video_platform.latents.manifest import (
    Plan,
    captions,
    latent_units,
    load_plan,
    save_manifest,
    text_units,
)
from video_platform.latents.records import Reject
from video_platform.latents.shard import DTYPES
from video_platform.latents.spec import LayerSpec, clip_spec, latent_spec, text_spec
from video_platform.latents.work import missing_work
from video_platform.storage import Store, open_store
from video_platform.video.policy import PixelPolicy

POLICY = PixelPolicy(frames=5, height=16, width=16, fps=8.0)


def record(number: int, **changes) -> Record:
    fields = {
        "id": f"clip-{number:03d}.mp4",
        "url": "/videos",
        "key": f"clip-{number:03d}.mp4",
        "size_bytes": 100 + number,
        "identity": f"v{number}",
        "caption": f"caption {number % 3}",
        "size": POLICY.size,
    }
    return Record(**{**fields, **changes})


def frames_of(record: Record) -> np.ndarray:
    """Noise that follows from the content of a clip, of the clip's size."""
    seed = hashlib.sha256(record.identity.encode()).digest()[:4]
    draw = np.random.default_rng(int.from_bytes(seed))
    return draw.integers(0, 256, (*(record.size or POLICY.size), 3), dtype=np.uint8)


def encode(frames: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Average over blocks: (B, T, H, W, 3) -> two of (B, 3, 1 + (T - 1) / 4, H / 8, W / 8)."""
    video = torch.from_numpy(frames).movedim(-1, 1).float() / 127.5 - 1
    mean = torch.nn.functional.avg_pool3d(video[:, :, ::4], (1, 8, 8))
    return mean, mean.abs() - 3


def embed(caption: str) -> torch.Tensor:
    """One row a word and one for the end."""
    words = [*caption.split(), "</s>"]
    return torch.tensor([[float(len(word)), float(ord(word[0]))] for word in words])


def latents(config: CacheConfig, **changes) -> LayerSpec:
    fields = {
        "autoencoder_fingerprint": "a" * 64,
        "policy": POLICY,
        "config": config,
        "information": {},
    }
    return latent_spec(**{**fields, **changes})


def config_for(url: str, **changes) -> CacheConfig:
    return CacheConfig(url=url, **{"unit_size": 4, "text_unit_size": 2, **changes})


def plan_for(root: Store, records: Sequence[Record], config: CacheConfig, **changes) -> Plan:
    """Store manifest, plan and empty layers."""
    spec = dataclasses.replace(latents(config, **changes), canary=encode_canary(encode, POLICY))
    latent = open_layer(root, spec)
    text = open_layer(root, text_spec("toy", identity={"name": "toy"}, stored=config.stored))
    plan = Plan(
        source=save_manifest(root, records),
        latent=latent.spec.folder,
        text={"toy": text.spec.folder},
        unit_size=config.unit_size,
        text_unit_size=config.text_unit_size,
    )
    plan.save(root)
    return plan


def fill(
    url: str,
    records: Sequence[Record],
    *,
    rejected: Sequence[str] = (),
    units: int = 10**6,
    **changes,
) -> Plan:
    """Fill a cache with up to `units` units a layer, as the workers do."""
    root = open_store(url)
    config = config_for(url, **changes)
    plan = plan_for(root, records, config)
    latent = open_layer(root, latents(config))
    text = open_layer(root, text_spec("toy", identity={"name": "toy"}, stored=config.stored))
    by_id = {item.id: item for item in records}
    for work in missing_work(latent, latent_units(records, plan.unit_size))[:units]:
        write_clips(latent, work, by_id, rejected)
    texts = captions(records)
    for work in missing_work(text, text_units(records, plan.text_unit_size))[:units]:
        encoded = [
            Encoded(
                member=member,
                tensors={"embedding": embed(texts[member.id]).to(DTYPES[config.stored])},
                bucket="2",
            )
            for member in work.unit.members
            if member.id in work.wanted
        ]
        text.write(work.unit, encoded, known=work.known)
    return plan


def write_clips(layer: Layer, work, records, rejected: Sequence[str] = ()) -> bool:
    """Encode and commit one unit."""
    stored = DTYPES[layer.spec.identity["encode"]["stored"]]
    encoded, rejects = [], []
    for member in work.unit.members:
        if member.id not in work.wanted:
            continue
        if member.id in rejected:
            rejects.append(
                Reject(id=member.id, source=member.source, reason="corrupt", error="damaged")
            )
            continue
        mean, logvar = (part[0].to(stored) for part in encode(frames_of(records[member.id])[None]))
        bucket = "x".join(map(str, mean.shape))
        encoded.append(
            Encoded(member=member, tensors={"mean": mean, "logvar": logvar}, bucket=bucket)
        )
    return layer.write(work.unit, encoded, rejects=rejects, known=work.known)


def fill_further_layer(url: str, records: Sequence[Record], *, rejected: Sequence[str] = ()) -> str:
    """Add a layer of codes to the newest plan, and return its folder."""
    root = open_store(url)
    layer = open_layer(root, clip_spec("codes", identity={"name": "toy"}, policy=POLICY))
    plan = dataclasses.replace(load_plan(root), clip={"codes": layer.spec.folder})
    plan.save(root)
    for work in missing_work(layer, latent_units(records, plan.unit_size)):
        wanted = [member for member in work.unit.members if member.id in work.wanted]
        layer.write(
            work.unit,
            [
                Encoded(member=m, tensors={"code": torch.arange(4, dtype=torch.int32)}, bucket="4")
                for m in wanted
                if m.id not in rejected
            ],
            rejects=[
                Reject(id=m.id, source=m.source, reason="corrupt", error="damaged")
                for m in wanted
                if m.id in rejected
            ],
            known=work.known,
        )
    return layer.spec.folder
