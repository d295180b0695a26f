"""Videos to latents on Ray: right, once, and in spite of everything that dies on the way."""

import dataclasses
import functools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from jobs import cache as cache_commands
from jobs.precompute_latents import describe
from tests.jobs.precompute_world import (
    CLIPS,
    LIMITS,
    POLICY,
    add_clip,
    config_for,
    make_world,
    open_hostile,
    run_precompute,
)
from tests.video_platform.latents.toy import encode, latents
from video_models.formats import open_autoencoder
from video_models.text.config import TextConfig
from video_models.text.encoder import open_text_encoder
from video_platform.cluster import start
from video_platform.cluster_config import ClusterConfig
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.source import open_source
from video_platform.errors import (
    CacheError,
    ClusterError,
    ConfigError,
    CorruptCacheError,
    SourceError,
    StaleCacheError,
)
from video_platform.latents import driver, open_cache, stages, verify
from video_platform.latents.fill import Settings, fill_latents
from video_platform.latents.layer import read_layer
from video_platform.latents.sealed import seal
from video_platform.latents.shard import unpack
from video_platform.latents.summary import layer_folders
from video_platform.storage import open_store
from video_platform.video.decode import decode
from video_platform.video.policy import ClipSize

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ray_running(s3_server):
    """Ray on two CPUs, started after the S3 server so that its workers find it.

    Its workers have the priority of everything else: they are what is waited for.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        with start(ClusterConfig(num_cpus=2)):
            yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


@pytest.fixture(scope="module")
def finished(ray_running, world):
    """A cache that was filled without a hitch, its report and what was told on the way."""
    told = []
    config = config_for(str(world / "cache"), decoders=2)
    return config, run_precompute(world, config, told.append), told


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished cache, to be changed."""
    config, *_ = finished
    shutil.copytree(config.url, tmp_path / "cache")
    return dataclasses.replace(config, url=str(tmp_path / "cache"))


def quiet(now):
    """Take no notice."""


def fill_world(world, config, open_encode, on_progress=quiet, change=lambda item: item):
    """Fill the latent layer alone, with whatever encodes."""
    records = open_source(SourceConfig(url=str(world / "videos")))
    return fill_latents(
        open_store(config.url),
        latents(config),
        [change(item) for item in records],
        settings=Settings(cache=config, policy=POLICY, limits=LIMITS),
        open_encode=open_encode,
        on_progress=on_progress,
    )


def assert_same_samples(url, other):
    one, two = open_cache(url), open_cache(other)
    assert one.ids == two.ids
    for place in range(len(one)):
        assert torch.equal(one[place].mean, two[place].mean)
        assert torch.equal(one[place].logvar, two[place].logvar)


def latent_layer(url):
    root = open_store(url)
    (folder,) = (name for name in layer_folders(root) if name.startswith("latent"))
    return read_layer(root, folder)


