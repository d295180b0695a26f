"""The benchmark end to end: what is right is right, what is taken away falls, all of it is told."""

import dataclasses
import json
import re

import pytest

from jobs.benchmark_bench import benchmark_bench, law_of, moves, named, world_hash
from jobs.evaluate import evaluate
from jobs.evaluation_ceiling import judged_references
from jobs.evaluation_config import EvaluationConfig
from jobs.evaluation_records import find
from jobs.evaluation_results import as_metrics
from jobs.evaluation_statistics import means, rates
from jobs.null_control_results import null_controls, statement
from jobs.null_controls import REVERSED, SHUFFLED_CAPTIONS, SHUFFLED_FRAMES
from jobs.report_tables import title_of
from tests.tiny import make_model, make_student_card
from video_platform.shapes.benchmark import BENCHMARK_VERSION, LOWER_IS_BETTER, SUITES
from video_platform.shapes.expect import Asked, Expected
from video_platform.shapes.world import WorldConfig, held_out_combinations

RICH = WorldConfig(
    num_clips=12, max_objects=2, copies=0.25, relations=0.3, unsaid=0.2, texts=0.2, max_letters=2
)
CONFIG = EvaluationConfig(
    benchmark=2, seeds=1, batch_size=8, reconstructions=3, resamples=50, shown=2
)


@pytest.fixture(scope="module")
def bench():
    return benchmark_bench(RICH, CONFIG)


@pytest.fixture(scope="module")
def truth(bench):
    frames = [reference.frames for reference in bench.references]
    return judged_references("ground truth", frames, bench, CONFIG)


@pytest.fixture(scope="module")
def result(bench, tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    models = {
        "teacher": make_model(folder / "model").path,
        "student": make_model(folder / "student", make_student_card()).path,
    }
    return evaluate(models, bench, config=CONFIG, folder=folder / "out", title="tiny & rich")


def test_the_ground_truth_is_right_in_every_suite(truth):
    found = rates(truth, level=0.95)
    assert {measure.split for measure in found} == set(SUITES)
    for measure in found:
        assert measure.interval.value == (measure.name not in LOWER_IS_BETTER), measure
    numbers = means(truth, level=0.95, resamples=20)
    assert all(m.interval.value < 0.01 for m in numbers if m.name == "smoothness")
    assert all(m.interval.value == 1 for m in numbers if m.name in ("identity", "characters"))


def test_its_null_controls_fall_to_chance(bench, truth):
    found = null_controls(truth, level=0.95, resamples=50)
    assert statement(found).startswith("All ")
    motion = {(each.control, each.name): each for each in found if each.split == "motion"}
    cases = [each.expected for each in bench.references if each.split == "motion"]
    still = sum(not moves(case.expected) for case in cases)
    for control in (REVERSED, SHUFFLED_FRAMES):
        assert motion[control, "direction"].interval.value == still / CONFIG.reconstructions < 1
    assert motion[SHUFFLED_CAPTIONS, "direction"].interval.value < 1
    identity = motion[SHUFFLED_FRAMES, "identity"]
    assert (identity.real, identity.fell) == (1, True)
    assert identity.interval.high < 0.8


def test_captions_are_shuffled_within_their_suite(bench):
    for question in bench.questions:
        case = question.expected
        assert case.suite == question.split
        assert len(case.asked) == CONFIG.benchmark
        assert case.partner == 1 - case.place


def test_what_is_said_to_move_moves():
    assert moves(Expected(objects=(Asked("red", "circle", "still"), Asked("blue", None, "up"))))
    assert not moves(Expected(objects=(Asked("red", "circle", "still"), Asked("blue"))))
    assert moves(Expected(text="LX", text_colour="red", text_motion="up"))
    assert not moves(Expected(text="LX", text_colour="red", text_motion=None))


def test_the_law_of_what_is_left_open_leaves_out_what_training_withheld():
    withheld = held_out_combinations(RICH)[0]
    law = law_of(RICH, Asked(None, withheld.shape, withheld.motion), "colour")
    assert withheld.colour not in law
    assert sum(law.values()) == pytest.approx(1)
    assert len(set(law.values())) == 1
    whole = law_of(RICH, Asked(), "shape")
    assert whole == pytest.approx(dict.fromkeys(sorted(RICH.shapes), 1 / 3), abs=0.02)


def test_another_world_or_other_seeds_have_another_name(bench):
    assert bench.about["version"] == BENCHMARK_VERSION
    assert world_hash(RICH) == bench.about["world"] != world_hash(WorldConfig(num_clips=12))
    assert world_hash(dataclasses.replace(RICH, size=48)) != world_hash(RICH)
    fewer = named(RICH, [], dataclasses.replace(CONFIG, first_seed=7))
    assert (fewer["first_seed"], fewer["prompts"]) == (7, 0)
    assert bench.about["prompts"] == len(bench.questions) == CONFIG.benchmark * len(SUITES)


def test_every_suite_has_rates_differences_a_ceiling_and_chance(result):
    for split, name in (("counting", "count"), ("text", "string"), ("unsaid", "said")):
        for contender in ("teacher", "student"):
            assert find(result.rates, contender=contender, name=name, split=split)
        assert find(
            result.differences, contender="student", name=name, split=split, against="teacher"
        )
        for limit in ("autoencoder", "ground truth"):
            assert find(result.reconstructions, contender=limit, name=name, split=split)
    known = {(each.contender, each.split) for each in result.controls}
    names = ("ground truth", "teacher", "teacher in 1 step", "student")
    assert known == {(name, suite) for name in names for suite in SUITES}


def test_files_hold_what_names_the_benchmark_and_every_number(result):
    tree = json.loads((result.folder / "results.json").read_text())
    assert tree["benchmark"] == dict(result.benchmark)
    assert {each["contender"] for each in tree["biases"]} == {c.name for c in result.contenders}
    assert len(tree["copies"]) == 3
    assert all(0 <= clip["nearest"]["index"] < RICH.num_clips for clip in tree["clips"])
    assert (result.folder / result.copies[0].sheet).stat().st_size > 1000
    named_ = as_metrics(result)
    assert all(re.fullmatch(r"[\w\-. :/]+", name) for name in named_)
    assert "teacher/motion/direction reversed time" in named_
    assert "student/bias/colour" in named_


def test_the_report_names_the_benchmark_and_shows_every_suite(result):
    html = (result.folder / "report.html").read_text()
    assert f"Shapes benchmark {BENCHMARK_VERSION}, world <code>{world_hash(RICH)}</code>" in html
    assert "16 prompts" in html
    for suite in SUITES:
        assert f"<h3>{title_of(suite)} <span" in html
    for told in ("the ceiling", "the detectors", "chance 100%", "null controls", "closest pairs"):
        assert told in html
    assert "data:image/png;base64," in html
    assert "http:" not in html


def test_the_judge_looks_at_every_suite_apart(result):
    student = next(each for each in result.verdicts if each.student == "student")
    asked = [finding.what for finding in student.verdict.findings]
    assert any("of the suite 'two objects' that are swapped" in what for what in asked)
    assert any("of the suite 'counting' with the right count" in what for what in asked)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"benchmark": 1}, "at least 2"), ({"benchmark": 2, "prompt_file": "x"}, "give one of them")],
)
def test_a_benchmark_that_cannot_be_is_told(wrong, told):
    with pytest.raises(ValueError, match=told):
        EvaluationConfig(**wrong)
