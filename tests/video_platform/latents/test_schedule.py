"""What is done next, and that whatever happens every clip is done once."""

import dataclasses
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.video_platform.latents.toy import config_for, record
from video_platform.latents.layer import Known
from video_platform.latents.manifest import latent_units
from video_platform.latents.schedule import FINISHED_UNITS, RETRIES, Schedule, frame_bytes
from video_platform.latents.work import Work
from video_platform.video.policy import ClipSize

SMALL, LARGE, IMAGE = ClipSize(5, 16, 16), ClipSize(9, 16, 16), ClipSize(1, 16, 16)
ERROR = RuntimeError("as told")


def clip(number, size=SMALL, **changes):
    return record(number, size=size, **changes)


def plan(records, **changes):
    """Return a schedule over records, and the units in it."""
    config = config_for("", **{"unit_size": 100, "batch_size": 2, **changes})
    units = latent_units(records, config.unit_size)
    work = [Work(unit=unit, known=Known()) for unit in units]
    return Schedule(work, {item.id: item for item in records}, config), units


def take_all(schedule, node="a"):
    """Take every clip that can be taken now, each by a decoder of its own."""
    return [item.id for item in iter(lambda: schedule.take_clip(object(), node), None)]


def decode_all(schedule):
    names = take_all(schedule)
    for name in names:
        schedule.put_frames(name, f"frames of {name}", "a")
    return names


def encode_all(schedule):
    batches = list(iter(lambda: schedule.take_batch("a"), None))
    for batch in batches:
        schedule.put_latents(batch, [name for name, _ in batch.decoded()], "latents")
    return [batch.names for batch in batches]


def finish(schedule):
    """Do all that is left, and return the jobs."""
    jobs = []
    for _ in range(100):
        if not schedule.left:
            return jobs
        decode_all(schedule)
        encode_all(schedule)
        while job := schedule.take_job():
            schedule.put_job(job)
            jobs.append(job)
    raise AssertionError("it never ends")


def test_batches_hold_clips_of_one_size_images_among_them():
    sizes = [SMALL, LARGE, IMAGE]
    schedule, _ = plan([clip(number, sizes[number % 3]) for number in range(9)])
    decode_all(schedule)
    numbers = [[int(name[5:8]) for name in names] for names in encode_all(schedule)]
    assert numbers == [[2, 5], [8], [0, 3], [6], [1, 4], [7]]


def test_a_batch_is_the_same_whatever_order_decoders_answer_in():
    schedule, _ = plan([clip(number) for number in range(6)], batch_size=3)
    names = take_all(schedule)
    schedule.put_reject(names[1], "corrupt", "as told")
    for name in reversed(names):
        if name != names[1]:
            schedule.put_frames(name, name, "a")
    batches = sorted(iter(lambda: schedule.take_batch("a"), None), key=lambda batch: batch.names)
    assert [[name for name, _ in batch.decoded()] for batch in batches] == [
        [names[0], names[2]],
        names[3:],
    ]


def test_frames_in_flight_stay_within_the_room_of_the_encoders():
    size = frame_bytes(clip(0))
    schedule, _ = plan([clip(number) for number in range(20)], bytes_in_flight=5 * size)
    assert len(take_all(schedule)) == 4
    schedule.staff([], 2)
    assert len(take_all(schedule)) == 6
    assert schedule.bytes_in_flight == 10 * size


def test_a_clip_that_is_larger_than_the_room_is_let_in_alone():
    schedule, _ = plan([clip(number, LARGE) for number in range(3)], bytes_in_flight=1)
    for _ in range(3):
        assert len(decode_all(schedule)) == 1
        encode_all(schedule)
    assert schedule.take_job()


def test_no_more_is_begun_while_nobody_writes_what_is_finished():
    schedule, units = plan(
        [clip(number) for number in range(40)], unit_size=2, batch_size=1, clips_in_flight=2
    )
    assert len(units) > 2 * FINISHED_UNITS
    while decode_all(schedule):
        encode_all(schedule)
    waiting = len(list(iter(schedule.take_job, None)))
    assert FINISHED_UNITS <= waiting <= FINISHED_UNITS + 1
    assert take_all(schedule)


def test_a_decoder_stays_with_its_file_and_helps_with_another_at_the_end():
    records = [clip(number, file=f"film-{number // 4}") for number in range(8)]
    schedule, _ = plan(records)
    one = [schedule.take_clip("one", "a").file for _ in range(2)]
    two = [schedule.take_clip("two", "a").file for _ in range(4)]
    three = schedule.take_clip("three", "a").file
    assert set(one) == {three} != set(two)
    assert len(set(two)) == 1


