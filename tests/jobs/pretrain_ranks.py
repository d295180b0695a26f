"""What the tests of pretraining run on real ranks; rank 0 writes a JSON report each.

python pretrain_ranks.py FOLDER SCENARIO...   with RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT

FOLDER holds `recipe.yaml`, a cache, an autoencoder and a model to start from.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from jobs.latents import LatentSource
from jobs.launch import Payload
from jobs.pretrain import train_on_rank
from jobs.recipe import Recipe
from video_models.formats import open_lora, open_transformer
from video_models.transformer.lora import merge_lora
from video_platform.cluster import WorkerContext
from video_platform.config import load_recipe


class Told:
    """What rank 0 said: scalars by step, files by name."""

    def __init__(self):
        self.scalars, self.files, self.steps = {}, {}, 0

    def __call__(self, told):
        if "note" not in told:
            self.steps = told["step"]
        elif told["note"].kind == "file":
            self.files[told["note"].name] = told["note"].content
        elif told["note"].kind == "metrics":
            for name, value, _, step in told["note"].content:
                self.scalars.setdefault(step, {})[name] = value


def pretrain(folder, *overrides, stop_after=None, base="some weights"):
    """Train as on Ray's workers; return what came of it and what was told."""
    recipe = load_recipe(Recipe, folder / "recipe.yaml", overrides)
    source = LatentSource(recipe)
    payload = Payload(
        recipe=source.pinned(recipe),
        run_id="ab" * 16,
        parents={"base": "cd" * 16},
        extra={"base": base},
        worker=train_on_rank,
        folders={},
    )
    told, asked = Told(), iter([None] * (stop_after or 99) + ["SIGTERM"] * 99)
    next(asked)
    context = WorkerContext(
        rank=dist.get_rank(),
        world=dist.get_world_size(),
        device="cpu",
        report=told,
        stop_reason=lambda: next(asked),
    )
    result = train_on_rank(payload, context)
    dist.barrier()
    return result, told


def fresh(folder):
    """Train from nothing with everything that can be observed, whole and stopped in between."""
    whole, told = pretrain(folder, f"project={folder}/whole")
    stopped, _ = pretrain(folder, f"project={folder}/stopped", stop_after=4)
    resumed, again = pretrain(folder, f"project={folder}/stopped")
    if dist.get_rank() != 0:
        return None
    for name, content in told.files.items():
        path = folder / "artifacts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return {
        "scalars": told.scalars,
        "again": again.scalars,
        "files": sorted(told.files),
        "finished": [whole["finished"], stopped["finished"], resumed["finished"]],
        "fingerprints": [each["tags"]["vdp.fingerprint"] for each in (whole, resumed)],
        "same grid": whole["pictures"]["samples.png"] == resumed["pictures"]["samples.png"],
        "same curves": whole["pictures"]["curves.png"] == resumed["pictures"]["curves.png"],
    }


def weights_of(folder):
    return open_transformer(folder).state_dict()


def changed(folder, *overrides, name, base):
    """Fine-tune; return which parameters of the merged model are not bit for bit the base's."""
    overrides = (
        f"project={folder}/{name}", f"pretrain.start_from={base}", "model.transformer=null",
        "pretrain.training.steps=3", "pretrain.training.sample_every=2", *overrides,
    )  # fmt: skip
    result, _ = pretrain(folder, *overrides)
    if dist.get_rank() != 0:
        return None
    before, after = (
        weights_of(base / "transformer"),
        weights_of(result["tags"]["vdp.folder"] + "/transformer"),
    )
    return sorted(key for key in before if not torch.equal(before[key], after[key]))


def tuned(folder):
    """Fine-tune everything and parts, from our folder and a published one."""
    ours, published = folder / "whole" / "model", folder / "wan"
    if dist.get_rank() == 0:
        shutil.copytree(ours / "transformer", published / "transformer")
    dist.barrier()
    parts = "pretrain.train=[blocks.*.attn2.*, proj_out.*]"
    report = {"everything": changed(folder, name="everything", base=published)}
    for how, knob in {"stage 3": "zero_stage=3", "bf16": "precision=bf16"}.items():
        report[f"parts, {how}"] = changed(
            folder, f"pretrain.training.{knob}", parts, name=f"parts {how}", base=ours
        )
    return report


def adapted(folder):
    """Train adapters at every stage; say also whether file and base make up the merged model."""
    base, report = folder / "whole" / "model", {}
    for how in ("zero_stage=1", "zero_stage=2", "zero_stage=3"):
        overrides = f"pretrain.training.{how}", "pretrain.train={rank: 2, alpha: 3.0}"
        names = changed(folder, *overrides, name=how, base=base)
        if names is not None:
            network = open_transformer(base / "transformer")
            open_lora(network, folder / how / "model" / "lora")
            merge_lora(network)
            merged = weights_of(folder / how / "model" / "transformer")
            same = all(torch.equal(merged[k], v) for k, v in network.state_dict().items())
            report[how] = {"changed": names, "same": same}
    return report


def joint(folder):
    """Train a joint transformer from nothing, and adapters beside it."""
    size = """{latent_channels: 4, text_dim: 16, num_heads: 2, head_dim: 6, ffn_dim: 16,
        num_layers: 1, num_single_layers: 1, num_refiner_layers: 1}"""
    result, told = pretrain(
        folder, f"project={folder}/joint", "model.transformer=null",
        f"model.joint_transformer={size}", "pretrain.training.steps=4",
        "pretrain.training.sample_every=4", "pretrain.training.zero_stage=3",
    )  # fmt: skip
    adapters = changed(
        folder, "pretrain.train={rank: 2}", name="joint adapters", base=folder / "joint" / "model"
    )
    if dist.get_rank() != 0:
        return None
    return {
        "scalars": told.scalars,
        "pictures": sorted(result["pictures"]),
        "folder": result["tags"]["vdp.folder"],
        "adapted": adapters,
    }


def main(folder, names):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name in names:
        report = globals()[name](folder)
        dist.barrier()
        if dist.get_rank() == 0:
            (folder / f"{name}.json").write_text(json.dumps(report))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
