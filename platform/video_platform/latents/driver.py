"""The loop that keeps decoders and encoders at work until every unit of clips is written.

What is done next is decided by the plan in `schedule.py`; here the decision is carried out. Frames
and tensors are objects of Ray's: the driver holds their references and hardly ever their content.

What dies how:

* a decoder's child process, at a damaged file: the decoder tries once more, then the clip is
  refused as `crash`, and no other clip of its file is tried (`decoding.py`);
* an actor, or the machine under it: what it was asked for is given to another, `RETRIES` times; a
  fresh actor takes its place wherever there is room;
* frames or tensors that went with a machine: their clips are decoded, or their unit is begun, anew;
* a source or a store that fails: the unit is left to the next run, the others go on. After
  `FAILED_IN_A_ROW` such units with nothing written in between, the run is over;
* the driver: its actors end with it. What was committed stays, the rest is for the next run.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from video_platform.datasets.record import Record
from video_platform.errors import SourceError, StorageError
from video_platform.latents.calls import ASIDE, Worker, drop
from video_platform.latents.config import CacheConfig
from video_platform.latents.decoding import Note
from video_platform.latents.layer import Layer
from video_platform.latents.making import OnFinding
from video_platform.latents.schedule import Batch, Job, Schedule
from video_platform.latents.stages import Stages
from video_platform.latents.work import Load, Outcome, Work
from video_platform.latents.workers import BatchNote

AT_ONCE = 2
"""Calls that a worker has at a time: it works on one while the other is on its way to it."""

LOOK_EVERY_S = 1.0
"""How often pools are looked after and progress is told when nothing else happens."""

FAILED_IN_A_ROW = 16
"""Units that fail one after the other before the run is given up."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listeners:
    """Who is told what."""

    on_unit: Callable[[Outcome], None]
    """Is told of each unit that is written."""
    on_load: Callable[[Load], None]
    """Is told every now and then how much is done and how busy everybody is."""
    on_finding: OnFinding
    """Is told what encoders found out."""


