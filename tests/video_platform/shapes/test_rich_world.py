"""Relations, captions that leave things out, and letters: what they add, and what they leave be."""

import dataclasses
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from video_platform.shapes.captions import caption, clip_at, describe, said_of
from video_platform.shapes.expect import ATTRIBUTES, Asked, Expected, truth_of
from video_platform.shapes.program import Program
from video_platform.shapes.prompts import evaluation_prompts
from video_platform.shapes.render import render
from video_platform.shapes.world import RELATIONS, WorldConfig
from video_platform.shapes.write import write_dataset

SHAPES = ("circle", "cross", "square", "triangle")
OLD_WORLDS = {
    "306beb1be85902813697a2c8168d4a461a69ed86f54cd3c4e7b8709b6a7adb89": WorldConfig(num_clips=2048),
    "ecf2cf69c078b1350808206ba9e88a49f1d8b7472fe24d2fd572f128e9c1d5aa": WorldConfig(
        num_clips=1, max_objects=3, seed=3
    ),
    "3aeefdcd2bd59bfd5e8f47eeb13113df2575f7016671f9eb1a2d828abc212302": WorldConfig(
        num_clips=1,
        size=64,
        frames=17,
        max_objects=4,
        captions="plain",
        shapes=SHAPES,
        seed=1,
        copies=0.2,
    ),
    "b3836ebf7bb6eb61236d3772a055a68dc6d421355f18a9baa0274264cca39b4b": WorldConfig(
        num_clips=1, min_objects=2, max_objects=2, copies=0.0, size=48
    ),
}
RICH = WorldConfig(
    num_clips=4096,
    size=32,
    frames=9,
    max_objects=2,
    copies=0.25,
    relations=0.3,
    unsaid=0.2,
    texts=0.2,
)


@pytest.mark.parametrize("pin", OLD_WORLDS)
def test_worlds_without_the_new_knobs_draw_say_and_ask_what_they_always_did(pin):
    world, digest = OLD_WORLDS[pin], hashlib.sha256()
    for index in range(40):
        for held_out in (False, True):
            program, text = clip_at(world, index, held_out=held_out)
            digest.update(json.dumps(program.to_json()).encode() + text.encode())
            digest.update(render(program).tobytes())
    for prompt in evaluation_prompts(world, 40, 7):
        asked = (prompt.text, [tuple(each) for each in prompt.expected], prompt.held_out)
        digest.update(repr(asked).encode())
    assert digest.hexdigest() == pin


def test_a_dataset_without_the_new_knobs_is_the_same_files(tmp_path):
    write_dataset(WorldConfig(num_clips=6, max_objects=2), str(tmp_path))
    assert {
        name: hashlib.sha256((Path(tmp_path) / name).read_bytes()).hexdigest()
        for name in ("captions.jsonl", "world.json")
    } == {
        "captions.jsonl": "b7cd070b066bb95e2ee2ee2ed8d98b21ebdbc15fdaee23360a22740fbf531622",
        "world.json": "e7ff76b55711f0330e352c2813df6d2cb14ef1bf6a924d09acd978eb0f2cd65d",
    }


@pytest.fixture(scope="module")
def rich_clips():
    return [clip_at(RICH, index) for index in range(600)]


def test_the_shares_are_those_asked_for(rich_clips):
    programs = [program for program, _ in rich_clips]
    different = [p for p in programs if len(set(p.combinations)) == 2]
    related = [p for p in different if p.relation]
    assert 0.16 < np.mean([p.text is not None for p in programs]) < 0.24
    assert 0.2 < len(related) / len(different) < 0.4
    assert min(Counter(p.relation for p in related)[each] for each in RELATIONS) >= 5
    assert not any(p.relation for p in programs if p not in different)
    unsaid = [
        said_of(RICH, program, index) != truth_of(program)
        for index, program in enumerate(programs)
        if not program.relation
    ]
    assert 0.15 < np.mean(unsaid) < 0.25


def test_a_relation_is_true_in_every_frame(rich_clips):
    for program, text in rich_clips:
        if program.relation is None:
            continue
        x, y = RELATIONS[program.relation]
        first, second = program.objects
        for frame in range(program.frames):
            right = first.x - second.x + frame * (first.vx - second.vx)
            down = first.y - second.y + frame * (first.vy - second.vy)
            assert right * x + down * y > 1.2 * abs(right * y + down * x)
        assert f" {program.relation} a {second.colour} {second.shape}" in text


def test_a_knob_leaves_the_clips_be_that_it_does_not_touch(rich_clips):
    plain = WorldConfig(num_clips=1, max_objects=2, copies=0.25)
    for index, (program, text) in enumerate(rich_clips[:200]):
        if program.text is None and program.relation is None:
            assert clip_at(plain, index)[0] == program
            if said_of(RICH, program, index) == truth_of(program):
                assert clip_at(plain, index)[1] == text


def test_rich_programs_survive_json(rich_clips):
    for program, _ in rich_clips[:100]:
        assert Program.from_json(json.loads(json.dumps(program.to_json()))) == program


RED = Asked("red", "circle", "right")
BLUE = Asked("blue", "square", "still")


@pytest.mark.parametrize(
    ("expected", "texts"),
    [
        (Expected(objects=(RED._replace(colour=None),)), ["a circle moves right"]),
        (Expected(objects=(RED._replace(shape=None),)), ["a red shape moves right"]),
        (Expected(objects=(RED._replace(motion=None),)), ["a red circle"]),
        (Expected(objects=(RED._replace(shape=None),) * 2), ["two red shapes move right"]),
        (
            Expected(objects=(RED, BLUE._replace(motion=None))),
            ["a red circle moves right and a blue square"],
        ),
        (
            Expected(objects=(Asked("red", "circle"), Asked("blue", "square")), relation="left of"),
            [
                "a red circle left of a blue square",
                "a red circle is left of a blue square",
                "there is a red circle left of a blue square",
            ],
        ),
        (
            Expected(text="LTX", text_colour="red", text_motion="right"),
            [
                "the letters l t x in red move right",
                "the letters l t x in red are moving right",
                "the letters l t x in red go right",
            ],
        ),
        (Expected(text="Z", text_motion="still"), ["the letter z stays still"]),
        (Expected(text="ZZ", text_colour="cyan"), ["the letters z z in cyan"]),
    ],
)
def test_what_is_asked_is_said_as_a_person_would(expected, texts):
    assert [describe(expected, wording=wording) for wording, _ in enumerate(texts)] == texts


def test_no_caption_is_longer_than_nineteen_words(rich_clips):
    assert max(len(text.split()) for _, text in rich_clips) <= 19


def test_each_attribute_is_left_out(rich_clips):
    left_out = Counter()
    for index, (program, text) in enumerate(rich_clips):
        said, truth = said_of(RICH, program, index), truth_of(program)
        if said != truth and said.relation is None and said.text is None:
            assert caption(said.objects) == describe(said)
            left_out[next(a for a in ATTRIBUTES if getattr(said.objects[0], a) is None)] += 1
            assert text != describe(truth)
    assert set(left_out) == set(ATTRIBUTES)


def test_a_rich_dataset_is_written_and_says_what_it_is_made_from(tmp_path):
    world = dataclasses.replace(RICH, num_clips=12)
    assert write_dataset(world, str(tmp_path)).new_clips == 12
    rows = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in rows] == [clip_at(world, index)[1] for index in range(12)]
    assert Program.from_json(rows[7]["program"]) == clip_at(world, 7)[0]
    assert json.loads((tmp_path / "world.json").read_text())["world"]["texts"] == 0.2