def test_the_file_of_a_decoder_that_is_gone_is_free_again():
    records = [clip(number, file=f"film-{number // 4}") for number in range(8)]
    schedule, _ = plan(records)
    first = schedule.take_clip("one", "a").file
    other = schedule.take_clip("two", "a").file
    schedule.staff(["two"], 1)
    assert schedule.take_clip("three", "a").file == first != other


def test_the_clips_of_a_batch_are_decoded_on_one_machine_while_there_is_other_work():
    schedule, _ = plan([clip(number) for number in range(4)])
    names = [schedule.take_clip(object(), node).id for node in "abab"]
    batch_of = {name: number // 2 for number, name in enumerate(sorted(names))}
    assert [batch_of[name] for name in names] == [0, 1, 0, 1]


def test_an_encoder_takes_the_batch_whose_frames_lie_on_its_machine():
    schedule, _ = plan([clip(number) for number in range(4)])
    for node in "aabb":
        schedule.put_frames(schedule.take_clip(object(), node).id, "frames", node)
    batch = schedule.take_batch("b")
    assert {node for _, node in batch.frames.values()} == {"b"}
    assert schedule.take_batch("b") is not None, "far frames are better than none"


def test_a_file_that_crashed_its_decoder_is_given_to_none_again():
    records = [clip(number, file="film") for number in range(6)]
    schedule, _ = plan(records, clips_in_flight=4)
    first = schedule.take_clip("one", "a").id
    second = schedule.take_clip("two", "a").id
    schedule.put_reject(first, "crash", "killed by SIGSEGV")
    assert take_all(schedule) == [], "neither what was let in nor what comes later"
    schedule.put_frames(second, "frames", "a")
    (job,) = finish(schedule)
    assert [name for names, _ in job.latents for name in names] == [second]
    assert {reject.reason for reject in job.rejects} == {"crash"}
    assert len(job.rejects) == 5
    assert sum(f"at {first!r} and is not tried again" in r.error for r in job.rejects) == 4


def test_a_clip_whose_decoder_died_is_tried_again_but_not_for_ever():
    schedule, _ = plan([clip(number, file=str(number)) for number in range(3)], unit_size=1)
    (unlucky, *_) = take_all(schedule)
    for _ in range(RETRIES):
        schedule.lose_clip(unlucky, ERROR)
        assert schedule.take_clip("one", "a").id == unlucky
    assert not schedule.failures
    schedule.lose_clip(unlucky, ERROR)
    assert schedule.failures == [ERROR]


def test_a_batch_whose_encoder_died_keeps_its_frames_and_is_next():
    schedule, _ = plan([clip(number) for number in range(4)])
    decode_all(schedule)
    batch = schedule.take_batch("a")
    schedule.lose_batch(batch, ERROR, frames_too=False)
    assert schedule.take_batch("a") is batch
    assert len(batch.decoded()) == 2


def test_frames_that_went_with_their_machine_are_decoded_anew():
    schedule, _ = plan([clip(number) for number in range(4)])
    decode_all(schedule)
    batch = schedule.take_batch("a")
    schedule.lose_batch(batch, ERROR, frames_too=True)
    assert sorted(take_all(schedule)) == sorted(batch.names)
    for name in batch.names:
        schedule.put_frames(name, "again", "b")
    assert len(finish(schedule)) == 1


def test_a_unit_whose_tensors_are_lost_is_begun_anew_before_all_others():
    schedule, _ = plan([clip(number) for number in range(9)], unit_size=3, clips_in_flight=1)
    while not (job := schedule.take_job()):
        decode_all(schedule)
        encode_all(schedule)
    schedule.lose_job(job, ERROR, latents_too=True)
    assert schedule.take_clip("one", "a").id == min(job.work.wanted)


@pytest.mark.parametrize("latents_too", [False, True])
def test_a_unit_that_is_lost_too_often_is_left_to_the_next_run(latents_too):
    schedule, _ = plan([clip(number) for number in range(2)])
    for _ in range(RETRIES + 1):
        decode_all(schedule)
        encode_all(schedule)
        schedule.lose_job(schedule.take_job(), ERROR, latents_too=latents_too)
    assert schedule.failures == [ERROR]
    assert not schedule.left


def test_a_unit_that_is_given_up_makes_room_and_leaves_the_others_alone():
    schedule, units = plan([clip(number) for number in range(12)], unit_size=4, clips_in_flight=8)
    names = take_all(schedule)
    schedule.fail_clip(names[0], ERROR)
    schedule.fail_clip(names[0], ERROR)
    for name in names:
        schedule.put_frames(name, "frames", "a")
    jobs = finish(schedule)
    assert len(jobs) == len(units) - 1
    assert schedule.failures == [ERROR]
    assert schedule.bytes_in_flight == 0


def test_units_that_fail_one_after_the_other_are_counted():
    schedule, _ = plan([clip(number) for number in range(3)], unit_size=1)
    one, two, three = take_all(schedule)
    schedule.fail_clip(one, ERROR)
    schedule.fail_clip(two, ERROR)
    assert schedule.failed_in_a_row == 2
    schedule.put_frames(three, "frames", "a")
    finish(schedule)
    assert (schedule.failed_in_a_row, len(schedule.failures)) == (0, 2)


@dataclasses.dataclass
class Cluster:
    """Decoders, encoders and machines that do what a seed says."""

    schedule: Schedule
    chance: random.Random
    mishaps: float
    decoding: list = dataclasses.field(default_factory=list)
    encoding: list = dataclasses.field(default_factory=list)
    writing: list = dataclasses.field(default_factory=list)
    written: list = dataclasses.field(default_factory=list)
    most_bytes: int = 0

    def run(self):
        for _ in range(100_000):
            if not self.schedule.left:
                return
            self.chance.choice([self.take, self.decoded, self.encoded, self.stored])()
            self.most_bytes = max(self.most_bytes, self.schedule.bytes_in_flight)
        raise AssertionError("it never ends")

    def mishap(self):
        return self.chance.random() < self.mishaps

    def take(self):
        node = self.chance.choice("ab")
        if self.chance.random() < 0.1:
            self.schedule.staff(range(self.chance.randint(0, 3)), self.chance.randint(0, 3))
        if record := self.schedule.take_clip(self.chance.randint(0, 3), node):
            self.decoding.append((record.id, node))
        if batch := self.schedule.take_batch(node):
            self.encoding.append(batch)
        if job := self.schedule.take_job():
            self.writing.append(job)

    def pop(self, things):
        return things.pop(self.chance.randrange(len(things))) if things else None

    def decoded(self):
        name, node = self.pop(self.decoding) or (None, None)
        if name is None:
            return
        if self.mishap():
            self.chance.choice(
                [
                    lambda: self.schedule.lose_clip(name, ERROR),
                    lambda: self.schedule.put_reject(name, "corrupt", "as told"),
                    lambda: self.schedule.put_reject(name, "crash", "as told"),
                    lambda: self.schedule.fail_clip(name, ERROR),
                ]
            )()
        else:
            self.schedule.put_frames(name, name, node)

    def encoded(self):
        batch = self.pop(self.encoding)
        if batch is None:
            return
        if self.mishap():
            self.schedule.lose_batch(batch, ERROR, frames_too=self.mishap())
        else:
            self.schedule.put_latents(batch, [name for name, _ in batch.decoded()], batch.names)

    def stored(self):
        job = self.pop(self.writing)
        if job is None:
            return
        if self.mishap():
            self.schedule.lose_job(job, ERROR, latents_too=self.mishap())
        else:
            self.schedule.put_job(job)
            self.written.append(job)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.05, 0.3]))
def test_whatever_happens_every_clip_is_written_once_or_its_unit_has_failed(seed, mishaps):
    chance = random.Random(seed)
    sizes = [SMALL, LARGE, IMAGE]
    records = [
        clip(number, chance.choice(sizes), file=chance.choice([None, "film", "other film"]))
        for number in range(30)
    ]
    most = 6 * frame_bytes(records[0])
    schedule, units = plan(records, unit_size=5, batch_size=3, bytes_in_flight=most)
    cluster = Cluster(schedule, chance, mishaps)
    cluster.run()
    assert len(cluster.written) + len(schedule.failures) == len(units)
    assert len({job.work.unit.id for job in cluster.written}) == len(cluster.written)
    for job in cluster.written:
        made = [name for names, _ in job.latents for name in names]
        refused = [reject.id for reject in job.rejects]
        assert Counter(made + refused) == Counter(job.work.wanted)
    assert schedule.bytes_in_flight == 0
    assert cluster.most_bytes <= max(3 * most, frame_bytes(clip(0, LARGE)))
    if not mishaps:
        assert not schedule.failures
