"""Open the text encoder that a config names."""

from collections.abc import Callable

import torch

from video_models.pick import pick
from video_models.text.config import TextConfig
from video_models.text.huggingface import open_huggingface
from video_models.text.protocol import TextEncoder
from video_models.text.words import WordEncoder

DEFAULT_WORD_DIM = 64

Device = torch.device | str


def open_text_encoder(config: TextConfig, device: Device = "cpu") -> TextEncoder:
    """Open a text encoder on a device; what it returns is on the CPU.

    Raises:
        ValueError: its files are missing or not of that kind.
    """
    return pick(ENCODERS, config.kind, "text encoder")(config, device)


def _open_words(config: TextConfig, device: Device) -> TextEncoder:
    dim = DEFAULT_WORD_DIM if config.dim is None else config.dim
    return WordEncoder(dim=dim, seed=config.seed, max_tokens=config.max_tokens, name=config.layer)


ENCODERS: dict[str, Callable[[TextConfig, Device], TextEncoder]] = {
    "byt5": open_huggingface,
    "clip": open_huggingface,
    "t5": open_huggingface,
    "umt5": open_huggingface,
    "words": _open_words,
}
"""What opens an encoder, by kind."""
