"""Frames to H.264 mp4 files with readable metadata, and to contact sheets.

Equal frames give equal bytes: one encoding thread, and no date or library version in the file.
Colours are BT.709 at limited range, and the file says so.
"""

import io
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Frames = NDArray[np.uint8]  # (T, H, W, 3)

_CONTAINER_KEYS = ("major_brand", "minor_version", "compatible_brands")
_MARGIN = 4
_LABEL_SIZE = 13


def write_mp4(
    path: str | Path,
    frames: Frames,
    *,
    fps: float,
    metadata: Mapping[str, str] | None = None,
    crf: int = 16,
) -> None:
    """Write frames as an mp4 file; see `encode_mp4`."""
    Path(path).write_bytes(encode_mp4(frames, fps=fps, metadata=metadata, crf=crf))


def encode_mp4(
    frames: Frames,
    *,
    fps: float,
    metadata: Mapping[str, str] | None = None,
    crf: int = 16,
) -> bytes:
    """Encode frames as an mp4 file in memory: H.264, yuv420p.

    Args:
        frames: uint8 RGB (T, H, W, 3), height and width even.
        fps: frames a second.
        metadata: any keys; `title` and `comment` are the ones that players show.
        crf: constant rate factor from 0, the best, to 51. Small pictures with sharp edges want
            10 or less.

    Raises:
        ValueError: frames that H.264 in yuv420p cannot hold, or a bad crf or fps.
    """
    _check(frames, fps=fps, crf=crf)
    buffer = io.BytesIO()
    options = {"movflags": "use_metadata_tags", "fflags": "+bitexact"}
    with av.open(buffer, "w", format="mp4", container_options=options) as container:
        container.metadata.update(metadata or {})
        rate = Fraction(fps).limit_denominator(1001)
        # x264's macroblock tree reads memory that it never wrote when frames are small.
        options = {"crf": str(crf), "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        context = stream.codec_context
        context.height, context.width = frames.shape[1:3]
        context.pix_fmt = "yuv420p"
        context.thread_count = 1
        context.colorspace = Colorspace.ITU709
        context.color_range = ColorRange.MPEG
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        reformatter = VideoReformatter()
        for index, pixels in enumerate(frames):
            frame = _to_yuv(pixels, reformatter)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def read_mp4_metadata(path: str | Path) -> dict[str, str]:
    """Read back the metadata that `write_mp4` wrote, from a file of our own."""
    with av.open(str(Path(path).absolute())) as container:
        return {
            key: value for key, value in container.metadata.items() if key not in _CONTAINER_KEYS
        }


def contact_sheet(
    clips: Sequence[Frames],
    *,
    labels: Sequence[str] | None = None,
    columns: int = 8,
    min_size: int = 64,
) -> bytes:
    """Draw clips as a PNG: a row a clip, of frames evenly spaced from its first to its last.

    Args:
        clips: uint8 RGB (T, H, W, 3), of any sizes.
        labels: one a clip, drawn above its row.
        columns: most frames in a row.
        min_size: smaller frames are enlarged by a whole factor until their height reaches it.

    Raises:
        ValueError: there is no clip, or there are not as many labels as clips.
    """
    if not clips or (labels is not None and len(labels) != len(clips)):
        raise ValueError(
            f"a contact sheet of {len(clips)} clips with "
            f"{'no' if labels is None else len(labels)} labels; give at least one clip, "
            "and a label for each or none"
        )
    rows = [_row(clip, columns=columns, min_size=min_size) for clip in clips]
    label_height = 0 if labels is None else _LABEL_SIZE + _MARGIN
    width = max(row.shape[1] for row in rows) + 2 * _MARGIN
    height = _MARGIN + sum(label_height + row.shape[0] + _MARGIN for row in rows)
    sheet = Image.new("RGB", (width, height), "white")
    pen, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(_LABEL_SIZE), _MARGIN
    for row, label in zip(rows, labels or [""] * len(rows), strict=True):
        pen.text((_MARGIN, top), label, fill="black", font=font)
        sheet.paste(Image.fromarray(row), (_MARGIN, top + label_height))
        top += label_height + row.shape[0] + _MARGIN
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _check(frames: Frames, *, fps: float, crf: int) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; give uint8 (T, H, W, 3)")
    if frames.shape[1] % 2 or frames.shape[2] % 2 or not frames.size:
        raise ValueError(
            f"frames of {frames.shape[2]} x {frames.shape[1]}; yuv420p takes even sizes"
        )
    if not 0 <= crf <= 51:
        raise ValueError(f"crf = {crf!r}; it goes from 0, the best, to 51")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps = {fps!r}; it must be a number above 0")


def _to_yuv(pixels: NDArray[np.uint8], reformatter: VideoReformatter) -> av.VideoFrame:
    """Convert one picture (H, W, 3) to limited-range BT.709 yuv420p."""
    return reformatter.reformat(
        av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"),
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        threads=1,
    )


def _row(clip: Frames, *, columns: int, min_size: int) -> NDArray[np.uint8]:
    """Lay frames side by side, with a margin between them."""
    chosen = np.linspace(0, len(clip) - 1, min(columns, len(clip))).round().astype(int)
    factor = max(1, math.ceil(min_size / clip.shape[1]))
    enlarged = clip[chosen].repeat(factor, axis=1).repeat(factor, axis=2)
    gaps = ((0, 0), (0, 0), (0, _MARGIN), (0, 0))
    spaced = np.pad(enlarged, gaps, constant_values=255)
    return np.concatenate(list(spaced), axis=1)[:, :-_MARGIN]
