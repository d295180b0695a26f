"""Runs whose checkpoints are exported, on two real ranks; rank 0 writes a JSON report.

python export_ranks.py FOLDER runs          with RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT
"""

import sys
from pathlib import Path

import torch.distributed as dist

from pipelines.model_folder import ModelFolder
from tests.jobs import pretrain_ranks
from tests.jobs.pretrain_ranks import pretrain

KNOBS = {
    "sharded": ("zero_stage=3", "more_ema_decays=[0.5]", "keep_every=2"),
    "replicated": ("zero_stage=0", "ema_decay=null"),
    "rounded": ("zero_stage=2", "precision=bf16"),
}
QUIET = ("sample_every=null", "validate_every=null", "checkpoint_every=2", "steps=4")


def runs(folder):
    """Train each, and leave one that was told to stop on its way."""
    for name, knobs in KNOBS.items():
        training = [f"pretrain.training.{knob}" for knob in (*knobs, *QUIET)]
        pretrain(folder, f"project={folder}/{name}", *training, base=None)
    training = [f"pretrain.training.{knob}" for knob in QUIET]
    pretrain(folder, f"project={folder}/stopped", *training, stop_after=3, base=None)
    base = folder / "sharded" / "model"
    overrides = (
        "model.transformer=null", "pretrain.train={rank: 2, alpha: 3.0}",
        f"pretrain.start_from={base}", f"project={folder}/adapted",
    )  # fmt: skip
    print_ = ModelFolder.open(base).card.fingerprints["transformer"]
    pretrain(folder, *overrides, *training, base=print_)
    return {"world": dist.get_world_size()}


if __name__ == "__main__":
    pretrain_ranks.runs = runs
    pretrain_ranks.main(Path(sys.argv[1]), sys.argv[2:])
