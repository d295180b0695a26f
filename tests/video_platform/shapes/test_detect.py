"""The detectors read back what was drawn, and nothing else."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from video_platform.shapes.captions import clip_at
from video_platform.shapes.detect import UNKNOWN, detect, detect_in
from video_platform.shapes.judge import JUDGEMENTS, judge
from video_platform.shapes.program import program_at
from video_platform.shapes.render import render
from video_platform.shapes.world import BACKGROUNDS, PALETTE, Combination, WorldConfig
from video_platform.shapes.write import CRF
from video_platform.video.decode import decode
from video_platform.video.encode import encode_mp4
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

SMALL = WorldConfig(num_clips=1)
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up", "still": "still"}


def through_mp4(world, index):
    """Return a program and its frames as they come out of a file."""
    program, _ = clip_at(world, index)
    policy = PixelPolicy(frames=world.frames, height=world.size, width=world.size, fps=world.fps)
    media = encode_mp4(render(program), fps=program.fps, crf=CRF)
    return program, decode(media, policy=policy, limits=MediaLimits()).frames


def worsen(frames, *, blur, noise, seed):
    """Blur within each frame, then add noise, both in steps of 8 bits."""
    soft = gaussian_filter(frames.astype(np.float32), (0, blur, blur, 0))
    noisy = soft + np.random.default_rng(seed).normal(0, noise, frames.shape)
    return noisy.clip(0, 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def small_clips():
    return [through_mp4(SMALL, index) for index in range(200)]


def rates(clips, expected=None):
    """Return how often each judgement is true, in percent."""
    answers = expected or [program.combinations for program, _ in clips]
    verdicts = [
        judge(detect_in(SMALL, frames), answer)
        for (_, frames), answer in zip(clips, answers, strict=True)
    ]
    return {name: 100 * np.mean([v[name] for v in verdicts]) for name in JUDGEMENTS}


def test_every_small_clip_is_read_back_from_its_mp4(small_clips):
    assert rates(small_clips) == dict.fromkeys(JUDGEMENTS, 100)


@pytest.mark.parametrize(
    ("size", "frames", "count", "shapes"),
    [
        (32, 9, 2, ("circle", "square", "triangle")),
        (32, 9, 3, ("circle", "square", "triangle")),
        (64, 17, 1, ("circle", "square", "triangle")),
        (64, 17, 3, ("circle", "square", "triangle")),
        (64, 9, 2, ("circle", "cross", "square", "triangle")),
    ],
)
def test_clips_with_several_objects_are_read_back_from_their_mp4(size, frames, count, shapes):
    world = WorldConfig(
        num_clips=1, size=size, frames=frames, min_objects=count, max_objects=count, shapes=shapes
    )
    for index in range(40):
        program, pixels = through_mp4(world, index)
        verdict = judge(detect_in(world, pixels), program.combinations)
        assert all(verdict.values()), (index, program, verdict)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "frames", "num_clips"), [(32, 9, 3000), (64, 17, 500)])
def test_thousands_of_clips_of_one_to_three_objects_are_read_back(size, frames, num_clips):
    world = WorldConfig(num_clips=1, size=size, frames=frames, max_objects=3, seed=11)
    for index in range(num_clips):
        program, pixels = through_mp4(world, index)
        assert judge(detect_in(world, pixels), program.combinations)["exact"], index


@pytest.mark.parametrize(("blur", "noise"), [(0.7, 8), (1.0, 8)])
def test_blur_and_noise_hide_no_shape(small_clips, blur, noise):
    clips = [
        (program, worsen(frames, blur=blur, noise=noise, seed=seed))
        for seed, (program, frames) in enumerate(small_clips[:100])
    ]
    assert min(rates(clips).values()) >= 99


def test_against_shuffled_captions_the_detectors_are_at_chance(small_clips):
    answers = [program.combinations for program, _ in small_clips]
    shuffled = rates(small_clips, answers[1:] + answers[:1])
    assert shuffled["colour"] < 30  # chance: 1/6
    assert shuffled["shape"] < 45  # 1/3
    assert shuffled["direction"] < 32  # 1/5
    assert shuffled["binding"] < 14  # 1/18
    assert shuffled["exact"] < 6  # 1/90
    assert shuffled["count"] == 100


def test_a_reversed_clip_moves_the_other_way(small_clips):
    for program, frames in small_clips[:50]:
        (colour, shape, motion) = program.combinations[0]
        detection = detect_in(SMALL, frames[::-1])
        assert detection.combinations == (Combination(colour, shape, OPPOSITE[motion]),)


def test_shuffled_frames_have_no_direction(small_clips):
    moving = [clip for clip in small_clips if clip[0].objects[0].motion != "still"][:30]
    order = np.array([4, 0, 7, 2, 8, 1, 5, 3, 6])
    kept = [
        judge(detect_in(SMALL, frames[order]), program.combinations)["direction"]
        for program, frames in moving
    ]
    assert not any(kept)


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, 10**6), colour=st.sampled_from(sorted(PALETTE)))
def test_a_recoloured_clip_is_read_in_its_new_colour(index, colour):
    program = program_at(SMALL, index)
    frames = render(program)
    old = np.array(PALETTE[program.objects[0].colour], float)
    ground, new = np.array(BACKGROUNDS["grey"], float), np.array(PALETTE[colour], float)
    cover = (frames - ground) @ (old - ground) / ((old - ground) @ (old - ground))
    painted = (ground + cover[..., None] * (new - ground)).round().astype(np.uint8)
    (seen,) = detect_in(SMALL, painted).objects
    assert seen.combination == program.combinations[0]._replace(colour=colour)


def paint(mask, colour="red", frames=9):
    """Show a (H, W) mask in one colour, unmoving."""
    ground, ink = np.array(BACKGROUNDS["grey"], float), np.array(PALETTE[colour], float)
    picture = ground + mask[..., None] * (ink - ground)
    return np.repeat(picture.round().astype(np.uint8)[None], frames, axis=0)


ROWS, COLUMNS = np.mgrid[:32, :32] - 15.5
BLUNDERS = {
    "bar": (np.abs(COLUMNS) < 9) & (np.abs(ROWS) < 4.5),
    "ellipse": (COLUMNS / 10) ** 2 + (ROWS / 5) ** 2 < 1,
    "half a circle": (np.hypot(COLUMNS, ROWS) < 9) & (ROWS < 0),
    "letter L": (np.maximum(np.abs(COLUMNS), np.abs(ROWS)) < 7) & ~((COLUMNS > 0) & (ROWS < 0)),
    "ring": (np.hypot(COLUMNS, ROWS) < 8) & (np.hypot(COLUMNS, ROWS) > 4),
    "soft spot": np.exp(-(COLUMNS**2 + ROWS**2) / 50),
    "triangle upside down": (ROWS > -6) & (2 * np.abs(COLUMNS) < 12 - ROWS) & (ROWS < 12),
}


@pytest.mark.parametrize("name", BLUNDERS)
def test_what_is_none_of_the_shapes_is_unknown(name):
    (seen,) = detect(paint(BLUNDERS[name])).objects
    assert (seen.colour, seen.shape, seen.motion) == ("red", UNKNOWN, "still")


def test_a_grey_black_white_or_noisy_clip_shows_nothing():
    noise = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    plain = [np.full((9, 32, 32, 3), value, np.uint8) for value in (0, 128, 255)]
    for frames in [noise, *plain]:
        assert detect(frames).count == 0


def test_an_object_that_is_not_there_most_of_the_time_does_not_count():
    frames = render(program_at(SMALL, 0))
    frames[:2] = BACKGROUNDS["grey"]
    assert detect(frames).count == 0
    frames = render(program_at(SMALL, 0))
    frames[4] = BACKGROUNDS["grey"]
    assert detect(frames).count == 1


def test_an_object_that_changes_colour_does_not_count():
    square = (np.abs(COLUMNS) < 6.5) & (np.abs(ROWS) < 6.5)
    frames = np.concatenate([paint(square, "red", 5), paint(square, "blue", 4)])
    assert detect(frames).count == 0


def test_a_diagonal_motion_is_unknown():
    square = (np.abs(COLUMNS) < 5.5) & (np.abs(ROWS) < 5.5)
    frames = np.stack([np.roll(paint(square)[0], (t, t), (0, 1)) for t in range(9)])
    (seen,) = detect(frames).objects
    assert (seen.shape, seen.motion) == ("square", UNKNOWN)


def test_swapped_colours_keep_every_attribute_and_lose_the_binding():
    world = WorldConfig(num_clips=1, min_objects=2, max_objects=2, copies=0.0)
    programs = (program_at(world, index) for index in itertools.count())
    program = next(p for p in programs if len({o.shape for o in p.objects}) == 2)
    first, second = program.combinations
    swapped = (first._replace(colour=second.colour), second._replace(colour=first.colour))
    verdict = judge(detect_in(world, render(program)), swapped)
    assert verdict["colour"] and verdict["shape"] and verdict["direction"] and verdict["count"]
    assert not verdict["binding"] and not verdict["exact"]


def test_a_wrong_count_is_wrong():
    (clip,) = [program_at(SMALL, 0)]
    verdict = judge(detect(render(clip)), clip.combinations * 2)
    assert not any(verdict.values())


@pytest.mark.parametrize(
    "frames",
    [np.zeros((9, 32, 32, 3)), np.zeros((32, 32, 3), np.uint8), np.zeros((1, 32, 32, 3), np.uint8)],
)
def test_what_is_no_clip_is_refused(frames):
    with pytest.raises(ValueError, match="give uint8"):
        detect(frames)


def test_reading_256_clips_takes_seconds():
    clips = [render(program_at(SMALL, index)) for index in range(64)]
    start = time.process_time()
    for frames in clips:
        detect(frames)
    assert 4 * (time.process_time() - start) < 8
