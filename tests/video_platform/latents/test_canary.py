"""The clip that shows that equal weights still give equal latents."""

import dataclasses
import hashlib

import pytest

from tests.video_platform.latents.toy import POLICY, encode
from video_platform.errors import StaleCacheError
from video_platform.latents.canary import canary_clip, check_canary, encode_canary


def test_the_clip_never_changes():
    clip = canary_clip((5, 16, 24, 3), 1)
    assert clip.shape == (5, 16, 24, 3)
    assert hashlib.sha256(clip.tobytes()).hexdigest()[:16] == "e51d1db2f7622928"
    assert (clip[1] != clip[0]).any()


def test_a_large_policy_has_a_small_canary():
    policy = dataclasses.replace(POLICY, height=720, width=48)
    assert encode_canary(encode, policy).shape == (5, 64, 48, 3)


def test_a_small_drift_passes_and_a_large_one_is_stale():
    recorded = encode_canary(encode, POLICY)
    check_canary(recorded, encode_canary(encode, POLICY), tolerance=1e-9)

    def drifted(frames):
        mean, logvar = encode(frames)
        return mean * 1.01, logvar

    now = encode_canary(drifted, POLICY)
    check_canary(recorded, now, tolerance=0.05)
    with pytest.raises(StaleCacheError, match=r"mean is off by 0\.01.*canary_tolerance is 0\.001"):
        check_canary(recorded, now, tolerance=1e-3)


def test_a_canary_that_is_not_a_number_is_stale():
    recorded = encode_canary(encode, POLICY)
    now = dataclasses.replace(recorded, mean=(float("nan"),) * len(recorded.mean))
    with pytest.raises(StaleCacheError, match="mean is off by nan"):
        check_canary(recorded, now, tolerance=1e-3)


def test_a_canary_of_another_kind_or_none_is_stale():
    recorded = encode_canary(encode, POLICY)
    with pytest.raises(StaleCacheError, match="inf"):
        check_canary(recorded, dataclasses.replace(recorded, seed=2), tolerance=1e-3)
    with pytest.raises(StaleCacheError, match="no canary"):
        check_canary(None, recorded, tolerance=1e-3)
