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
from video_platform.latents import workers
from video_platform.latents.canary import encode_canary
from video_platform.latents.decoding import Decoder
from video_platform.latents.layer import open_layer
from video_platform.latents.making import Made
from video_platform.latents.manifest import latent_units
from video_platform.latents.work import missing_work
from video_platform.latents.workers import ClipEncoder, make_latents
from video_platform.storage import open_store
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import ClipSize

RECORDS = [record(number) for number in range(4)]
FRAMES = [frames_of(item) for item in RECORDS]


def encoder_of(make, **changes):
    return ClipEncoder(lambda: make, POLICY, config_for("", **changes))


def test_a_batch_becomes_what_the_autoencoder_makes_of_each_clip():
    made, note = encoder_of(make_latents(encode)).encode(RECORDS, *FRAMES)
    assert note.made == tuple(item.id for item in RECORDS)
    for tensors, frames in zip(made, FRAMES, strict=True):
        mean, logvar = encode(frames[None])
        assert torch.equal(tensors["mean"], mean[0])
        assert torch.equal(tensors["logvar"], logvar[0])
    assert note.seconds > 0


def test_floats_are_stored_as_the_cache_says_and_whole_numbers_as_they_are():
    def make(frames, records):
        return [Made(tensors={"a": torch.rand(2), "b": torch.tensor([7])}) for _ in records]

    made, _ = encoder_of(make, stored="bfloat16").encode(RECORDS[:1], *FRAMES[:1])
    assert {name: part.dtype for name, part in made[0].items()} == {
        "a": torch.bfloat16,
        "b": torch.int64,
    }


def test_a_clip_is_refused_alone_for_its_own_reason_or_for_latents_that_are_no_numbers():
    def make(frames, records):
        made = make_latents(encode)(frames, records)
        made[1] = Made(refusal=MediaError("too_dark", "as told"))
        made[2].tensors["logvar"][0] = torch.inf
        return made

    made, note = encoder_of(make).encode(RECORDS, *FRAMES)
    assert note.made == (RECORDS[0].id, RECORDS[3].id)
    assert torch.equal(made[1]["mean"], encode(FRAMES[3][None])[0][0])
    assert [(name, reason) for name, reason, _ in note.refused] == [
        (RECORDS[1].id, "too_dark"),
        (RECORDS[2].id, "latent_not_finite"),
    ]


def test_what_is_found_out_about_a_clip_is_handed_on():
    def make(frames, records):
        return [Made(tensors={"a": torch.ones(1)}, finding=f.max().item()) for f in frames]

    _, note = encoder_of(make).encode(RECORDS, *FRAMES)
    assert dict(note.findings) == {r.id: f.max() for r, f in zip(RECORDS, FRAMES, strict=True)}


def test_the_canary_goes_the_way_of_every_clip(monkeypatch):
    monkeypatch.setattr(workers, "machine", lambda: "here")
    assert encoder_of(make_latents(encode)).ready() == ("here", encode_canary(encode, POLICY))
    assert ClipEncoder(lambda: make_latents(encode), None, config_for("")).ready() == ("here", None)


def test_what_encoders_made_of_a_unit_is_committed_with_what_was_refused(tmp_path):
    config = config_for(str(tmp_path), unit_size=100)
    root = open_store(str(tmp_path))
    plan_for(root, RECORDS, config)
    layer = open_layer(root, latents(config))
    (work,) = missing_work(layer, latent_units(RECORDS, 100))
    encoder = encoder_of(make_latents(encode))
    batches = [encoder.encode(RECORDS[a:b], *FRAMES[a:b]) for a, b in ((2, 4), (0, 1))]
    samples = [(name, f"decoded {name}") for _, note in batches for name in note.made]
    source = next(m.source for m in work.unit.members if m.id == RECORDS[1].id)
    reject = workers.Reject(id=RECORDS[1].id, source=source, reason="corrupt", error="damaged")
    outcome = encoder.write(layer, work, [reject], samples, *[made for made, _ in batches])
    assert (outcome.samples, outcome.encoded, outcome.rejects) == (4, 3, {"corrupt": 1})
    commit = layer.commit(work.unit.id)
    assert [entry.id for entry in commit.entries] == [RECORDS[i].id for i in (0, 2, 3)]
    assert [entry.decoder for entry in commit.entries] == [
        f"decoded {RECORDS[i].id}" for i in (0, 2, 3)
    ]
    assert commit.rejects == (reject,)
    assert outcome.committed
    again = encoder.write(layer, work, [reject], samples, *[made for made, _ in batches])
    assert not again.committed, "another writer was first"


@pytest.mark.parametrize(
    ("reasons", "calls"), [(["crash"], 2), (["timeout"] * 2, 2), (["corrupt"], 1), ([], 1)]
)
def test_a_crash_or_a_timeout_has_to_come_twice_to_count(monkeypatch, reasons, calls):
    answers, made = iter(reasons), []

    def decode(media, policy, start_s):
        made.append(media)
        reason = next(answers, None)
        if reason:
            raise MediaError(reason, "as told")
        return types.SimpleNamespace(frames=np.zeros(1), backend="pyav", why="the faster")

    decoder = Decoder(POLICY, MediaLimits())
    monkeypatch.setattr(decoder._fetcher, "media", lambda wanted: wanted.id)
    monkeypatch.setattr(decoder._isolated, "decode", decode)
    frames, note = decoder.decode(RECORDS[0])
    assert len(made) == calls
    refused = len(reasons) == calls
    assert (note.reason, frames is None) == ((reasons[-1], True) if refused else ("", False))
    assert note.decoder == ("" if refused else "pyav: the faster")


def test_a_clip_is_decoded_where_it_begins_and_at_its_own_size(monkeypatch):
    asked = {}

    def decode(media, policy, start_s):
        asked.update(size=policy.size, start_s=start_s)
        raise MediaError("corrupt", "as told")

    decoder = Decoder(POLICY, MediaLimits())
    monkeypatch.setattr(decoder._fetcher, "media", lambda wanted: wanted.id)
    monkeypatch.setattr(decoder._isolated, "decode", decode)
    size = ClipSize(9, 32, 48)
    decoder.decode(record(1, start_s=2.5, size=size))
    assert asked == {"size": size, "start_s": 2.5}


def test_a_file_that_is_too_large_is_not_even_read():
    decoder = Decoder(POLICY, MediaLimits(max_bytes=99))
    frames, note = decoder.decode(RECORDS[0])
    assert (frames, note.reason) == (None, "too_large")
