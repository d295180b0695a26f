"""What the actors do, without Ray."""

import types

import numpy as np
import pytest
import torch

from tests.video_platform.latents.toy import (
    POLICY,
    config_for,
    encode,
    frames_of,
    latents,
    plan_for,
    record,
)
from video_platform.errors import MediaError
from video_platform.latents import decoding
from video_platform.latents.decoding import Decoder
from video_platform.latents.layer import open_layer
from video_platform.latents.manifest import latent_units
from video_platform.latents.work import missing_work
from video_platform.latents.workers import ClipEncoder
from video_platform.storage import open_store
from video_platform.video.limits import MediaLimits

RECORDS = [record(number) for number in range(11)]


class FakeDecoder:
    """Answers at once, and knows how many answers nobody has taken yet."""

    def __init__(self, answer=frames_of):
        self.decode = types.SimpleNamespace(remote=self._remote)
        self.answer, self.asked, self.most, self.encoded = answer, [], 0, 0

    def _remote(self, wanted):
        self.asked.append(wanted.id)
        self.most = max(self.most, len(self.asked) - self.encoded)
        return self.answer(wanted)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Run one unit of eleven clips through an encoder; returns its commit and its outcome."""
    monkeypatch.setattr("ray.get", lambda answer: answer)
    root = open_store(str(tmp_path))
    config = config_for(str(tmp_path), unit_size=100, batch_size=3, clips_in_flight=5)
    plan_for(root, RECORDS, config)
    layer = open_layer(root, latents(config))
    (work,) = missing_work(layer, latent_units(RECORDS, 100))

    def run(encoder, decoders):
        worker = ClipEncoder(lambda: encoder, POLICY, config)
        outcome = worker.encode_unit(layer, work, {r.id: r for r in RECORDS}, decoders)
        return layer.commit(work.unit.id), outcome

    return run


def test_no_more_clips_are_in_flight_than_there_is_room(bench):
    decoder, batches = FakeDecoder(), []

    def counted(frames):
        batches.append(len(frames))
        decoder.encoded += len(frames)
        return encode(frames)

    commit, outcome = bench(counted, [decoder])
    assert batches == [3, 3, 3, 2]
    assert decoder.most == 5
    assert (outcome.encoded, len(commit.entries), outcome.committed) == (11, 11, True)


def test_every_decoder_gets_its_share(bench):
    decoders = [FakeDecoder(), FakeDecoder(), FakeDecoder()]
    bench(encode, decoders)
    assert [len(decoder.asked) for decoder in decoders] == [4, 4, 3]


def test_a_refused_clip_leaves_its_neighbours_alone(bench):
    def answer(wanted):
        return (
            MediaError("corrupt", "damaged") if wanted.id == "clip-004.mp4" else frames_of(wanted)
        )

    commit, outcome = bench(encode, [FakeDecoder(answer)])
    assert outcome.rejects == {"corrupt": 1}
    (refused,) = commit.rejects
    assert (refused.id, refused.reason) == ("clip-004.mp4", "corrupt")
    assert len(commit.entries) == 10


def test_latents_that_are_no_numbers_are_refused(bench):
    poisoned = frames_of(RECORDS[6])

    def overflows(frames):
        mean, logvar = encode(frames)
        hit = torch.tensor([bool(np.array_equal(one, poisoned)) for one in frames])
        return torch.where(hit[:, None, None, None, None], torch.inf, mean), logvar

    commit, _ = bench(overflows, [FakeDecoder()])
    assert [(r.id, r.reason) for r in commit.rejects] == [("clip-006.mp4", "latent_not_finite")]
    assert len(commit.entries) == 10


@pytest.mark.parametrize(
    ("reasons", "calls"), [(["crash"], 2), (["timeout"] * 2, 2), (["corrupt"], 1), ([], 1)]
)
def test_a_crash_or_a_timeout_has_to_come_twice_to_count(monkeypatch, reasons, calls):
    answers, made = iter(reasons), []

    def decode(media, policy):
        made.append(media)
        reason = next(answers, None)
        if reason:
            raise MediaError(reason, "as told")
        return types.SimpleNamespace(frames="frames")

    monkeypatch.setattr(decoding, "read_media", lambda wanted: wanted.id)
    decoder = Decoder(POLICY, MediaLimits())
    monkeypatch.setattr(decoder._isolated, "decode", decode)
    answer = decoder.decode(RECORDS[0])
    assert len(made) == calls
    refused = len(reasons) == calls
    assert answer.reason == reasons[-1] if refused else answer == "frames"


def test_a_file_that_is_too_large_is_not_even_read():
    decoder = Decoder(POLICY, MediaLimits(max_bytes=99))
    assert decoder.decode(RECORDS[0]).reason == "too_large"
