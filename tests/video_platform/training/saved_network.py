"""A stand-in for an engine with two kinds of state, one tensor each, split over the ranks."""

import torch

from video_platform.training import checkpoint_shards
from video_platform.training.checkpoint import Checkpoints
from video_platform.training.ranks import rank, world

checkpoint_shards.FILE_BYTES = 16
"""So that each kind has a file of its own."""


class Network:
    """Holds a number in every element but two, one of them minus zero."""

    kinds = ("weights", "ema")

    def __init__(self, value=0):
        self.state = {kind: {"w": torch.full((2, 3), float(value))} for kind in self.kinds}
        self.state["ema"]["w"][0, 1] = -0.0
        self.state["weights"]["w"][1, 2] = value / 7
        self.count = value

    def equals(self, other):
        return all(
            torch.equal(self.state[kind]["w"], other.state[kind]["w"]) for kind in self.kinds
        )

    def describe(self, kind):
        return {name: ["float32", *tensor.shape] for name, tensor in self.state[kind].items()}

    def fragments(self, kind):
        for name, tensor in self.state[kind].items():
            start, end = (tensor.numel() * each // world() for each in (rank(), rank() + 1))
            yield name, start, tensor.view(-1)[start:end]

    def restore(self, kind, tensors):
        self.state[kind] = {name: tensors[name] for name in self.state[kind]}

    def counters(self):
        return {"steps": self.count}

    def restore_counters(self, counters):
        self.count = counters["steps"]


def checkpoints(url, **options):
    return Checkpoints(url, **({"run_fingerprint": "a run", "keep": 2, "timeout_s": 60} | options))


def save(url, *steps, good=(), **options):
    """Save networks that hold the number of their step."""
    store = checkpoints(url, **options)
    for step in steps:
        store.save({"net": Network(step)}, step=step, state={"turn": step})
        if step in good:
            store.mark_good(step)
    store.has_good()  # waits for everything


def load(url, **options):
    """Return the step and the network of a checkpoint."""
    network = Network()
    manifest = checkpoints(url).restore({"net": network}, **options)
    assert manifest.state == {"turn": manifest.step}
    return manifest.step, network
