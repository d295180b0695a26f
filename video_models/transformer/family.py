"""The families of transformers, and the one that a config belongs to.

    model = build_transformer(config)

Members of all families are called alike: `model(latents, t, text, text_mask=..., ...)`.
"""

from video_models.transformer.joint import JointTransformer
from video_models.transformer.joint_config import AnyTransformerConfig, JointTransformerConfig
from video_models.transformer.model import VideoTransformer

AnyTransformer = VideoTransformer | JointTransformer


def build_transformer(config: AnyTransformerConfig) -> AnyTransformer:
    """Build an untrained transformer of the family that its config describes."""
    if isinstance(config, JointTransformerConfig):
        return JointTransformer(config)
    return VideoTransformer(config)
