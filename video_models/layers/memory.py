"""What the layers of a network remember of a clip between two chunks of it.

A layer that looks back is given a `Memory` beside its input, and keeps there the last frames that
it has seen; no module holds state. Without one (None) a layer takes its input for a whole clip.
So a clip cut anywhere gives the same numbers as the whole clip. Memories are for inference: frames
are kept in place, and gradients do not pass through them.

Legend: B batch, C channels, T frames, H W positions.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

PIECE_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 27}
"""Numbers that a layer is given at once: few where caches are small, many where chips are wide."""


class Stage(Protocol):
    """A layer that can go on with a clip."""

    def __call__(self, x: Tensor, memory: "Memory | None", /) -> Tensor:
        """Return as many frames as those given so far allow, perhaps none."""


class Past:
    """The last frames that a layer has seen.

    Attributes:
        frames: (B, C, 1, H, W) each, the latest last; their memory is used again.
        seen: frames that came by so far.
    """

    def __init__(self, x: Tensor, num_frames: int):
        self.frames = [_frame_like(x) for _ in range(num_frames)]
        self.seen = 0

    def add(self, frame: Tensor) -> Tensor:
        """Take the next frame in, and return the room of the one that is forgotten for it."""
        self.frames.append(frame)
        self.seen += 1
        return self.frames.pop(0)

    def fill(self, frame: Tensor) -> None:
        """Start with a frame in all places: it was before the clip as often as one looks back."""
        for kept in self.frames:
            kept.copy_(frame)
        self.seen = len(self.frames)

    def known(self) -> list[Tensor]:
        """Return the kept frames that are of the clip, the latest last."""
        return self.frames[len(self.frames) - min(self.seen, len(self.frames)) :]


class Memory:
    """The state of one clip on its way through one network."""

    def __init__(self) -> None:
        self._begun: set[nn.Module] = set()
        self._pasts: dict[nn.Module, Past] = {}
        self._rooms: dict[Hashable, Tensor] = {}
        self._waiting: dict[nn.Module, Tensor] = {}

    @property
    def size_bytes(self) -> int:
        """What the kept frames take."""
        pasts = (frame for past in self._pasts.values() for frame in past.frames)
        kept = [*self._waiting.values(), *self._rooms.values(), *pasts]
        return sum(tensor.nbytes for tensor in kept)

    def begins(self, layer: nn.Module) -> bool:
        """Say whether the clip only begins for a layer; from the second time on it does not."""
        begins = layer not in self._begun
        self._begun.add(layer)
        return begins

    def past(self, layer: nn.Module, x: Tensor, num_frames: int) -> Past:
        """Return what a layer keeps of earlier frames like those of x."""
        if layer not in self._pasts:
            self._pasts[layer] = Past(x, num_frames)
        return self._pasts[layer]

    def take_room(self, x: Tensor) -> Tensor:
        """Return memory for a frame like those of x; layers pass it on to each other."""
        found = self._rooms.pop(_room_key(x), None)
        return _frame_like(x) if found is None else found

    def give_room(self, room: Tensor) -> None:
        """Return memory that was taken, or as much other."""
        self._rooms[_room_key(room)] = room

    def waiting(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Return the frames that a layer put back, with x behind them."""
        kept = self._waiting.pop(layer, None)
        return x if kept is None else torch.cat((kept, x), dim=2)

    def put_back(self, layer: nn.Module, frames: Tensor) -> None:
        """Keep frames for the layer's next chunk."""
        self._waiting[layer] = frames.clone()  # a view would hold on to the rest


def begins(memory: Memory | None, layer: nn.Module) -> bool:
    """Say whether a layer's input begins a clip; without a memory each input does."""
    return memory is None or memory.begins(layer)


def flow(stages: Sequence[Stage], x: Tensor, memory: Memory | None) -> Iterator[Tensor]:
    """Send frames through stages one behind the other; yield what comes out, in order.

    With a memory, frames travel in pieces of some `PIECE_ELEMENTS` numbers, each piece as far as
    it can go before the next one starts: what is alive at a time does not grow with the clip.
    """
    for number, stage in enumerate(stages):
        parts = (x,) if memory is None else pieces(x)
        if len(parts) > 1:
            for piece in parts:
                yield from flow(stages[number:], piece, memory)
            return
        x = stage(x, memory)
        if not x.shape[2]:
            return
    yield x


def pieces(x: Tensor) -> tuple[Tensor, ...]:
    """Split frames (B, C, T, H, W) into pieces of at most `PIECE_ELEMENTS`, or pairs of frames."""
    limit = PIECE_ELEMENTS.get(x.device.type, PIECE_ELEMENTS["cuda"])
    return torch.split(x, max(2, limit * x.shape[2] // x.numel()), dim=2)


def _frame_like(x: Tensor) -> Tensor:
    """Return memory for one frame, its channels last."""
    B, C, _, H, W = x.shape
    frame = torch.empty(
        (B, C, H, W), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )
    return frame[:, :, None]


def _room_key(x: Tensor) -> Hashable:
    return (*x.shape[:2], *x.shape[3:], x.dtype, x.device)
