"""Turn trained models into clips.

from pipelines import ImageToVideo, TextToVideo
clip = TextToVideo.open("outputs/model")("a red circle moves right", seed=1)
clip = ImageToVideo.open("outputs/i2v")("a red circle moves right", image="first.png")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.clip import Clip, save_clip
    from pipelines.image_to_video import ImageToVideo
    from pipelines.model_folder import ModelCard, ModelFolder
    from pipelines.text_to_video import TextToVideo

_HOMES = {
    "Clip": "pipelines.clip",
    "ImageToVideo": "pipelines.image_to_video",
    "ModelCard": "pipelines.model_folder",
    "ModelFolder": "pipelines.model_folder",
    "TextToVideo": "pipelines.text_to_video",
    "save_clip": "pipelines.clip",
}

__all__ = ["Clip", "ImageToVideo", "ModelCard", "ModelFolder", "TextToVideo", "save_clip"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `--help` needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
