"""What the tests of image to video run on real ranks; rank 0 writes a JSON report each.

python given_ranks.py FOLDER SCENARIO...   with RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT

FOLDER holds what `given_world.make_given_world` writes.
"""

import sys
from pathlib import Path

import torch.distributed as dist

from tests.jobs.pretrain_ranks import pretrain
from tests.video_platform.training import ranks

SIZE = "latent_channels: 4, text_dim: 16, num_heads: 2, head_dim: 6, ffn_dim: 16, freq_dim: 8"
SHORT = (
    "pretrain.training={steps: 4, batch_size: 3, micro_batch_size: 1, learning_rate: 1.0e-2, "
    "zero_stage: 2, log_every: 1, checkpoint_every: null, validate_every: 4, sample_every: 4}",
    "pretrain.held_out=0.2",
    "pretrain.sample_clips=3",
)
EVERYTHING = (
    "model.text=[words, wide]",
    f"model.transformer={{{SIZE}, num_layers: 1, more_text_dims: [24], condition_channels: 8, "
    "image_dim: 16}",
    "pretrain.given={ways: [{layer: first, chance: 0.6}, {layer: ends, chance: 0.4}], "
    "image: [begin, end]}",
)
CLEAN = (
    f"model.transformer={{{SIZE}, num_layers: 1}}",
    "pretrain.given={ways: [{chance: 0.7}]}",
    "pretrain.sample_prompts=[a red circle moves right]",
)


def everything(folder):
    """Train with all that can be given, whole and stopped in between."""
    whole, told = pretrain(folder, *SHORT, *EVERYTHING, f"project={folder}/whole")
    stopped = f"project={folder}/stopped"
    pretrain(folder, *SHORT, *EVERYTHING, stopped, stop_after=2)
    resumed, again = pretrain(folder, *SHORT, *EVERYTHING, stopped)
    if dist.get_rank() != 0:
        return None
    last = [{k: v for k, v in each.scalars[4].items() if "/s" not in k} for each in (told, again)]
    return {
        "loss": [each.get("loss") for each in last],
        "validation": [
            {k: v for k, v in each.items() if k.startswith("validation")} for each in last
        ],
        "fingerprints": [each["tags"]["vdp.fingerprint"] for each in (whole, resumed)],
        "same samples": whole["pictures"]["samples.png"] == resumed["pictures"]["samples.png"],
        "files": sorted(told.files),
    }


def clean(folder):
    """Train a model that keeps given frames clean."""
    _, told = pretrain(folder, *SHORT, *CLEAN, f"project={folder}/clean")
    return None if dist.get_rank() else {"scalars": told.scalars, "files": sorted(told.files)}


if __name__ == "__main__":
    ranks.main(Path(sys.argv[1]), sys.argv[2:], globals())
