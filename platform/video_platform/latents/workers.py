"""What runs inside the Ray actors that encode: a unit goes in, its shards and its commit come out.

A clip encoder lets the decoders work ahead, encodes batch by batch, writes the shards and commits.

Legend: B batch, C channels, T frames, H W pixels, L tokens, D width.
"""

import functools
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from video_platform.datasets.record import Record
from video_platform.errors import MediaError
from video_platform.latents.canary import Canary, Encode, Frames, encode_canary
from video_platform.latents.config import CacheConfig
from video_platform.latents.layer import Encoded, Layer
from video_platform.latents.records import Reject
from video_platform.latents.shard import DTYPES
from video_platform.latents.units import Member
from video_platform.latents.work import Outcome, Work
from video_platform.video.policy import PixelPolicy

NOT_FINITE = "latent_not_finite"
"""Reason for which a clip is refused whose latents are not all numbers."""

EncodeText = Callable[[Sequence[str]], list[torch.Tensor]]
"""Turns captions into embeddings (L, D), valid tokens only."""


class ClipEncoder:
    """Encodes units of clips and commits them."""

    def __init__(
        self, open_encode: Callable[[], Encode], policy: PixelPolicy, config: CacheConfig
    ) -> None:
        self._open = open_encode
        self._policy = policy
        self._stored = DTYPES[config.stored]
        self._threads = config.encoder_threads
        self._room = config.clips_in_flight // config.encoders
        self._batch = min(config.batch_size, self._room)

    @functools.cached_property
    def _encode(self) -> Encode:
        torch.set_num_threads(self._threads)
        return self._open()

    def ready(self) -> Canary:
        """Open the autoencoder and encode the canary clip."""
        return encode_canary(self._encode, self._policy)

    def encode_unit(
        self, layer: Layer, work: Work, records: Mapping[str, Record], decoders: Sequence[Any]
    ) -> Outcome:
        """Decode, encode, store and commit one unit.

        Args:
            layer: where it belongs.
            work: the unit.
            records: the clips of the unit by id.
            decoders: handles of the actors that decode.
        """
        members = {member.id: member for member in work.unit.members}
        encoded: list[Encoded] = []
        rejects: list[Reject] = []
        batch: list[tuple[Member, Frames]] = []
        for name, frames in self._decoded([records[name] for name in work.wanted], decoders):
            if isinstance(frames, MediaError):
                rejects.append(_reject(members[name], frames.reason, str(frames)))
                continue
            batch.append((members[name], frames))
            if len(batch) == self._batch:
                self._encode_batch(batch, encoded, rejects)
        if batch:
            self._encode_batch(batch, encoded, rejects)
        committed = layer.write(work.unit, encoded, rejects=rejects, known=work.known)
        return Outcome(
            samples=len(members),
            encoded=len(encoded),
            rejects=Counter(item.reason for item in rejects),
            committed=committed,
        )

    def _decoded(
        self, records: Sequence[Record], decoders: Sequence[Any]
    ) -> Iterator[tuple[str, Frames | MediaError]]:
        """Yield the clips in order, so that batches never depend on which decoder was faster.

        What is decoded ahead and what waits for its batch never exceed the room together.
        """
        import ray

        ahead: deque[tuple[str, Any]] = deque()
        for place, record in enumerate(records):
            if len(ahead) == self._room - self._batch + 1:
                name, pending = ahead.popleft()
                yield name, ray.get(pending)
            decoder = decoders[place % len(decoders)]
            ahead.append((record.id, decoder.decode.remote(record)))
        while ahead:
            name, pending = ahead.popleft()
            yield name, ray.get(pending)

    def _encode_batch(
        self,
        batch: list[tuple[Member, Frames]],
        encoded: list[Encoded],
        rejects: list[Reject],
    ) -> None:
        """Encode and empty a batch."""
        means, logvars = self._encode(np.stack([frames for _, frames in batch]))
        for (member, _), mean, logvar in zip(batch, means, logvars, strict=True):
            tensors = {"mean": self._kept(mean), "logvar": self._kept(logvar)}
            if all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
                bucket = "x".join(map(str, mean.shape))
                encoded.append(Encoded(member=member, tensors=tensors, bucket=bucket))
            else:
                rejects.append(_reject(member, NOT_FINITE, "its latents are not all numbers"))
        batch.clear()

    def _kept(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor as it is stored, in memory of its own."""
        return tensor.detach().to("cpu", self._stored, copy=True).contiguous()


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

    def ready(self) -> None:
        """Open the text encoder."""
        _ = self._encode

    def encode_unit(self, layer: Layer, work: Work, texts: Mapping[str, str]) -> Outcome:
        """Encode, store and commit one unit.

        Args:
            layer: where it belongs.
            work: the unit.
            texts: the captions of the unit by id.
        """
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
        return Outcome(samples=len(members), encoded=len(encoded), rejects={}, committed=committed)


def _reject(member: Member, reason: str, error: str) -> Reject:
    return Reject(id=member.id, source=member.source, reason=reason, error=error)
