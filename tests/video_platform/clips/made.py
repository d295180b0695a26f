"""Scans of videos that are nowhere, for plans that need no file."""

import random

from video_platform.clips.config import ClipsConfig
from video_platform.clips.planning import plan_clips
from video_platform.datasets.record import Record
from video_platform.video.policy import PixelPolicy
from video_platform.video.scan import Look, Scan

POLICY = PixelPolicy(frames=17, height=64, width=64, fps=8.0)
PLAIN = {"luma": 120.0, "contrast": 40.0, "motion": 5.0}


def record(name, **changes):
    fields = {"url": "/v", "key": name, "size_bytes": 1, "identity": name, "caption": "a dog"}
    return Record(id=name, **{**fields, **changes})


def looks(duration_s, seed=0, **changes):
    draw = random.Random(seed)
    return tuple(
        Look(time_s=place / 2, hash=f"{draw.getrandbits(64):016x}", **{**PLAIN, **changes})
        for place in range(max(1, int(duration_s * 2)))
    )


def scan(
    duration_s, *, width=128, height=128, cuts_s=(), samples=None, seed=0, hdr=False, **changes
):
    return Scan(
        frames=round(duration_s * 24) or 1,
        duration_s=duration_s,
        width=width,
        height=height,
        fps=24.0,
        codec="h264",
        hdr=hdr,
        cuts_s=tuple(cuts_s),
        samples=looks(duration_s, seed, **changes) if samples is None else tuple(samples),
    )


def image(**changes):
    return scan(0.04, **changes)


def plan(*scans, policy=POLICY, **config):
    """Plan files `0`, `1`, ... of the given scans."""
    scanned = [(record(str(name)), found) for name, found in enumerate(scans)]
    return list(plan_clips(scanned, ClipsConfig(**config), policy))
