"""What the tests of distillation run on two ranks; rank 0 writes a JSON report each.

python distill_ranks.py FOLDER SCENARIO...   with RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT set

FOLDER holds `recipe.yaml`, a cache, an autoencoder and a model to start from.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from jobs.distill import train_on_rank
from jobs.distill_stage import SAMPLERS, SecondPlayer, StageConfig
from jobs.latents import LatentSource
from jobs.launch import Payload
from jobs.recipe import Recipe
from pipelines.model_folder import ModelFolder
from video_models.formats import open_transformer
from video_platform.cluster import WorkerContext
from video_platform.config import load_recipe
from video_platform.training.config import TrainingConfig

STEPS = 6


def stage_of(method, **knobs):
    training = TrainingConfig(
        steps=STEPS, batch_size=4, micro_batch_size=2, learning_rate=1e-2, ema_decay=None,
        zero_stage=2, log_every=1, checkpoint_every=2,
    )  # fmt: skip
    steps = None if method == "guidance" else 2
    second = SecondPlayer(turns=1, blocks=(0,))
    return StageConfig(
        method=method, training=training, steps=steps, intervals=4, second=second,
        tangent_warmup=2, **knobs,
    )  # fmt: skip


def distil(folder, stage, out, *, stop_after=None):
    recipe = load_recipe(Recipe, folder / "recipe.yaml", [f"project={folder}/out"])
    source, told = LatentSource(recipe), []
    payload = Payload(
        recipe=source.pinned(recipe),
        run_id="ab" * 16,
        parents={},
        extra={"stage": stage, "teacher": folder / "base", "folder": folder / out},
        worker=train_on_rank,
        folders={},
    )
    asked = iter([None] * (stop_after or 99) + ["SIGTERM"] * 99)
    next(asked)
    context = WorkerContext(
        rank=dist.get_rank(),
        world=dist.get_world_size(),
        device="cpu",
        report=told.append,
        stop_reason=lambda: next(asked),
    )
    result = train_on_rank(payload, context)
    dist.barrier()
    return result, told


def weights(folder):
    return {n: p.detach() for n, p in open_transformer(folder / "transformer").named_parameters()}


def furthest(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


def methods(folder):
    """A few updates by every method, whole, and stopped in between and gone on."""
    report = {}
    for method in SAMPLERS:
        stage = stage_of(method)
        distil(folder, stage, f"{method}-whole")
        stopped, _ = distil(folder, stage, f"{method}-parts", stop_after=3)
        distil(folder, stage, f"{method}-parts")
        if dist.get_rank():
            continue
        card = ModelFolder.open(folder / f"{method}-whole").card
        whole, parts, base = (
            weights(folder / name) for name in (f"{method}-whole", f"{method}-parts", "base")
        )
        report[method] = {
            "stopped": stopped["finished"],
            "resumed": furthest(whole, parts),
            "moved": furthest(whole, base),
            "finite": bool(all(w.isfinite().all() for w in whole.values())),
            "sampling": [card.sampling.sampler, card.sampling.steps, card.sampling.guidance],
            "baked": card.guidance_baked,
        }
        shutil.rmtree(folder / f"{method}-parts.checkpoints", ignore_errors=True)
    return report


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    folder = Path(sys.argv[1])
    for name in sys.argv[2:]:
        report = globals()[name](folder)
        dist.barrier()
        if dist.get_rank() == 0:
            (folder / f"{name}.json").write_text(json.dumps(report))
    dist.destroy_process_group()
