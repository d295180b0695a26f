"""A generated clip, and the file that it becomes.

The file says that it was generated, by what and how: in the mp4's own metadata and, in full, in a
JSON file beside it. The prompt stands there as a hash only, since files travel further than prompts
should.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for media that a trained model made."""


CRF = 10
"""H.264 quality: small frames with sharp edges suffer at the usual 23."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames to show, and where they came from."""

    frames: NDArray[np.uint8]
    """RGB, (T, H, W, 3)."""
    fps: float
    """Frames a second."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Model, run, seed, sampler, steps, guidance and the prompt's hash."""


def prompt_hash(prompt: str) -> str:
    """Return the SHA-256 of a prompt."""
    return hashlib.sha256(prompt.encode()).hexdigest()


def clip_metadata(clip: Clip) -> dict[str, str]:
    """Return what the mp4 file says about itself."""
    return {
        "title": "AI-generated video",
        "comment": json.dumps(
            {"ai_generated": True, "digital_source_type": SOURCE_TYPE, **clip.provenance},
            sort_keys=True,
        ),
    }


def read_provenance(path: Path) -> dict[str, Any]:
    """Return what a clip's file says about its making; empty when it says nothing.

    Raises:
        SourceError: it is no readable mp4 file.
    """
    from video_platform.video.encode import read_mp4_metadata

    try:
        told = json.loads(read_mp4_metadata(path).get("comment", ""))
    except json.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def write_clip(clip: Clip, path: str | Path) -> Path:
    """Write an mp4 file that says what made it, and return its path."""
    from video_platform.video.encode import write_mp4

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, clip.frames, fps=clip.fps, metadata=clip_metadata(clip), crf=CRF)
    return path


def save_clip(clip: Clip, path: str | Path) -> Path:
    """Write an mp4 file and, beside it, `<name>.json`; return the path of the former."""
    path = write_clip(clip, path)
    frames, height, width, _ = clip.frames.shape
    told = {
        "ai_generated": True,
        "digital_source_type": SOURCE_TYPE,
        **clip.provenance,
        "frames": frames,
        "height": height,
        "width": width,
        "fps": clip.fps,
        "file_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    path.with_suffix(".json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return path
