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
from jobs.distill_stage import SAMPLERS, AddConfig, SecondPlayer, StageConfig
from jobs.latents import LatentSource
from jobs.launch import Payload
from jobs.recipe import Recipe
from pipelines.model_folder import ModelFolder
from video_models.formats import open_transformer
from video_platform.cluster import WorkerContext
from video_platform.config import load_recipe
from video_platform.training.config import TrainingConfig

STEPS = 6
CASES = {method: (method, {}) for method in SAMPLERS} | {
    "dmd with heads": ("dmd", {"gan_weight": 0.1}),
    "consistency by an average": ("consistency", {"target_decay": 0.5, "states": "both"}),
}
"""Methods, and knobs that bring in networks of their own."""


def stage_of(method, **knobs):
    training = TrainingConfig(
        steps=STEPS, batch_size=4, micro_batch_size=2, learning_rate=1e-2, ema_decay=None,
        zero_stage=2, log_every=1, checkpoint_every=2,
    )  # fmt: skip
    steps = None if method == "guidance" else 2
    second = SecondPlayer(turns=1, blocks=(0,))
    if method == "add":
        knobs["add"] = AddConfig(vision="vision", frames=1)
    return StageConfig(
        method=method, training=training, steps=steps, intervals=4, second=second,
        tangent_warmup=2, **knobs,
    )  # fmt: skip


def distil(folder, stage, out, *, stop_after=None, start="base"):
    recipe = load_recipe(Recipe, folder / "recipe.yaml", [f"project={folder}/out"])
    source, told = LatentSource(recipe), []
    payload = Payload(
        recipe=source.pinned(recipe),
        run_id="ab" * 16,
        parents={},
        extra={
            "stage": stage,
            "teacher": folder / "base",
            "start": folder / start,
            "folder": folder / out,
            "vision": folder / "vision",
        },
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
    for case, (method, knobs) in CASES.items():
        stage = stage_of(method, **knobs)
        made, told = distil(folder, stage, f"{case}-whole")
        stopped, _ = distil(folder, stage, f"{case}-parts", stop_after=3)
        distil(folder, stage, f"{case}-parts")
        if dist.get_rank():
            continue
        card = ModelFolder.open(folder / f"{case}-whole").card
        whole, parts, base = (
            weights(folder / name) for name in (f"{case}-whole", f"{case}-parts", "base")
        )
        report[case] = {
            "stopped": stopped["finished"],
            "resumed": furthest(whole, parts),
            "moved": furthest(whole, base),
            "finite": bool(all(w.isfinite().all() for w in whole.values())),
            "sampling": [card.sampling.sampler, card.sampling.steps, card.sampling.guidance],
            "baked": card.guidance_baked,
            "pictures": sorted(made["pictures"]),
            "told": sorted(measured(told)),
        }
        shutil.rmtree(folder / f"{case}-parts.checkpoints", ignore_errors=True)
    return report


def measured(told):
    """Names of all scalars that went to the tracking store."""
    notes = [each["note"] for each in told if "note" in each]
    return {entry[0] for note in notes if note.kind == "metrics" for entry in note.content}


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
