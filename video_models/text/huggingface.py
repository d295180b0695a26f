"""Published text encoders (T5, UMT5, ByT5, CLIP) from a local folder or the hub.

Only safetensors weights are read and no code of a folder is run. transformers is imported when an
encoder is opened, not before.

Legend: B captions, L tokens, D width.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from video_models.formats.fingerprint import fingerprint
from video_models.pick import pick
from video_models.text.config import TextConfig

CLASSES: dict[str, tuple[str, str]] = {
    "byt5": ("T5EncoderModel", "ByT5Tokenizer"),
    "clip": ("CLIPTextModel", "AutoTokenizer"),
    "t5": ("T5EncoderModel", "AutoTokenizer"),
    "umt5": ("UMT5EncoderModel", "AutoTokenizer"),
}
"""Model and tokenizer class in transformers, by kind."""


class HuggingFaceEncoder:
    """A frozen encoder; a caption's embeddings are the last hidden states of its real tokens."""

    def __init__(self, *, kind: str, model: Any, tokenizer: Any, max_tokens: int):
        self.name = kind
        self.max_tokens = max_tokens
        self._model = model
        self._tokenizer = tokenizer
        self.identity = {
            "name": kind,
            "weights": fingerprint(model),
            "tokenizer": _tokenizer_fingerprint(tokenizer),
            "max_tokens": max_tokens,
        }

    @property
    def dim(self) -> int:
        """The width of the hidden states."""
        config = self._model.config
        width: int = getattr(config, "d_model", None) or config.hidden_size
        return width

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> list[Tensor]:
        """Return one (L, D) float32 tensor a caption, on the CPU."""
        device = next(self._model.parameters()).device
        tokens = self._tokenizer(
            [" ".join(caption.split()) for caption in captions],
            max_length=self.max_tokens,
            truncation=True,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(device)
        states = self._model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        ).last_hidden_state  # (B, L, D)
        return [
            state[mask.bool()].float().cpu()
            for state, mask in zip(states, tokens.attention_mask, strict=True)
        ]


def open_huggingface(config: TextConfig) -> HuggingFaceEncoder:
    """Open the encoder that a config names, frozen, in float32.

    Raises:
        ValueError: the folder or hub name does not hold such an encoder in safetensors.
    """
    import transformers

    model_class, tokenizer_class = pick(CLASSES, config.kind, "text encoder")
    try:
        model = getattr(transformers, model_class).from_pretrained(
            config.path, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
        tokenizer = getattr(transformers, tokenizer_class).from_pretrained(
            config.path, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"text.path is {config.path!r}: no {config.kind} encoder with safetensors weights "
            f"there: {str(error).splitlines()[0]}"
        ) from error
    return HuggingFaceEncoder(
        kind=config.kind,
        model=model.eval().requires_grad_(False),
        tokenizer=tokenizer,
        max_tokens=config.max_tokens,
    )


def _tokenizer_fingerprint(tokenizer: Any) -> str:
    """Return a hash of what a tokenizer does, whatever files it came from."""
    rules: dict[str, Any] = {"class": type(tokenizer).__name__}
    if tokenizer.is_fast:
        rules |= json.loads(tokenizer.backend_tokenizer.to_str())
    # Each call sets padding and truncation anew.
    rules |= {"vocabulary": tokenizer.get_vocab(), "padding": None, "truncation": None}
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()
