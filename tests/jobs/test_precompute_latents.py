"""Videos to latents on Ray: right, once, and in spite of everything that dies on the way."""

import dataclasses
import functools
import shutil
import subprocess
import sys
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
from video_platform.latents import open_cache, verify
from video_platform.latents.fill import Settings, fill_latents
from video_platform.latents.layer import read_layer
from video_platform.latents.sealed import seal
from video_platform.latents.summary import layer_folders
from video_platform.storage import open_store
from video_platform.video.decode import decode

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ray_running(s3_server):
    """Ray on two CPUs, started after the S3 server so that its workers find it."""
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
    monkeypatch.setattr("video_platform.latents.fill.actors", None)
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
    records = open_source(SourceConfig(url=str(world / "videos")))
    done = fill_latents(
        open_store(config.url),
        latents(config),
        records,
        settings=Settings(cache=config, policy=POLICY, limits=LIMITS),
        open_encode=functools.partial(open_hostile, str(notes)),
        on_progress=quiet,
    )
    assert (notes / "decoder").exists(), "the decoder was never killed"
    assert (done.encoded, done.rejects) == (CLIPS, {"not_video": 1})
    assert verify(config.url) == []


def test_a_clip_that_cannot_be_read_now_is_left_for_the_next_run(ray_running, world, tmp_path):
    config = config_for(str(tmp_path / "cache"))
    root = open_store(config.url)
    records = open_source(SourceConfig(url=str(world / "videos")))
    changed = [
        dataclasses.replace(item, identity="of old") if item.id == "03.mp4" else item
        for item in records
    ]
    told = []
    with pytest.raises(CacheError, match=r"1 of \d units could not be finished.*'03\.mp4'.*chang"):
        fill_latents(
            root,
            latents(config),
            changed,
            settings=Settings(cache=config, policy=POLICY, limits=LIMITS),
            open_encode=lambda: encode,
            on_progress=told.append,
        )
    assert told[-1].units_done == told[-1].units - 1


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
