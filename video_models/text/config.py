"""Which text encoder reads the captions.

Importing this file needs no torch, so that recipes stay light.
"""

import re
from dataclasses import dataclass
from typing import Literal

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What an encoder may be called: its name is a folder's."""


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """One text encoder."""

    kind: Literal["words", "t5", "umt5", "byt5", "clip"] = "words"
    """`words` needs no download; the others are Hugging Face encoders, `byt5` reads bytes."""

    name: str | None = None
    """What its embeddings are called in a cache; None is the kind."""

    path: str | None = None
    """A local folder or a hub name such as `google/umt5-xxl`; None with `words`."""

    revision: str | None = None
    """Commit of a hub's repository; None is its newest. Unused with a local folder."""

    max_tokens: int = 16
    """Longest caption in tokens, its end token included; what is longer is cut."""

    output: Literal["tokens", "pooled"] = "tokens"
    """`tokens` gives an embedding a token; `pooled`, of `clip` alone, one for the whole caption."""

    compute: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights and of what they compute; `words` is always float32."""

    dim: int | None = None
    """Width of one embedding with `words` (None: 64); others take it from their weights."""

    seed: int = 0
    """Seed of the word vectors with `words`; unused otherwise."""

    @property
    def layer(self) -> str:
        """The name under which a cache keeps its embeddings."""
        return self.kind if self.name is None else self.name

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.layer):
            raise ValueError(f"name is {self.name!r}; it has letters, digits, dots and hyphens")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens!r}; it must be at least 1")
        if self.output == "pooled" and self.kind != "clip":
            raise ValueError(f"output is 'pooled'; a {self.kind} encoder gives only tokens")
        if self.kind == "words":
            self._check_words()
        else:
            self._check_published()

    def _check_words(self) -> None:
        if self.path is not None:
            raise ValueError(f"path is {self.path!r}; the words encoder has no files, leave it out")
        if self.compute != "float32":
            raise ValueError(f"compute is {self.compute!r}; the words encoder is always float32")
        if self.dim is not None and (self.dim < 2 or self.dim % 2):
            raise ValueError(f"dim is {self.dim!r}; it must be even and at least 2")

    def _check_published(self) -> None:
        if self.path is None:
            raise ValueError(f"a {self.kind} encoder needs path: a local folder or a hub name")
        if self.dim is not None:
            raise ValueError(
                f"dim is {self.dim!r}; the width of a {self.kind} encoder is that of its weights"
            )
