"""Samples over training as one picture: a row a prompt, a column a training step.

The picture grows with the run and travels in its checkpoints, as small JPEG strips.

Legend: T frames, H W pixels.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Frames = NDArray[np.uint8]  # (T, H, W, 3)

CELL_HEIGHT = 64
"""Height of a frame in pixels; smaller ones are enlarged by a whole factor."""
CELL_FRAMES = 3
"""Frames of a clip that are shown: the first, the last, and some between."""
MOST_COLUMNS = 8
"""Steps that are shown. With more, the one goes that leaves the smallest gap."""
GAP, MARGIN, LABEL_SIZE = 2, 8, 14


class SampleGrid:
    """The samples of a run so far.

    Args:
        columns: by step, a strip for each prompt; as `state_dict` returns them.
    """

    def __init__(self, columns: Mapping[str, Sequence[str]] | None = None) -> None:
        self._columns = {int(step): list(strips) for step, strips in (columns or {}).items()}

    def add(self, step: int, clips: Sequence[Frames]) -> None:
        """Add a column, or replace it."""
        self._columns[step] = [_packed(_strip(clip)) for clip in clips]
        while len(self._columns) > MOST_COLUMNS:
            steps = sorted(self._columns)
            gaps = {b: c - a for a, b, c in zip(steps, steps[1:], steps[2:], strict=False)}
            del self._columns[min(gaps, key=lambda step: gaps[step])]

    def state_dict(self) -> dict[str, list[str]]:
        """Return the columns, as JSON."""
        return {str(step): strips for step, strips in sorted(self._columns.items())}

    def draw(self, prompts: Sequence[str], names: Mapping[int, str] | None = None) -> bytes:
        """Return the picture as a PNG.

        Args:
            prompts: what each row shows.
            names: of columns that are no training step, by the number that they were added under.
        """
        columns = {
            step: [_unpacked(strip) for strip in strips]
            for step, strips in sorted(self._columns.items())
        }
        width = max(strip.width for strips in columns.values() for strip in strips) + MARGIN
        height = max(strip.height for strips in columns.values() for strip in strips) + MARGIN
        pitch, line = height + LABEL_SIZE + MARGIN, LABEL_SIZE + 2 * MARGIN
        font = ImageFont.load_default(LABEL_SIZE)
        widest = max(font.getlength(prompt) for prompt in prompts)
        size = (
            max(width * len(columns), math.ceil(widest) + MARGIN) + MARGIN,
            line + pitch * len(prompts),
        )
        sheet = Image.new("RGB", size, "white")
        pen = ImageDraw.Draw(sheet)
        for number, prompt in enumerate(prompts):
            pen.text((MARGIN, line + pitch * number), prompt, fill="black", font=font)
        for column, (step, strips) in enumerate(columns.items()):
            left = MARGIN + width * column
            title = (names or {}).get(step, f"step {step}")
            pen.text((left, MARGIN // 2), title, fill="dimgray", font=font)
            for number, strip in enumerate(strips):
                sheet.paste(strip, (left, line + pitch * number + LABEL_SIZE + MARGIN))
        buffer = io.BytesIO()
        sheet.save(buffer, "PNG")
        return buffer.getvalue()


def _strip(clip: Frames) -> Image.Image:
    """Return some frames side by side, about `CELL_HEIGHT` high."""
    T, H, W, _ = clip.shape
    factor = CELL_HEIGHT / H if H > CELL_HEIGHT else CELL_HEIGHT // H
    size = round(W * factor), round(H * factor)
    how = Image.Resampling.BOX if factor < 1 else Image.Resampling.NEAREST
    chosen = np.linspace(0, T - 1, min(CELL_FRAMES, T)).round().astype(int)
    pitch = size[0] + GAP
    strip = Image.new("RGB", (pitch * len(chosen) - GAP, size[1]), "white")
    for number, index in enumerate(chosen):
        strip.paste(Image.fromarray(clip[index]).resize(size, how), (pitch * number, 0))
    return strip


def _packed(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92, subsampling=0)
    return base64.b64encode(buffer.getvalue()).decode()


def _unpacked(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")
