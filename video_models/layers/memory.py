"""What the layers of a network remember of a clip between two chunks of it.

A layer that looks back is given a `Memory` beside its input, and keeps there the last frames that
it has seen; no module holds state. Without one (None) a layer takes its input for a whole clip.
So a clip cut anywhere gives the same numbers as the whole clip. Memories are for inference: frames
are kept in place, and gradients do not pass through them.

Legend: B batch, C channels, T frames, H W positions.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

PIECE_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 27}
"""Numbers that a layer is given at once: few where caches are small, many where chips are wide."""


class Stage(Protocol):
    """A layer that can go on with a clip."""

    def __call__(self, x: Tensor, memory: "Memory | None", /) -> Tensor:
        """Return as many frames as those given so far allow, perhaps none."""


class Ring:
    """The last frames that a layer has seen, each in the slot of its number modulo the slots.

    The slots lie beside each other in the channels of one image, so that a convolution over frames
    is one over an image.

    Attributes:
        image: (B, slots C, H, W).
        num_slots: frames that it holds.
        seen: frames that came by so far.
    """

    def __init__(self, x: Tensor, num_slots: int):
        B, C, _, H, W = x.shape
        shape, memory_format = (B, num_slots * C, H, W), torch.channels_last
        self.image = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format)
        self.num_slots = num_slots
        self.seen = 0

    def slot(self, frame: int) -> Tensor:
        """Return the slot (B, C, 1, H, W) of a frame, by its number in the clip."""
        return self.image.chunk(self.num_slots, dim=1)[frame % self.num_slots][:, :, None]


class Memory:
    """The state of one clip on its way through one network."""

    def __init__(self) -> None:
        self._begun: set[nn.Module] = set()
        self._rings: dict[nn.Module, Ring] = {}
        self._waiting: dict[nn.Module, Tensor] = {}

    @property
    def size_bytes(self) -> int:
        """What the kept frames take."""
        kept = [*self._waiting.values(), *(ring.image for ring in self._rings.values())]
        return sum(tensor.nbytes for tensor in kept)

    def begins(self, layer: nn.Module) -> bool:
        """Say whether the clip only begins for a layer; from the second time on it does not."""
        begins = layer not in self._begun
        self._begun.add(layer)
        return begins

    def ring(self, layer: nn.Module, x: Tensor, num_slots: int) -> Ring:
        """Return a layer's ring of frames like those of x."""
        if layer not in self._rings:
            self._rings[layer] = Ring(x, num_slots)
        return self._rings[layer]

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
    """Split frames (B, C, T, H, W) into pieces of at most `PIECE_ELEMENTS`, or single frames."""
    limit = PIECE_ELEMENTS.get(x.device.type, PIECE_ELEMENTS["cuda"])
    return torch.split(x, max(1, limit * x.shape[2] // x.numel()), dim=2)
