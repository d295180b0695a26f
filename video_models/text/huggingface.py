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
    """A frozen encoder.

    A caption's embeddings are the last hidden states of its real tokens, or the one that the model
    pools from them.
    """

    def __init__(self, config: TextConfig, *, model: Any, tokenizer: Any):
        self.name = config.layer
        self._length = config.max_tokens
        self._pooled = config.output == "pooled"
        self._model = model
        self._tokenizer = tokenizer
        self.identity = {
            "name": config.kind,
            "weights": fingerprint(model),
            "tokenizer": _tokenizer_fingerprint(tokenizer),
            "max_tokens": config.max_tokens,
        }
        if self._pooled:
            self.identity["output"] = config.output

    @property
    def dim(self) -> int:
        """The width of the hidden states."""
        config = self._model.config
        width: int = getattr(config, "d_model", None) or config.hidden_size
        return width

    @property
    def max_tokens(self) -> int:
        """The most tokens that one caption gives; 1 when they are pooled."""
        return 1 if self._pooled else self._length

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> list[Tensor]:
        """Return one (L, D) float32 tensor a caption, on the CPU."""
        device = next(self._model.parameters()).device
        tokens = self._tokenizer(
            [" ".join(caption.split()) for caption in captions],
            max_length=self._length,
            truncation=True,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(device)
        found = self._model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        if self._pooled:
            return list(found.pooler_output.float().cpu()[:, None])
        states = found.last_hidden_state  # (B, L, D)
        return [
            state[mask.bool()].float().cpu()
            for state, mask in zip(states, tokens.attention_mask, strict=True)
        ]


def open_huggingface(config: TextConfig, device: torch.device | str = "cpu") -> HuggingFaceEncoder:
    """Open the encoder that a config names, frozen.

    Raises:
        ValueError: the folder or hub name does not hold such an encoder in safetensors, or it
            reads fewer tokens than `max_tokens`.
    """
    import transformers

    model_class, tokenizer_class = pick(CLASSES, config.kind, "text encoder")
    where: dict[str, Any] = {"revision": config.revision or "main", "trust_remote_code": False}
    dtype = getattr(torch, config.compute)
    try:
        model = getattr(transformers, model_class).from_pretrained(
            config.path, use_safetensors=True, dtype=dtype, **where
        )
        tokenizer = getattr(transformers, tokenizer_class).from_pretrained(config.path, **where)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"text.path is {config.path!r}: no {config.kind} encoder with safetensors weights "
            f"there: {str(error).splitlines()[0]}"
        ) from error
    most = getattr(model.config, "max_position_embeddings", config.max_tokens)
    if config.max_tokens > most:
        raise ValueError(
            f"max_tokens is {config.max_tokens}; the {config.kind} encoder {config.path!r} reads "
            f"at most {most}"
        )
    model = model.eval().requires_grad_(False).to(device)
    return HuggingFaceEncoder(config, model=model, tokenizer=tokenizer)


def _tokenizer_fingerprint(tokenizer: Any) -> str:
    """Return a hash of what a tokenizer does, whatever files it came from."""
    rules: dict[str, Any] = {"class": type(tokenizer).__name__}
    if tokenizer.is_fast:
        rules |= json.loads(tokenizer.backend_tokenizer.to_str())
    # Each call sets padding and truncation anew.
    rules |= {"vocabulary": tokenizer.get_vocab(), "padding": None, "truncation": None}
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()