class Driver:
    """One run over units of one layer of clips.

    Attributes:
        failures: of each unit that was left to the next run, the reason.
    """

    def __init__(
        self,
        work: Sequence[Work],
        records: Mapping[str, Record],
        stages: Stages,
        *,
        layer: Callable[[], Layer],
        config: CacheConfig,
        tell: Listeners,
    ) -> None:
        """Prepare a run.

        Args:
            work: what is to be done.
            records: every clip of it by id.
            stages: who does it.
            layer: returns the layer, once an encoder is ready.
            config: how much may be under way.
            tell: who listens.
        """
        self._schedule: Schedule[Any, Any] = Schedule(work, records, config)
        self.failures = self._schedule.failures
        self._records = records
        self._stages = stages
        self._calls = stages.calls
        self._layer = layer
        self._tell = tell
        self._settled = 0
        self._decode_s = self._encode_s = 0.0

    def run(self) -> None:
        """Work until every unit is written, or left to the next run."""
        schedule, stages = self._schedule, self._stages
        told_s = time.monotonic()
        with stages.decoders, stages.encoders:
            while schedule.left and schedule.failed_in_a_row < FAILED_IN_A_ROW:
                stages.keep()
                schedule.staff(stages.decoders.ready, len(stages.encoders.ready))
                self._hand_out()
                stages.note()
                self._calls.wait(LOOK_EVERY_S)
                if time.monotonic() - told_s >= LOOK_EVERY_S:
                    told_s = time.monotonic()
                    self._tell.on_load(self._load())
            self._tell.on_load(self._load())

    def _hand_out(self) -> None:
        """Give everybody something to do who has too little of it."""
        for encoder in self._stages.encoders.free(AT_ONCE, aside=True):
            if job := self._schedule.take_job():
                self._write(encoder, job)
        for calls in range(AT_ONCE):  # nobody gets a second piece before all have a first one
            for encoder in self._stages.encoders.free(calls + 1):
                if batch := self._schedule.take_batch(encoder.node):
                    self._encode(encoder, batch)
            for decoder in self._stages.decoders.free(calls + 1):
                if record := self._schedule.take_clip(decoder, decoder.node):
                    self._decode(decoder, record)

    def _decode(self, worker: Worker, record: Record) -> None:
        frames, note = worker.actor.decode.options(num_returns=2).remote(record)
        then = functools.partial(self._decoded, worker, record.id, frames)
        self._calls.put(worker, note, then)

    def _decoded(self, worker: Worker, name: str, frames: Any, answer: Any) -> None:
        """Take the frames of a clip, or learn that there are none."""
        import ray

        try:
            note: Note = ray.get(answer)
            self._decode_s += note.seconds
        except ray.exceptions.RayActorError as error:
            drop(frames)
            self._stages.decoders.lose(worker)
            self._schedule.lose_clip(name, error)
        except (SourceError, StorageError) as error:
            drop(frames)
            self._schedule.fail_clip(name, error)
        else:
            if note.reason:
                self._settled += 1
                self._schedule.put_reject(name, note.reason, note.error)
            else:
                self._schedule.put_frames(name, (frames, note.decoder), worker.node)

    def _encode(self, worker: Worker, batch: Batch[Any, Any]) -> None:
        clips = batch.decoded()
        records = [self._records[name] for name, _ in clips]
        frames = [frames for _, (frames, _) in clips]
        made, note = worker.actor.encode.options(num_returns=2).remote(records, *frames)
        decoders = {name: decoder for name, (_, decoder) in clips}
        then = functools.partial(self._encoded, worker, batch, decoders, made)
        self._calls.put(worker, note, then)

    def _encoded(
        self,
        worker: Worker,
        batch: Batch[Any, Any],
        decoders: Mapping[str, str],
        made: Any,
        answer: Any,
    ) -> None:
        """Take the tensors of a batch; `decoders` made its frames."""
        import ray

        try:
            note: BatchNote = ray.get(answer)
            self._encode_s += note.seconds
        except ray.exceptions.RayActorError as error:
            drop(made)
            self._stages.encoders.lose(worker)
            self._schedule.lose_batch(batch, error, frames_too=False)
        except ray.exceptions.ObjectLostError as error:
            drop(made)
            self._schedule.lose_batch(batch, error, frames_too=True)
        except ray.exceptions.RayTaskError as error:
            drop(made)
            self._schedule.give_up(batch.job, error)
        else:
            for name, reason, words in note.refused:
                batch.job.reject(name, reason, words)
            self._settled += len(note.made) + len(note.refused)
            samples = [(name, decoders[name]) for name in note.made]
            self._schedule.put_latents(batch, note.made, (made, samples))
            for name, finding in note.findings:
                self._tell.on_finding(name, finding)

    def _write(self, worker: Worker, job: Job[Any]) -> None:
        samples = [sample for _, (_, samples) in job.latents for sample in samples]
        made = [made for _, (made, _) in job.latents]
        answer = worker.actor.write.options(concurrency_group=ASIDE).remote(
            self._layer(), job.work, job.rejects, samples, *made
        )
        then = functools.partial(self._written, worker, job)
        self._calls.put(worker, answer, then, aside=True)

    def _written(self, worker: Worker, job: Job[Any], answer: Any) -> None:
        """Take note that a unit is committed."""
        import ray

        try:
            outcome: Outcome = ray.get(answer)
        except ray.exceptions.RayActorError as error:
            self._stages.encoders.lose(worker)
            self._schedule.lose_job(job, error, latents_too=False)
        except ray.exceptions.ObjectLostError as error:
            self._schedule.lose_job(job, error, latents_too=True)
        except ray.exceptions.RayTaskError as error:
            self._schedule.give_up(job, error)
        else:
            self._schedule.put_job(job)
            self._tell.on_unit(outcome)

    def _load(self) -> Load:
        return dataclasses.replace(
            self._stages.load(),
            settled=self._settled,
            decode_s=self._decode_s,
            encode_s=self._encode_s,
            bytes_in_flight=self._schedule.bytes_in_flight,
        )
