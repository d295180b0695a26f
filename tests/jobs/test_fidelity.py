"""The gate that stops a run whose latents nobody should train on."""

from collections import Counter

import pytest

from jobs.fidelity import ENOUGH_CLIPS, Fidelity, FidelityGate, draw, draw_bounds
from jobs.precompute_config import FidelityConfig
from video_platform.datasets.record import Record
from video_platform.errors import CacheError, CorruptCacheError
from video_platform.storage import open_store
from video_platform.video.policy import ClipSize

STRICT = FidelityConfig(min_psnr_db=30.0, max_chunk_difference=0.01)
LAYER = "latent/" + "a" * 16


@pytest.fixture
def gate_at(tmp_path):
    def open_gate(config=STRICT):
        return FidelityGate(open_store(tmp_path), LAYER, config)

    return open_gate


def found(psnr_db, bucket="17x64x64", difference=None, strip=None):
    return Fidelity(bucket=bucket, psnr_db=psnr_db, difference=difference, strip=strip)


def clips(number, size=(17, 64, 64)):
    fields = {"url": "/v", "key": "k", "size_bytes": 1, "identity": "v", "size": ClipSize(*size)}
    return [Record(id=f"{size[0]}/{index}.mp4", **fields) for index in range(number)]


def chosen(records, **config):
    bounds = draw_bounds(records, FidelityConfig(**config))
    return {record.id for record in records if draw(record.id) < bounds[str(record.size)]}


def test_the_sample_follows_from_the_ids_and_has_the_share_asked_for():
    records = clips(4000)
    tenth = chosen(records, share=0.1)
    assert 300 < len(tenth) < 500
    assert tenth == chosen(records[::-1], share=0.1) < chosen(records, share=0.2)
    assert tenth & {record.id for record in records[:2000]} == chosen(records[:2000], share=0.1)
    assert not chosen(records, share=0.0, least=0)
    assert len(chosen(records, share=1.0)) == 4000


def test_every_bucket_is_looked_at_however_small():
    records = [*clips(4000), *clips(30, (1, 64, 64)), *clips(2, (33, 64, 64))]
    found = Counter(name.split("/")[0] for name in chosen(records, share=0.0001, least=4))
    assert found == {"17": 4, "1": 4, "33": 2}


def test_a_bucket_is_judged_by_its_mean_once_there_are_enough_clips(gate_at):
    gate = gate_at()
    for number in range(ENOUGH_CLIPS - 1):
        gate.add(f"{number}", found(20.0))
        gate.add(f"good {number}", found(40.0, bucket="1x64x64"))
    with pytest.raises(CacheError, match=r"17x64x64 decodes to 20\.0 dB, a mean over 8 clips"):
        gate.add("last", found(20.0))


def test_one_bad_clip_among_good_ones_stops_nothing(gate_at):
    gate = gate_at()
    gate.add("bad", found(10.0))
    for number in range(ENOUGH_CLIPS):
        gate.add(f"{number}", found(40.0))
    gate.finish()
    figures = gate.buckets()["17x64x64"].figures()
    assert figures["min_psnr_db"] == 10.0
    assert figures["psnr_db"] == pytest.approx((8 * 40 + 10) / 9)
    assert "max_difference" not in figures


def test_few_clips_are_judged_at_the_end(gate_at):
    gate = gate_at()
    gate.add("a", found(20.0))
    with pytest.raises(CacheError, match=r"a mean over 1 clips, below fidelity\.min_psnr_db = 30"):
        gate.finish()


def test_one_clip_that_cutting_changes_is_enough(gate_at):
    gate = gate_at()
    gate.add("a", found(40.0, difference=1e-6))
    with pytest.raises(CacheError, match=r"17x64x64 is off by 0\.5 .*max_chunk_difference = 0\.01"):
        gate.add("b", found(40.0, difference=0.5))


def test_without_a_threshold_it_only_records(gate_at):
    gate = gate_at(FidelityConfig())
    for number in range(ENOUGH_CLIPS):
        gate.add(f"{number}", found(3.0))
    gate.finish()
    assert gate.buckets()["17x64x64"].psnr_db == 3.0


def test_a_run_that_was_stopped_is_stopped_again_until_the_recipe_changes(gate_at):
    with pytest.raises(CacheError), gate_at() as gate:
        gate.add("b", found(40.0, difference=0.5))
    with pytest.raises(CacheError, match=r"off by 0\.5"), gate_at():
        pytest.fail("it should not have begun")
    with gate_at(FidelityConfig(max_chunk_difference=0.6)):
        pass


def test_what_earlier_runs_measured_counts_too(gate_at):
    with gate_at(FidelityConfig()) as one:
        for number in range(6):
            one.add(f"{number}", found(40.0))
    with gate_at(FidelityConfig()) as other:
        other.add("6", found(19.0, difference=1e-3))
    total = gate_at().buckets()["17x64x64"]
    assert (total.clips, total.psnr_db, total.cut) == (7, 37.0, 1)


def test_a_run_that_is_killed_has_kept_what_it_measured_before(gate_at, monkeypatch):
    monkeypatch.setattr("jobs.fidelity.SAVE_EVERY_S", 0.0)
    with gate_at() as gate:
        gate.add("a", found(40.0))
        assert gate_at().buckets()["17x64x64"].clips == 1


def test_the_first_and_the_worst_clip_are_shown(gate_at):
    gate = gate_at(FidelityConfig())
    for strip, psnr_db in ((b"one", 30.0), (b"two", 20.0), (b"three", 25.0), (None, 10.0)):
        gate.add("a", found(psnr_db, strip=strip))
    assert gate.strips == {"17x64x64": {"first": b"one", "worst": b"two"}}


def test_a_damaged_record_is_found(gate_at, tmp_path):
    with gate_at() as gate:
        gate.add("a", found(40.0))
    (record,) = (tmp_path / "fidelity" / ("a" * 16)).iterdir()
    record.write_bytes(record.read_bytes().replace(b"40.0", b"41.0"))
    with pytest.raises(CorruptCacheError, match="does not match its checksum"):
        gate_at()
