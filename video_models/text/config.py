"""Which text encoder reads the captions.

Importing this file needs no torch, so that recipes stay light.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """One text encoder."""

    kind: Literal["words", "t5", "umt5", "byt5", "clip"] = "words"
    """`words` needs no download; the others are Hugging Face encoders."""

    path: str | None = None
    """A local folder or a hub name such as `google/umt5-xxl`; None with `words`."""

    max_tokens: int = 16
    """Longest caption in tokens, its end token included; what is longer is cut."""

    dim: int | None = None
    """Width of one embedding with `words` (None: 64); others take it from their weights."""

    seed: int = 0
    """Seed of the word vectors with `words`; unused otherwise."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens!r}; it must be at least 1")
        if self.kind == "words" and self.path is not None:
            raise ValueError(f"path is {self.path!r}; the words encoder has no files, leave it out")
        if self.kind != "words" and self.path is None:
            raise ValueError(f"a {self.kind} encoder needs path: a local folder or a hub name")
        if self.kind != "words" and self.dim is not None:
            raise ValueError(
                f"dim is {self.dim!r}; the width of a {self.kind} encoder is that of its weights"
            )
        if self.dim is not None and (self.dim < 2 or self.dim % 2):
            raise ValueError(f"dim is {self.dim!r}; it must be even and at least 2")
