"""A transformer whose tokens are split over devices computes what it computes whole.

The devices are threads here, which exchange tensors at a barrier; the real exchange and the
gradients through it are tested with processes, in `tests/video_platform/training`.
"""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.video_models.transformer.test_packing import SIZES, pack
from tests.video_models.transformer.tiny import VARIANTS, inputs_of, relative_error, tiny

DEVICES = 2


class Device:
    """One of several threads that have a part of the tokens each."""

    def __init__(self, rank, board, barrier):
        self.rank, self.board, self.barrier = rank, board, barrier

    def split(self, x, dim):
        return x.tensor_split(DEVICES, dim)[self.rank]

    def join(self, x, dim):
        self.board[self.rank] = x
        self.barrier.wait()
        whole = torch.cat([self.board[rank] for rank in range(DEVICES)], dim)
        self.barrier.wait()
        return whole

    def attend(self, kernel, tokens):
        def attend_whole(q, k, v, mask=None):
            q, k, v = (self.join(x, 1) for x in (q, k, v))
            assert q.shape[1] == tokens
            return self.split(kernel(q, k, v, mask), 1)

        return attend_whole


def on_devices(model, call):
    """Return what every device returns."""
    board, barrier = {}, threading.Barrier(DEVICES, timeout=60)

    def run(rank):
        own = copy.deepcopy(model)
        own.placement = Device(rank, board, barrier)
        with torch.no_grad():
            return call(own)

    with ThreadPoolExecutor(DEVICES) as pool:
        return list(pool.map(run, range(DEVICES)))


@pytest.mark.parametrize("variant", ["plain", "windowed", "block modulation", "condition"])
def test_a_split_batch_computes_what_a_whole_one_does(variant):
    model = tiny(**VARIANTS[variant])
    latents, t, rest = inputs_of(model)
    with torch.no_grad():
        expected, tokens = model(latents, t, **rest, features=(0,))
    for out, kept in on_devices(model, lambda own: own(latents, t, **rest, features=(0,))):
        assert relative_error(out, expected) < 1e-5
        assert relative_error(kept[0], tokens[0]) < 1e-5


@pytest.mark.parametrize("per_token", [False, True])
def test_a_split_pack_computes_what_a_whole_one_does(per_token):
    model = tiny(**VARIANTS["windowed"])
    calls = [inputs_of(model, size, batch=1, seed=seed) for seed, size in enumerate(SIZES)]
    latents, t, rest = pack(calls)
    if per_token:
        t = [torch.rand(x[0].numel() // 4) for x in latents]
    with torch.no_grad():
        expected = model(latents, t, **rest)
    for out in on_devices(model, lambda own: own(latents, t, **rest)):
        assert max(map(relative_error, out, expected)) < 1e-5
