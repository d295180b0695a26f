"""No process of `precompute` grows with the number of clips."""

import pytest

from tests.benchmarks.precompute_memory import Memory, fill_small_clips
from video_platform.cluster import start
from video_platform.cluster_config import ClusterConfig

CLIPS = 1500
MOST_MB = 10
"""A process that kept the frames of every clip would grow by 19 MB over the second half."""


@pytest.mark.slow
def test_no_process_grows_with_the_clips_that_it_has_seen(tmp_path):
    memory = Memory()
    with start(ClusterConfig(num_cpus=2)):
        fill_small_clips(tmp_path, CLIPS, memory.look)
    half, end = memory.at(0.45, 0.55), memory.at(0.9, 1.0)
    assert {"driver", "decoder", "decoder's child", "encoder", "object store"} <= set(half)
    grown = {role: end[role] - mb for role, mb in half.items() if end[role] - mb > MOST_MB}
    assert not grown, grown
