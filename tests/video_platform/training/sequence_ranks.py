"""What the tests of sequence parallelism run on two ranks; launched like `ranks.py`."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from tests.video_platform.training import ranks
from video_models.objectives.denoising import flow_matching_loss
from video_models.transformer.config import TransformerConfig
from video_models.transformer.joint import JointTransformer
from video_models.transformer.joint_config import JointTransformerConfig
from video_models.transformer.model import VideoTransformer
from video_platform.errors import TrainingError
from video_platform.training.config import TrainingConfig
from video_platform.training.engine import Engine
from video_platform.training.sequence_parallel import data_place, open_sequence

STEPS = 6


def network(**knobs):
    torch.manual_seed(0)
    size = {
        "latent_channels": 3, "text_dim": 5, "num_heads": 4, "head_dim": 12, "ffn_dim": 40,
        "num_layers": 3, "zero_init_output": False,
    }  # fmt: skip
    if "num_single_layers" in knobs:
        model = JointTransformer(JointTransformerConfig(**(size | knobs)))
        for parameter in model.parameters():  # off the identity that blocks start as
            torch.nn.init.normal_(parameter, std=0.2)
        return model
    return VideoTransformer(TransformerConfig(**(size | {"text_padding": "mask"} | knobs)))


def sample(number, *, per_token=False):
    """A clip of 3 x 3 x 5 = 45 tokens, which two ranks cannot share evenly."""
    draw = torch.Generator().manual_seed(number)
    x0, noise = (torch.randn(2, 3, 3, 6, 10, generator=draw) for _ in range(2))
    text = torch.randn(2, 7, 5, generator=draw)
    mask = torch.arange(7) < torch.tensor([[3], [7]])
    t = torch.rand(2, 45, generator=draw) if per_token else torch.rand(2, generator=draw)
    return x0, noise, text, mask, t


def velocity(module, number, **how):
    x0, _, text, mask, t = sample(number, **how)
    return module(x0, t, text, text_mask=mask)


def loss_of(module, number):
    x0, noise, text, mask, t = sample(number)
    kind = next(module.parameters()).dtype
    return flow_matching_loss(
        lambda x, t: module(x.to(kind), t, text.to(kind), text_mask=mask), x0, noise=noise, t=t
    ).mean()


def gap(a, b):
    return max((x - y).abs().max().item() for x, y in zip(a, b, strict=True))


def packed(module):
    """Three samples of 45, 15 and 6 tokens in one sequence."""
    x0, _, text, mask, _ = sample(1)
    clips = [x0[0], x0[1, :, :1], x0[1, :, :, :4, :2]]
    t = torch.tensor([0.2, 0.5, 0.9])
    return module(clips, t, text[[0, 1, 1]], text_mask=mask[[0, 1, 1]])


KINDS = {
    "plain": {},
    "factorised": {"attention": "factorised"},
    "windowed": {"attention": "windowed", "window": (2, 2, 2)},
    "block": {"modulation": "block"},
    "joint": {"num_single_layers": 1},
}


def forward(folder):
    """Outputs, kept tokens and gradients of two ranks against one."""
    report = {}
    for name, knobs in KINDS.items():
        one, two = network(**knobs), network(**knobs)
        two.placement = open_sequence(2)
        report[name] = {"output": gap([velocity(one, 1)], [velocity(two, 1)])}
        loss_of(one, 1).backward()
        loss_of(two, 1).backward()
        theirs = []
        for parameter in two.parameters():
            dist.all_reduce(parameter.grad)
            theirs.append(parameter.grad / 2)
        report[name]["gradient"] = gap([p.grad for p in one.parameters()], theirs)
        report[name]["size"] = max(p.grad.abs().max().item() for p in one.parameters())
    for name in ("plain", "joint"):
        one, two = (network(**KINDS[name]) for _ in range(2))
        two.placement = open_sequence(2)
        report[name]["packed"] = gap(packed(one), packed(two))
        pair = [velocity(each, 1, per_token=True) for each in (one, two)]
        report[name]["per token"] = gap(pair[:1], pair[1:])
    return report


def inputs(folder):
    """The gradient at the latents is whole on every rank; tokens after blocks are too."""
    found = []
    for placed in (False, True):
        module = network().requires_grad_(False)
        if placed:
            module.placement = open_sequence(2)
        x0, _, text, mask, t = sample(2)
        x0.requires_grad_()
        out, kept = module(x0, t, text, text_mask=mask, features=(0, 2))
        (out.square().mean() + kept[0].sin().mean()).backward()
        found.append((x0.grad, kept[2]))
    return {"gap": gap(*found), "size": found[0][0].abs().max().item()}


def training(folder):
    """Some steps of the engine at every stage against a plain loop on all clips."""
    report = {}
    plain = network()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    losses = []
    for step in range(STEPS):
        loss = (loss_of(plain, 2 * step) + loss_of(plain, 2 * step + 1)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for stage in range(4):
        module = network()
        module.placement = open_sequence(2)
        config = TrainingConfig(
            steps=STEPS, batch_size=4, micro_batch_size=2, learning_rate=1e-3, schedule="constant",
            weight_decay=0.0, clip_norm=None, ema_decay=None, zero_stage=stage,
            activation_checkpointing=stage == 2,
        )  # fmt: skip
        engine = Engine(module, config)
        for step in range(STEPS):
            for number in (2 * step, 2 * step + 1):
                # Half of the batch, on two ranks that count it once together.
                engine.backward(loss_of(engine.module, number), share=0.5 / 2)
            engine.step()
        whole = engine.full_parameters()
        report[f"stage {stage}"] = max(
            (whole[name] - p.detach()).abs().max().item() for name, p in plain.named_parameters()
        )
    report["moved"] = max(
        (a - b).abs().max().item()
        for a, b in zip(network().parameters(), plain.parameters(), strict=True)
    )
    return report


def refusals(folder):
    """What cannot be split."""
    said = {}
    module = network(num_heads=3)
    module.placement = open_sequence(2)
    for name, attempt in {
        "heads": lambda: velocity(module, 1),
        "ranks": lambda: data_place(0, 3, 2),
    }.items():
        try:
            attempt()
        except TrainingError as error:
            said[name] = str(error)
    return said


if __name__ == "__main__":
    ranks.main(Path(sys.argv[1]), sys.argv[2:], globals())
