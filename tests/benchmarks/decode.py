"""Decoding clips beside plain PyAV and plain decord: same files, same frames, one table.

    python -m tests.benchmarks.decode --quick                  # a minute
    python -m tests.benchmarks.decode --rounds 7 --video FILE  # with the content of a real video

Every contender gives the same uint8 frames at the size of the file, so none resizes anything; that
they are equal is checked first. Each runs with one and with two threads, plain PyAV moreover once
decoding on and once seeking for every frame, in turns; the best of the rounds and settings counts,
by the clock and by the processor (which other work on the machine disturbs less). Above 1 means
that ours is faster than the better of the two.
"""

import argparse
import itertools
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import decord
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from video_platform.video.decode import decode
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

SIZES = {240: 426, 720: 1280, 1080: 1920}
FPS = 24
Frames = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Request:
    """Frames of one file, by index; they are evenly spaced."""

    path: Path
    indices: range
    height: int
    width: int

    def empty(self) -> Frames:
        return np.empty((len(self.indices), self.height, self.width, 3), np.uint8)


def ours(request: Request, *, threads: int) -> Frames:
    policy = PixelPolicy(
        frames=len(request.indices),
        height=request.height,
        width=request.width,
        fps=float(Fraction(FPS, request.indices.step)),
    )
    limits = MediaLimits(threads=threads)
    start_s = request.indices.start / FPS
    return decode(request.path, policy=policy, limits=limits, start_s=start_s).frames


def with_pyav(request: Request, *, threads: int, seeking: bool) -> Frames:
    """Decode on from the key frame before the first; `seeking` does so for every frame."""
    frames = request.empty()
    with av.open(str(request.path)) as container:
        stream = container.streams.video[0]
        stream.thread_count, stream.thread_type = threads, "AUTO" if threads > 1 else "SLICE"
        ticks = [round(index / FPS / stream.time_base) for index in request.indices]
        done = 0
        while done < len(ticks):
            if ticks[done]:
                container.seek(ticks[done], stream=stream)
            for frame in container.decode(stream):
                if frame.pts == ticks[done]:
                    frames[done] = frame.to_ndarray(format="rgb24")
                    done += 1
                    if seeking or done == len(ticks):
                        break
    return frames


def with_decord(request: Request, *, threads: int) -> Frames:
    reader = decord.VideoReader(str(request.path), num_threads=threads)
    return reader.get_batch(request.indices).asnumpy()


CONTENDERS: dict[str, list[partial[Frames]]] = {
    "ours": [partial(ours, threads=1), partial(ours, threads=2)],
    "PyAV": [
        partial(with_pyav, threads=1, seeking=False),
        partial(with_pyav, threads=2, seeking=False),
        partial(with_pyav, threads=1, seeking=True),
    ],
    "decord": [partial(with_decord, threads=1), partial(with_decord, threads=2)],
}


def requests(path: Path, height: int, count: int, rng: random.Random) -> dict[str, list[Request]]:
    """What is asked of a file of `count` frames."""
    size = {"path": path, "height": height, "width": SIZES[height]}
    starts = [rng.randrange(count - 2 * FPS) for _ in range(3)]
    return {
        "16 even": [Request(indices=range(0, count // 16 * 16, count // 16), **size)],
        "2 s clip": [Request(indices=range(at, at + 2 * FPS), **size) for at in starts],
        "whole": [Request(indices=range(count), **size)],
    }


def measure(asked: list[Request], rounds: int) -> dict[str, tuple[float, float]]:
    """Return milliseconds a request of each contender, by the clock and by the processor."""
    runs = [
        (name, run)
        for name, variants in CONTENDERS.items()
        for run in variants
        if not (run.keywords.get("seeking") and asked[0].indices.step == 1)
    ]
    walls: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    cpus: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        random.shuffle(runs)
        for name, run in runs:
            wall, cpu = time.perf_counter(), time.process_time()
            for request in asked:
                run(request)
            walls[name].append((time.perf_counter() - wall) / len(asked) * 1e3)
            cpus[name].append((time.process_time() - cpu) / len(asked) * 1e3)
    return {name: (min(walls[name]), min(cpus[name])) for name in CONTENDERS}


def check(asked: list[Request]) -> None:
    """Have every contender give the same bits."""
    for request in asked:
        expected = with_pyav(request, threads=1, seeking=False)
        np.testing.assert_array_equal(ours(request, threads=1), expected)
        np.testing.assert_array_equal(with_decord(request, threads=1), expected)


def pictures(source: Path | None, height: int, count: int) -> Iterator[Frames]:
    """Frames to encode: those of a video again and again, or a grainy scene that drifts."""
    width = SIZES[height]
    if source is not None:
        number = 0
        while number < count:
            with av.open(str(source)) as container:
                for frame in itertools.islice(container.decode(video=0), count - number):
                    yield frame.to_ndarray(format="rgb24", width=width, height=height)
                    number += 1
        return
    rng = np.random.default_rng(0)
    layers = [rng.integers(0, 256, (9 * k, 16 * k, 3), np.uint8) for k in (1, 4, 16, 60)]
    large = (width * 5 // 4, height * 5 // 4)
    smooth = [np.asarray(Image.fromarray(layer).resize(large), np.uint16) for layer in layers]
    scene = Image.fromarray((sum(smooth) // len(smooth)).astype(np.uint8))
    grain = rng.integers(-4, 5, (4, height, width, 3), np.int16)
    for number in range(count):
        left, top = (0.5 + 0.5 * np.sin([number / 31, number / 47])) * (
            large[0] - width,
            large[1] - height,
        )
        view = scene.resize((width, height), box=(left, top, left + width, top + height))
        yield np.clip(np.asarray(view, np.int16) + grain[number % 4], 0, 255).astype(np.uint8)


def encode(path: Path, frames: Iterator[Frames], *, height: int, group: int) -> None:
    """Write H.264 as x264 makes it by default, with a key frame at least every `group` frames."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": "23", "g": str(group)})
        stream.height, stream.width = height, SIZES[height]
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            out.mux(
                stream.encode(frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709))
            )
        out.mux(stream.encode())


def main() -> None:
    """Print one line a size and request."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--seconds", type=int, default=8, help="length of each file")
    parser.add_argument("--group", type=int, default=96, help="most frames between key frames")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--video", type=Path, help="take the content of this file")
    parser.add_argument("--quick", action="store_true", help="two rounds, no 1080p")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.sizes = 2, [240, 720]
    decord.logging.set_level(decord.logging.QUIET)
    print("milliseconds by clock / by processor; ratio: the better of PyAV and decord over ours")
    heads = ("", *CONTENDERS, "ratio by clock", "by processor")
    print(f"{heads[0]:16}" + "".join(f"{head:>17}" for head in heads[1:]))
    with tempfile.TemporaryDirectory() as folder:
        for height in options.sizes:
            path, count = Path(folder, f"{height}.mp4"), options.seconds * FPS
            encode(path, pictures(options.video, height, count), height=height, group=options.group)
            for name, asked in requests(path, height, count, random.Random(height)).items():
                check(asked)
                found = measure(asked, options.rounds)
                ratios = [
                    min(found["PyAV"][k], found["decord"][k]) / found["ours"][k] for k in (0, 1)
                ]
                times = "".join(f"{wall:9.1f} /{cpu:6.0f}" for wall, cpu in found.values())
                print(f"{height}p {name:10}{times}{ratios[0]:17.2f}{ratios[1]:17.2f}", flush=True)


if __name__ == "__main__":
    main()
