"""What a forecast says, without any clip being made."""

import dataclasses

import pytest

from jobs.forecast import Forecast, Pace, describe, load_forecast
from jobs.precompute_config import ForecastConfig
from jobs.rehearsal import draw
from video_platform.datasets.record import Record
from video_platform.latents.config import CacheConfig
from video_platform.storage import open_store

HOUR = 3600.0
FOUND = Forecast(
    about="a" * 16,
    sampled=50,
    rejected=1,
    clips=36_000,
    samples={"text/words": 100, "latent": 36_000},
    paces={
        "text/words": Pace(start_s=0.0, decode_s=0.0, encode_s=0.0, size_bytes=1e3),
        "latent": Pace(start_s=0.0, decode_s=0.1, encode_s=0.4, size_bytes=1e6),
    },
    decoders=1,
    encoders=2,
)


def test_the_busier_side_decides():
    assert FOUND.seconds() == 36_000 * 0.4 / 2
    assert dataclasses.replace(FOUND, encoders=8).seconds() == 36_000 * 0.1
    assert FOUND.seconds({"latent": 10}) == pytest.approx(2.0)
    assert FOUND.seconds({}) == 0.0


def test_a_start_is_paid_once_however_many_workers_there_are():
    pace = Pace(start_s=5.0, decode_s=1.0, encode_s=0.0, size_bytes=0.0)
    assert pace.seconds(10, decoders=5, encoders=1) == 7.0
    assert pace.seconds(0, decoders=5, encoders=1) == 0.0


def test_hours_machines_storage_and_money_are_told():
    prices = ForecastConfig(
        encoder_price_per_hour=3.0, decoder_price_per_hour=0.5, storage_price_per_tb_month=20.0
    )
    cache = CacheConfig(url="a", cpus_per_decoder=1.0, cpus_per_encoder=2.0, gpus_per_encoder=1.0)
    told = describe(FOUND, cache, prices)
    assert "from 50 of 36000 clips, 1 of them refused" in told
    # 2 h, of which each costs 1 + 2 x 2 CPUs, 2 GPUs and 2 x 3 + 0.5 in money
    assert "1 decoders, 2 encoders: 2 h, 5.0 clips/s, 10 CPU-hours, 4 GPU-hours, 13.00 USD" in told
    assert "2 decoders, 4 encoders: 1 h, 10.0 clips/s, 10 CPU-hours, 4 GPU-hours, 13.00 USD" in told
    assert "36 GB stored, 0.72 USD a month" in told


def test_money_is_left_out_without_prices():
    told = describe(FOUND, CacheConfig(url="a"), ForecastConfig())
    assert "USD" not in told and "GPU" not in told


def test_it_is_kept_beside_the_cache(tmp_path):
    root = open_store(tmp_path)
    assert load_forecast(root, FOUND.about) is None
    FOUND.save(root)
    assert load_forecast(root, FOUND.about) == FOUND


def records(files, clips):
    for file in range(files):
        for clip in range(clips):
            fields = {"url": "/v", "key": f"{file}", "size_bytes": 1, "identity": "v"}
            yield Record(
                id=f"{file:03d}/{clip:03d}", file=f"{file:03d}", start_s=float(clip), **fields
            )


def test_clips_are_drawn_from_many_files_and_stand_in_a_row():
    drawn = draw([*records(40, 30)], 50)
    files = [record.file for record in drawn]
    assert len(drawn) == 50 and len(set(files)) == 10
    assert files != sorted(files), "not the first files of the listing"
    assert [record.start_s for record in drawn[:5]] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert drawn == draw([*records(40, 30)][::-1], 50)


def test_few_long_videos_give_as_many_clips_as_asked_for():
    assert len(draw([*records(2, 100)], 50)) == 50
    assert len(draw([*records(3, 4)], 50)) == 12
