"""Factorised and windowed attention reach exactly the tokens that they say they do."""

import dataclasses
import itertools
import math

import pytest
import torch

from tests.video_models.transformer.tiny import CONFIG, inputs_of, relative_error, tiny
from video_models.layers.attention import attend_plainly
from video_models.transformer.spans import Span, attended_pairs, axis_runs, span_of
from video_models.transformer.windows import within

GRIDS = [(4, 6, 6), (5, 7, 3), (1, 4, 9), (2, 1, 1)]
SPANS = [
    Span((1, None, None)),
    Span((None, 1, 1)),
    Span((2, 3, 3)),
    Span((2, 3, 3), moved=True),
    Span((4, 2, 5), moved=True),
    Span((9, 9, 9), moved=True),
]


def window_of(position, length, size, moved):
    """Return the number of the window along one axis, one token after the other."""
    if size is None or size >= length:
        return 0
    start = size // 2 if moved else 0
    return -1 if position < start else (position - start) // size


def neighbours(grid, span):
    """Return which tokens attend to which, (S, S), by the definition."""
    places = [
        tuple(
            window_of(p, n, size, span.moved)
            for p, n, size in zip(token, grid, span.size, strict=True)
        )
        for token in itertools.product(*map(range, grid))
    ]
    return torch.tensor([[a == b for b in places] for a in places])


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("span", SPANS)
def test_windows_are_full_attention_with_everything_else_hidden(grid, span):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, math.prod(grid), 2, 4, dtype=torch.float64)
    out = within(attend_plainly, grid, span)(q, k, v, None)
    hidden = ~neighbours(grid, span)
    scores = torch.einsum("bshd,blhd->bhsl", q, k) / 2
    weights = scores.masked_fill(hidden, -math.inf).softmax(dim=-1)
    torch.testing.assert_close(out, torch.einsum("bhsl,blhd->bshd", weights, v))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("span", SPANS)
def test_pairs_are_counted_as_they_are_attended(grid, span):
    assert attended_pairs(grid, span) == int(neighbours(grid, span).sum())


def test_full_attention_pairs_all_with_all():
    assert attended_pairs((2, 3, 4), None) == 24**2


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("length", range(1, 12))
@pytest.mark.parametrize("size", [1, 2, 5, None])
def test_windows_cover_an_axis_without_gap_or_overlap(length, size, moved):
    reached = 0
    for run in axis_runs(length, size, moved=moved):
        assert run.start == reached
        reached += run.size * run.times
    assert reached == length


def kinds(**changes):
    """Return what each of six blocks attends to."""
    config = dataclasses.replace(CONFIG, num_layers=6, **changes)
    return [span_of(config, index) for index in range(6)]


def test_factorised_blocks_take_frames_and_places_in_turn():
    frame, place = Span((1, None, None)), Span((None, 1, 1))
    assert kinds(attention="factorised") == [frame, place] * 3
    mixed = kinds(attention="factorised", full_every=3)
    assert mixed == [frame, place, None, frame, place, None]
    assert kinds(attention="factorised", full_every=2) == [frame, None, place, None, frame, None]


def test_every_other_block_moves_its_windows():
    still, moved = Span((2, 3, 2)), Span((2, 3, 2), moved=True)
    windowed = {"attention": "windowed", "window": (2, 3, 2)}
    assert kinds(**windowed) == [still, moved] * 3
    assert kinds(**windowed, full_every=4) == [still, moved, still, None, moved, still]


def test_full_blocks_have_no_window():
    assert kinds() == [None] * 6


def reached_frames(model):
    """Return which frames of the velocity change when the last frame of the latents does."""
    latents, t, rest = inputs_of(model, (6, 4, 4))
    changed = latents.clone()
    changed[:, :, -1] += 1
    with torch.no_grad():
        moved = model(changed, t, **rest) - model(latents, t, **rest)
    return moved.abs().amax(dim=(0, 1, 3, 4)).gt(1e-7).tolist()


@pytest.mark.parametrize(
    ("changes", "reached"),
    [
        ({"num_layers": 1}, [True] * 6),
        ({"num_layers": 1, "attention": "factorised"}, [False] * 5 + [True]),
        ({"num_layers": 2, "attention": "factorised"}, [True] * 6),
        (
            {"num_layers": 1, "attention": "windowed", "window": (2, 9, 9)},
            [False] * 4 + [True] * 2,
        ),
        (
            {"num_layers": 2, "attention": "windowed", "window": (2, 9, 9)},
            [False] * 3 + [True] * 3,
        ),
        (
            {"num_layers": 3, "attention": "windowed", "window": (2, 9, 9), "full_every": 3},
            [True] * 6,
        ),
    ],
)
def test_a_change_travels_as_far_as_the_windows_reach(changes, reached):
    assert reached_frames(tiny(**changes)) == reached


def test_a_window_of_everything_is_full_attention():
    full, windowed = tiny(), tiny(attention="windowed", window=(99, 99, 99))
    latents, t, rest = inputs_of(full)
    with torch.no_grad():
        torch.testing.assert_close(windowed(latents, t, **rest), full(latents, t, **rest))


def test_one_frame_makes_frames_and_everything_the_same():
    full, factorised = tiny(num_layers=1), tiny(num_layers=1, attention="factorised")
    latents, t, rest = inputs_of(full, (1, 8, 6))
    with torch.no_grad():
        assert relative_error(factorised(latents, t, **rest), full(latents, t, **rest)) < 1e-6
