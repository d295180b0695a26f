"""Reconstructions of held-out clips while an autoencoder is trained: figures and pictures.

Legend: B clips, T frames, H W pixels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from jobs.side_by_side import Frames, side_by_side
from pipelines.pixels import to_frames, to_video
from video_models.metrics.reconstruction import psnr
from video_platform.datasets.clips import DecodedClips
from video_platform.tracking import Run
from video_platform.training.engine import Engine
from video_platform.video.encode import contact_sheet, write_mp4

CLIPS_AT_ONCE = 8
SHOWN_CLIPS = 4


class Validation:
    """Reconstruct the held-out clips: figures on every rank, pictures on rank 0.

    Args:
        engine: of the autoencoder.
        clips: where clips come from.
        held_out: which of them are measured.
        run: what pictures are logged to; None logs none.
        fps: frames a second of the clips.
    """

    def __init__(
        self,
        engine: Engine,
        clips: DecodedClips,
        held_out: Sequence[int],
        *,
        run: Run | None,
        fps: float,
    ) -> None:
        self._engine, self._clips, self._held_out = engine, clips, held_out
        self._run, self._fps = run, fps

    @torch.no_grad()
    def __call__(self, step: int) -> dict[str, float]:
        """Return the mean PSNR in dB, and the bits of the code a pixel."""
        ratios, bits = [], []
        with evaluating(self._engine.module):
            for start in range(0, len(self._held_out), CLIPS_AT_ONCE):
                chosen = self._held_out[start : start + CLIPS_AT_ONCE]
                frames = stack([self._clips[i] for i in chosen])
                video = to_video(frames).to(self._engine.device, self._engine.dtype)
                reconstruction, code = self._engine.module(video)
                ratios.append(psnr(reconstruction.float().clamp(-1, 1), video.float()))
                bits.append(code.bits().float() / video[0, 0].numel())
                if self._run is not None and start == 0:
                    shown = frames[:SHOWN_CLIPS].numpy()
                    self._show(shown, to_frames(reconstruction[:SHOWN_CLIPS]), step, self._run)
        if not ratios:
            return {}
        return {
            "psnr": float(torch.cat(ratios).mean()),
            "bits_per_pixel": float(torch.cat(bits).mean()),
        }

    def _show(self, frames: Frames, reconstruction: Frames, step: int, run: Run) -> None:
        name = f"step-{step:06d}"
        pairs = [clip for pair in zip(frames, reconstruction, strict=True) for clip in pair]
        run.image(contact_sheet(pairs), f"reconstructions/{name}.png")
        with TemporaryDirectory() as scratch:
            path = Path(scratch) / f"{name}.mp4"
            write_mp4(path, side_by_side(frames, reconstruction), fps=self._fps, crf=10)
            run.artifact(path, "reconstructions")


def stack(clips: Sequence[Frames]) -> Tensor:
    """Collate decoded clips: uint8 (B, T, H, W, 3)."""
    return torch.from_numpy(np.stack(clips))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode inside the block: no dropout, and codebooks do not count."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
