"""The report is one file that needs nothing, and shows what was found."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from jobs.evaluation_records import Contender, JudgedClip, Measure
from jobs.evaluation_results import EvaluationResult
from jobs.evaluation_statistics import StudentVerdict, differences, rates
from jobs.report import (
    gap_line,
    render_report,
    results_table,
    rows,
    verdict_lines,
    write_report,
)
from jobs.report_cells import bar, difference_bar
from jobs.verdict import Finding, Verdict
from video_models.metrics.intervals import Interval
from video_platform.video.encode import write_mp4

NAMES = ("teacher", "student")


@pytest.fixture
def result(tmp_path):
    frames = np.full((5, 16, 16, 3), 128, dtype=np.uint8)
    write_mp4(tmp_path / "a.mp4", frames, fps=8.0)
    clips = tuple(
        JudgedClip(
            contender=name,
            question=question,
            prompt=f"a red circle <{question}>",
            split="withheld" if question > 5 else "trained",
            seed=seed,
            file="a.mp4",
            marks={"binding": name == "teacher", "direction": seed % 2 == 0},
        )
        for name in NAMES
        for question in range(8)
        for seed in (2 * question, 2 * question + 1)
    )
    contenders = tuple(
        Contender(
            name=name,
            folder=f"out/{name}",
            kind="base",
            identity="ab12",
            run_id=None,
            sampler="euler",
            steps=4,
            guidance=4.0,
        )
        for name in NAMES
    )
    psnr = Measure(
        contender="autoencoder",
        split="references",
        name="psnr",
        clips=2,
        interval=Interval(31.24, 30.0, 32.0),
    )
    return EvaluationResult(
        title="shapes & co",
        folder=tmp_path,
        contenders=contenders,
        clips=clips,
        rates=rates(clips, level=0.95),
        differences=differences(clips, [("student", "teacher")], level=0.95, resamples=50),
        reconstructions=(psnr,),
        measured_on="mp4",
        level=0.95,
    )


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.links, self.counts = [], [], {}

    def handle_starttag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass  # <rect/>

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_whole_and_asks_for_nothing(result):
    html = write_report(result, shown=4).read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert tags.links
    assert all(link.startswith("data:video/mp4;base64,") for link in tags.links)
    assert "url(" not in html
    assert "http" not in re.sub(r'http-equiv|"data:[^"]*"', "", html)


def test_every_shown_prompt_has_a_clip_of_every_model(result):
    tags = Tags()
    tags.feed(render_report(result, shown=4))
    assert tags.counts["video"] == 4 * len(NAMES)


def test_what_comes_from_outside_is_escaped(result):
    html = render_report(result, shown=8)
    assert "shapes &amp; co" in html
    assert "a red circle &lt;0&gt;" in html
    assert "<0>" not in html


def test_marks_are_shown_by_sign_and_by_colour(result):
    html = render_report(result, shown=1)
    assert '<li class="right">✓ binding</li>' in html
    assert '<li class="wrong">✗ binding</li>' in html


def test_shown_prompts_come_from_every_split(result):
    chosen = rows(result, shown=4)
    assert [row.split for row in chosen] == ["trained", "trained", "withheld", "withheld"]
    assert len({row.prompt for row in chosen}) == 4
    assert all(len({clip.seed for clip, _ in row.clips}) == 1 for row in chosen)


def test_a_report_may_show_no_clips(result):
    tags = Tags()
    tags.feed(render_report(result, shown=0))
    assert "video" not in tags.counts


def test_an_evaluation_without_a_judge_shows_clips_alone(result):
    bare = {
        "clips": tuple(JudgedClip(**(vars(clip) | {"marks": {}})) for clip in result.clips),
        "rates": (),
        "differences": (),
        "reconstructions": (),
    }
    html = render_report(EvaluationResult(**(vars(result) | bare)), shown=2)
    assert "What is right" not in html
    assert "<video" in html


def test_numbers_are_written_as_people_read_them():
    def measure(name, *numbers):
        return Measure(
            contender="m", split="trained", name=name, clips=9, interval=Interval(*numbers)
        )

    rate = bar(measure("colour", 0.714, 0.62, 0.79))
    assert (rate.text, rate.bounds, rate.value) == ("71%", "62 to 79", pytest.approx(71.4))
    assert bar(measure("psnr", 31.24, 30.0, 32.0)).text == "31.2 dB"
    assert bar(measure("psnr", 60.0, 60.0, 60.0)).value == 100
    assert bar(measure("ssim", 0.9612, 0.9, 1.0)).text == "0.961"
    assert bar(None) is None
    difference = difference_bar(measure("colour", -0.051, -0.12, 0.001))
    assert (difference.text, difference.bounds) == ("\u22125", "\u221212 to 0")


def test_the_terminal_tables_have_a_row_a_model_and_a_column_an_attribute(result):
    table = results_table(result, "trained")
    assert [column.header for column in table.columns] == ["", "binding", "direction"]
    assert list(table.columns[0].cells) == list(NAMES)


def test_the_share_of_the_gap_is_told(result):
    gap = Measure(
        contender="student",
        against="teacher in 1 step",
        split="trained",
        name="gap closed",
        clips=16,
        interval=Interval(0.634, 0.5, 1.02),
    )
    html = render_report(dataclasses.replace(result, gaps=(gap,)), shown=0)
    assert "63%" in html
    assert "50 to 102" in html
    assert "closes 63% of the gap of teacher in 1 step" in gap_line(gap)


def test_a_students_verdict_is_told_with_its_reasons(result):
    failed = Finding(
        name="over_saturated",
        what="saturation against the teacher's",
        interval=Interval(1.6, 1.5, 1.7),
        limit=1.25,
        failed=True,
    )
    kept = dataclasses.replace(failed, name="frozen", failed=False)
    each = StudentVerdict(
        student="student",
        teacher="teacher",
        hurried=None,
        verdict=Verdict(findings=(failed, kept)),
    )
    html = render_report(dataclasses.replace(result, verdicts=(each,)), shown=1)
    assert "over saturated" in html
    assert "not frozen" in html
    assert "fails" in html
    told = verdict_lines(each)
    assert "over_saturated: saturation against the teacher's is 1.6 (1.5 to 1.7)" in told
    passed = dataclasses.replace(each, verdict=Verdict(findings=(kept,)))
    assert "passes" in verdict_lines(passed)
