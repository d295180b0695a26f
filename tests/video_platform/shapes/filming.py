"""Worlds to ask, and clips as they come out of files or of an autoencoder."""

import numpy as np
from scipy.ndimage import gaussian_filter

from video_platform.shapes.world import WorldConfig
from video_platform.video.decode import decode
from video_platform.video.encode import encode_mp4
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

DEMO = WorldConfig(num_clips=2048)
RICH = WorldConfig(
    num_clips=4096,
    size=32,
    frames=9,
    max_objects=2,
    copies=0.25,
    relations=0.3,
    unsaid=0.2,
    texts=0.2,
)


def through_mp4(frames, *, crf, fps=8.0):
    """Return frames as they come out of a file."""
    num_frames, height, width, _ = frames.shape
    policy = PixelPolicy(frames=num_frames, height=height, width=width, fps=fps)
    return decode(encode_mp4(frames, fps=fps, crf=crf), policy=policy, limits=MediaLimits()).frames


def worsen(frames, *, blur, noise, seed):
    """Blur within each frame, then add noise, both in steps of 8 bits."""
    soft = gaussian_filter(frames.astype(np.float32), (0, blur, blur, 0))
    noisy = soft + np.random.default_rng(seed).normal(0, noise, frames.shape)
    return noisy.clip(0, 255).round().astype(np.uint8)