def test_every_sample_is_what_decoder_autoencoder_and_text_encoder_make(finished, world):
    config, report, _ = finished
    cache = open_cache(config.url)
    model = open_autoencoder(world / "autoencoder")
    text = open_text_encoder(TextConfig(dim=8, max_tokens=4))
    assert len(cache) == report.clips == report.encoded_now == CLIPS
    for sample in cache:
        clip = decode(world / "videos" / sample.id, policy=POLICY, limits=LIMITS)
        video = torch.from_numpy(clip.frames)[None].movedim(-1, 1).float() / 127.5 - 1
        with torch.inference_mode():
            posterior = model.encode(video)
        torch.testing.assert_close(sample.mean, posterior.mean[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(sample.logvar, posterior.logvar[0], atol=1e-5, rtol=1e-4)
        assert torch.equal(sample.text["words"], text.encode([sample.caption])[0])
    assert torch.equal(cache.empty_text("words"), text.encode([""])[0])


def test_a_file_that_cannot_be_decoded_is_a_reject_with_a_reason(finished):
    config, report, told = finished
    assert report.rejects == {"not_video": 1}
    assert told[-1].rejects == {"not_video": 1}
    layer = latent_layer(config.url)
    rejects = [item for commit in layer.commits(layer.committed()) for item in commit.rejects]
    assert [(item.id, item.reason) for item in rejects] == [("garbage.mp4", "not_video")]
    assert "not_video: " in rejects[0].error


def test_what_decoded_a_clip_is_written_down(finished):
    layer = latent_layer(finished[0].url)
    entries = [item for commit in layer.commits(layer.committed()) for item in commit.entries]
    assert {entry.decoder for entry in entries} == {"pyav: the faster"}


def test_progress_is_told_from_the_first_unit_to_the_last(finished):
    _, report, told = finished
    last = {now.layer: now for now in told}
    assert set(last) == {"latent", "text/words"}
    for now in last.values():
        assert (now.units_done, now.samples_done) == (now.units, now.samples)
    assert last["latent"].samples == CLIPS + 1
    assert last["latent"].samples_per_s > 0
    assert last["text/words"].encoded == report.captions_encoded_now == 5


def test_run_again_it_does_nothing_and_says_so(finished, world, monkeypatch):
    config, first, _ = finished
    monkeypatch.setattr("video_platform.latents.fill.Pool", None)
    monkeypatch.setattr("video_platform.latents.fill.Stages", None)
    again = run_precompute(world, config, quiet)
    assert (again.encoded_now, again.captions_encoded_now) == (0, 0)
    assert (again.snapshot, again.snapshot_id) == (first.snapshot, first.snapshot_id)
    assert "nothing to do" in describe(again, config.url)


def test_one_more_clip_is_the_only_one_that_is_encoded(copied, world):
    before = open_cache(copied.url)
    add_clip(world, CLIPS + 5)
    try:
        report = run_precompute(world, copied, quiet)
    finally:
        (world / "videos" / f"{CLIPS + 5:02d}.mp4").unlink()
        captions = world / "videos" / "captions.jsonl"
        captions.write_text("".join(captions.read_text().splitlines(keepends=True)[:-1]))
    assert (report.encoded_now, report.clips, report.snapshot) == (1, CLIPS + 1, 2)
    assert len(before) == CLIPS
    assert verify(copied.url) == []


def test_an_autoencoder_that_encodes_otherwise_than_before_is_refused(copied, world):
    layer = latent_layer(copied.url)
    canary = dataclasses.replace(layer.spec.canary, mean=(9.0,) * len(layer.spec.canary.mean))
    spec = dataclasses.replace(layer.spec, canary=canary)
    layer.store.put("SPEC.json", seal(spec.to_json()))
    layer.store.delete(f"commits/{min(layer.committed())}.json")
    with pytest.raises(StaleCacheError, match="canary clip no longer encodes"):
        run_precompute(world, copied, quiet)


def test_a_killed_run_is_finished_by_the_next(finished, world, tmp_path):
    url = str(tmp_path / "cache")
    command = [sys.executable, "-m", "tests.jobs.precompute_world", str(world), url]
    victim = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert victim.returncode == -9, victim.stderr
    layer = latent_layer(url)
    before = {unit: layer.store.read(f"commits/{unit}.json") for unit in layer.committed()}
    assert len(before) >= 2
    report = run_precompute(world, config_for(url), quiet)
    assert report.clips == CLIPS
    assert report.encoded_now < CLIPS
    for unit, commit in before.items():
        assert layer.store.read(f"commits/{unit}.json") == commit
    assert not any(finding.harmful for finding in verify(url))
    assert_same_samples(url, finished[0].url)


def test_workers_that_die_cost_nothing_but_time(ray_running, world, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    config = config_for(str(tmp_path / "cache"))
    done = fill_world(world, config, functools.partial(open_hostile, str(notes)))
    assert (notes / "decoder").exists(), "the decoder was never killed"
    assert (done.encoded, done.rejects) == (CLIPS, {"not_video": 1})
    assert verify(config.url) == []


def of_old(item):
    """Return a record of a file as it was before somebody changed it."""
    return dataclasses.replace(item, identity="of old")


def test_a_clip_that_cannot_be_read_now_is_left_for_the_next_run(ray_running, world, tmp_path):
    config = config_for(str(tmp_path / "cache"))
    told = []
    with pytest.raises(CacheError, match=r"1 of \d units could not be finished.*'03\.mp4'.*chang"):
        fill_world(
            world,
            config,
            lambda: encode,
            told.append,
            change=lambda item: of_old(item) if item.id == "03.mp4" else item,
        )
    assert told[-1].units_done == told[-1].units - 1


def test_clips_of_several_sizes_and_images_are_encoded_each_at_its_own(
    ray_running, world, tmp_path
):
    sizes = [POLICY.size, ClipSize(1, 16, 16), ClipSize(5, 16, 32)]

    def size_of(name):
        return sizes[sum(name.encode()) % 3]

    config = config_for(str(tmp_path / "cache"), unit_size=100, batch_size=4)
    fill_world(
        world,
        config,
        lambda: encode,
        change=lambda item: dataclasses.replace(item, size=size_of(item.id)),
    )
    layer = latent_layer(config.url)
    (commit,) = layer.commits(layer.committed())
    assert len(commit.entries) == CLIPS
    assert {size_of(entry.id) for entry in commit.entries} == set(sizes)
    for entry in commit.entries:
        policy = POLICY.at(size_of(entry.id))
        clip = decode(world / "videos" / entry.id, policy=policy, limits=LIMITS)
        place = entry.tensors["mean"]
        end = place.offset + place.length
        data = layer.store.read(place.key, start=place.offset, end=end)
        assert torch.equal(unpack(data, place, where="here"), encode(clip.frames[None])[0][0])


def test_a_batch_that_cannot_be_encoded_leaves_the_other_units_alone(ray_running, world, tmp_path):
    config = config_for(str(tmp_path / "cache"))
    (victim,) = (
        r for r in open_source(SourceConfig(url=str(world / "videos"))) if r.id[:2] == "03"
    )
    poison = decode(world / "videos" / victim.id, policy=POLICY, limits=LIMITS).frames

    def refuses(frames):
        if any((one == poison).all() for one in frames):
            raise RuntimeError("out of memory, as told")
        return encode(frames)

    told = []
    with pytest.raises(CacheError, match=r"1 of \d units could not be finished.*memory, as told"):
        fill_world(world, config, lambda: refuses, told.append)
    assert told[-1].units_done == told[-1].units - 1
    assert fill_world(world, config, lambda: encode).units_done == told[-1].units


def test_a_source_that_fails_again_and_again_ends_the_run(
    ray_running, world, tmp_path, monkeypatch
):
    monkeypatch.setattr(driver, "FAILED_IN_A_ROW", 3)
    config = config_for(str(tmp_path / "cache"), unit_size=1, clips_in_flight=1, batch_size=1)
    with pytest.raises(CacheError, match=r"^3 of 11 units could not be finished.*changed since"):
        fill_world(world, config, lambda: encode, change=of_old)


def test_encoders_that_die_as_they_start_are_an_error(ray_running, world, tmp_path):
    config = config_for(str(tmp_path / "cache"))
    with pytest.raises(ClusterError, match="encoders die as they start"):
        fill_world(world, config, functools.partial(os._exit, 3))


def test_encoders_multiply_while_decoders_wait_for_them(ray_running, world, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "SCALE_EVERY_S", 1.0)

    def slow(frames):
        time.sleep(1.0)
        return encode(frames)

    config = config_for(str(tmp_path / "cache"), max_encoders=2, max_decoders=1, batch_size=1)
    told = []
    fill_world(world, config, lambda: slow, told.append)
    assert max(now.load.encoders for now in told) == 2
    assert told[-1].load.encoder_busy > 0.8 > told[-1].load.decoder_busy


def test_frames_in_flight_stay_below_the_bound(ray_running, world, tmp_path):
    clip_bytes = POLICY.frames * POLICY.height * POLICY.width * 3
    config = config_for(str(tmp_path / "cache"), bytes_in_flight=2 * clip_bytes)
    told = []
    done = fill_world(world, config, lambda: encode, told.append)
    assert done.encoded == CLIPS
    assert 0 < max(now.load.bytes_in_flight for now in told) <= 2 * clip_bytes
    assert told[-1].load.bytes_in_flight == 0


def test_a_cache_and_its_workers_live_on_s3_as_well(finished, world, s3_url):
    report = run_precompute(world, config_for(s3_url), quiet)
    assert report.clips == CLIPS
    assert_same_samples(s3_url, finished[0].url)
    assert run_precompute(world, config_for(s3_url), quiet).encoded_now == 0


def test_a_cluster_without_room_is_an_error_that_says_what_is_needed(ray_running, world, tmp_path):
    config = config_for(str(tmp_path), cpus_per_encoder=64.0, start_timeout_s=0.5)
    with pytest.raises(ClusterError, match=r"1 encoders x 64 CPUs; the cluster has 2 CPUs"):
        run_precompute(world, config, quiet)


def test_clips_that_the_autoencoder_cannot_take_are_a_config_error(world, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.jobs.precompute_world.POLICY", dataclasses.replace(POLICY, frames=6))
    with pytest.raises(ConfigError, match="clip of 6 frames does not fit"):
        run_precompute(world, config_for(str(tmp_path)), quiet)


def test_a_source_without_videos_is_an_error(world, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "note.txt").write_text("no video")
    shutil.copytree(world / "autoencoder", tmp_path / "autoencoder")
    with pytest.raises(SourceError):
        run_precompute(tmp_path, config_for(str(tmp_path / "cache")), quiet)


def test_the_cache_commands_say_what_they_find(copied, capsys):
    cache_commands.info(copied.url)
    cache_commands.verify(copied.url)
    cache_commands.snapshot(copied.url)
    shown = capsys.readouterr().out
    assert f"{CLIPS} samples in" in shown
    assert "rejected: 1 not_video" in shown
    assert "every byte is as it was written" in shown
    assert f"snapshot 1 ({open_cache(copied.url).snapshot_id[:16]}): {CLIPS} clips\n" in shown
    layer = latent_layer(copied.url)
    layer.store.delete(layer.store.list("data")[0])
    with pytest.raises(CorruptCacheError, match="damaged"):
        cache_commands.verify(copied.url)
    assert "missing: latent/" in capsys.readouterr().out
