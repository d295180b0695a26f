"""What runs inside the Ray actors that encode: frames or captions go in, stored units come out.

A clip encoder makes tensors of one batch after the other; beside that, in a thread of its own, it
writes and commits the units that are whole, so that no encoder waits for a store.

Legend: B clips, T frames, H W pixels, L tokens, D width.
"""

import dataclasses
import functools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from video_platform.datasets.record import Record
from video_platform.errors import MediaError
from video_platform.latents.canary import Canary, Encode, Frames, encode_canary
from video_platform.latents.config import CacheConfig
from video_platform.latents.decoding import machine
from video_platform.latents.layer import Encoded, Layer
from video_platform.latents.making import Made, Make, OpenMake
from video_platform.latents.records import Reject
from video_platform.latents.shard import DTYPES
from video_platform.latents.work import Outcome, Work
from video_platform.video.policy import ClipSize, PixelPolicy

NOT_FINITE = "latent_not_finite"
"""Reason for which a clip is refused whose latents are not all numbers."""

LATENT_PARTS = ("mean", "logvar")
"""The tensors of a clip in the latent layer."""

EncodeText = Callable[[Sequence[str]], list[torch.Tensor]]
"""Turns captions into embeddings (L, D), valid tokens only."""

Tensors = Mapping[str, torch.Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchNote:
    """What came of a batch, beside its tensors."""

    seconds: float
    """Wall time that the encoder spent on it."""
    made: tuple[str, ...]
    """Ids of the clips that there are tensors of, in their order."""
    refused: tuple[tuple[str, str, str], ...]
    """Id, reason and words for each of the others."""
    findings: tuple[tuple[str, Any], ...]
    """Ids of clips, and what was found out about them."""


class ClipEncoder:
    """Encodes batches of clips and commits units of them."""

    def __init__(
        self, open_make: OpenMake, canary_policy: PixelPolicy | None, config: CacheConfig
    ) -> None:
        self._open = open_make
        self._canary_policy = canary_policy
        self._stored = DTYPES[config.stored]
        self._threads = config.encoder_threads

    @functools.cached_property
    def _make(self) -> Make:
        torch.set_num_threads(self._threads)
        return self._open()

    def ready(self) -> tuple[str, Canary | None]:
        """Open what encodes; return the machine and, where a policy says of which, the canary."""
        _ = self._make
        policy = self._canary_policy
        return machine(), encode_canary(self._latents, policy) if policy else None

    def encode(self, records: Sequence[Record], *frames: Frames) -> tuple[list[Tensors], BatchNote]:
        """Encode one batch.

        Args:
            records: its clips.
            frames: of each the frames (T, H, W, 3), all of one size.
        """
        started_s = time.perf_counter()
        made = self._make(np.stack(frames), records)
        kept: list[Tensors] = []
        names, refused, findings = [], [], []
        for record, item in zip(records, made, strict=True):
            refusal = item.refusal or _refusal(item)
            if refusal is None:
                names.append(record.id)
                kept.append({name: self._kept(part) for name, part in item.tensors.items()})
            else:
                refused.append((record.id, refusal.reason, str(refusal)))
            if item.finding is not None:
                findings.append((record.id, item.finding))
        note = BatchNote(
            seconds=time.perf_counter() - started_s,
            made=tuple(names),
            refused=tuple(refused),
            findings=tuple(findings),
        )
        return kept, note

    def write(
        self,
        layer: Layer,
        work: Work,
        rejects: Sequence[Reject],
        samples: Sequence[tuple[str, str]],
        *batches: Sequence[Tensors],
    ) -> Outcome:
        """Store and commit one unit.

        Args:
            layer: where it belongs.
            work: the unit.
            rejects: its clips that are refused.
            samples: of its other clips that were wanted, in the order of the batches, the id and
                what decoded it.
            batches: their tensors, as `encode` returned them.
        """
        members = {member.id: member for member in work.unit.members}
        tensors = [item for batch in batches for item in batch]
        encoded = [
            Encoded(member=members[name], tensors=item, bucket=_bucket(item), decoder=decoder)
            for (name, decoder), item in zip(samples, tensors, strict=True)
        ]
        committed = layer.write(work.unit, encoded, rejects=rejects, known=work.known)
        return Outcome(
            samples=len(members),
            encoded=len(encoded),
            rejects=Counter(item.reason for item in rejects),
            committed=committed,
        )

    def _latents(self, frames: Frames) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log-variance of clips that are in no source."""
        size = ClipSize(*frames.shape[1:4])
        record = Record(id="canary", url="", key="", size_bytes=0, identity="", size=size)
        made = self._make(frames, [record] * len(frames))
        mean, logvar = (torch.stack([item.tensors[n] for item in made]) for n in LATENT_PARTS)
        return mean, logvar

    def _kept(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor as it is stored, in memory of its own."""
        dtype = self._stored if tensor.is_floating_point() else tensor.dtype
        return tensor.detach().to("cpu", dtype, copy=True).contiguous()


class CaptionEncoder:
    """Encodes units of captions and commits them."""

    def __init__(self, open_encode: Callable[[], EncodeText], config: CacheConfig) -> None:
        self._open = open_encode
        self._stored = DTYPES[config.stored]
        self._threads = config.encoder_threads
        self._batch = 16 * config.batch_size

    @functools.cached_property
    def _encode(self) -> EncodeText:
        torch.set_num_threads(self._threads)
        return self._open()

    def ready(self) -> tuple[str, None]:
        """Open the text encoder; return the machine."""
        _ = self._encode
        return machine(), None

    def encode_unit(self, layer: Layer, work: Work, texts: Mapping[str, str]) -> Outcome:
        """Encode, store and commit one unit.

        Args:
            layer: where it belongs.
            work: the unit.
            texts: the captions of the unit by id.
        """
        started_s = time.perf_counter()
        members = {member.id: member for member in work.unit.members}
        encoded = []
        for start in range(0, len(work.wanted), self._batch):
            names = work.wanted[start : start + self._batch]
            embeddings = self._encode([texts[name] for name in names])
            for name, embedding in zip(names, embeddings, strict=True):
                kept = embedding.detach().to("cpu", self._stored, copy=True).contiguous()
                width = str(kept.shape[-1])
                item = Encoded(member=members[name], tensors={"embedding": kept}, bucket=width)
                encoded.append(item)
        committed = layer.write(work.unit, encoded, known=work.known)
        return Outcome(
            samples=len(members),
            encoded=len(encoded),
            rejects={},
            committed=committed,
            encode_s=time.perf_counter() - started_s,
        )


def make_latents(encode: Encode) -> Make:
    """Return what makes the latent layer's tensors with an autoencoder's `Encode`."""

    def make(frames: Frames, records: Sequence[Record]) -> list[Made]:
        return [
            Made(tensors=dict(zip(LATENT_PARTS, parts, strict=True)))
            for parts in zip(*encode(frames), strict=True)
        ]

    return make


def _refusal(made: Made) -> MediaError | None:
    """Refuse what is not all numbers."""
    if all(bool(tensor.isfinite().all()) for tensor in made.tensors.values()):
        return None
    return MediaError(NOT_FINITE, "its latents are not all numbers")


def _bucket(tensors: Tensors) -> str:
    """Return the name of the shape of a sample's first tensor."""
    return "x".join(map(str, next(iter(tensors.values())).shape))
