"""What the tests of autoencoder training run on real ranks; rank 0 writes a JSON report each.

python autoencoder_ranks.py FOLDER SCENARIO...   with RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT
"""

import dataclasses
import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from jobs.autoencoder_step import frames_of, trains_on_images
from jobs.autoencoder_validation import stack
from jobs.recipe import AutoencoderSection
from jobs.train_autoencoder import finished, open_step
from pipelines.pixels import to_video
from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.discriminator import PatchDiscriminator
from video_models.autoencoder.discriminator_config import DiscriminatorConfig
from video_models.autoencoder.model import Autoencoder
from video_models.autoencoder.quantiser_config import QuantiserConfig
from video_models.formats import fingerprint, save_autoencoder
from video_models.objectives.config import AdversarialConfig, ReconstructionConfig
from video_models.objectives.reconstruction import reconstruction_terms
from video_platform.batches.loader import Loader, Place
from video_platform.batches.order import Bucket, Order
from video_platform.training.checkpoint import Checkpoints
from video_platform.training.config import TrainingConfig
from video_platform.training.draws import generator
from video_platform.training.loop import At, train
from video_platform.training.schedules import learning_rate

SIZE = AutoencoderConfig(
    base_dim=8,
    latent_channels=4,
    dim_mult=(1, 1),
    num_res_blocks=1,
    space_down=(True,),
    time_down=(True,),
    patch_size=2,
)
GAME = AdversarialConfig(
    start_step=1,
    r1=0.1,
    r1_every=2,
    learning_rate=2e-3,
    discriminator=DiscriminatorConfig(base_dim=4, num_layers=1),
)
VQ = QuantiserConfig(kind="vq", num_codes=8, decay=0.5)
STEPS, BATCH = 6, 4


def section(**changes):
    training = TrainingConfig(
        steps=STEPS,
        batch_size=BATCH,
        micro_batch_size=2,
        learning_rate=1e-3,
        epsilon=1e-3,  # rounding errors of gradients that are nil stay small
        ema_decay=0.9,
        log_every=1,
        checkpoint_every=None,
        zero_stage=changes.pop("zero_stage", 1),
        activation_checkpointing=changes.pop("recompute", False),
    )
    values = {
        "config": SIZE,
        "training": training,
        "loss": ReconstructionConfig(l1=0.5, kl=1e-3),
        "adversarial": GAME,
        "image_stage": 0.2,
        "image_share": 0.4,
        "images_per_clip": 2,
    }
    return AutoencoderSection(**(values | changes))


def clips():
    draw = torch.Generator().manual_seed(5)
    noise = torch.randint(0, 256, (8, 1, 4, 4, 3), dtype=torch.uint8, generator=draw)
    still = noise.repeat(1, 5, 4, 4, 1)
    return [torch.roll(clip, t, dims=1).numpy() for t, clip in enumerate(still)]


def batches(*, rank, world, micro_batch_size):
    order = Order([Bucket(range(8), BATCH, micro_batch_size)], seed=0)
    return Loader(clips(), order, stack, place=Place(rank=rank, world=world))


def mine():
    return batches(rank=dist.get_rank(), world=dist.get_world_size(), micro_batch_size=2)


def open_here(config):
    return open_step(config, device=torch.device("cpu"))


def hinge(values):
    return torch.clamp(values, min=0).mean()


class Plain:
    """The whole game on one process and one batch a step, written out with PyTorch alone."""

    def __init__(self, config):
        torch.manual_seed(0)
        self.config = config
        self.model = Autoencoder(config.config)
        self.critic = PatchDiscriminator(config.adversarial.discriminator)
        self.adam = self.optimizer(self.model, config.training.betas)
        self.critic_adam = self.optimizer(self.critic, config.adversarial.betas)

    def optimizer(self, module, betas):
        vectors = [p for p in module.parameters() if p.ndim <= 1]
        rest = [p for p in module.parameters() if p.ndim > 1]
        groups = [
            {"params": rest, "weight_decay": self.config.training.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, betas=betas, eps=self.config.training.epsilon)

    def apply(self, module, adam, rate):
        for group in adam.param_groups:
            group["lr"] = rate
        for parameter in module.parameters():  # single frames pass resamplers in time by
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        nn.utils.clip_grad_norm_(module.parameters(), self.config.training.clip_norm)
        adam.step()

    def update(self, batch, step):
        game, training, at = self.config.adversarial, self.config.training, At(step, 0)
        images = trains_on_images(self.config, at, steps=STEPS)
        video = frames_of(batch, 0, 2) if images else to_video(batch.data)
        count = len(video) // BATCH
        shape = SIZE.latent_shape(*video.shape[2:])
        noise = [
            torch.randn(count, *shape, generator=generator(0, "latent", p)) for p in batch.positions
        ]
        made, code = self.model(video, torch.cat(noise))
        loss = reconstruction_terms(made, video, code, self.config.loss)["loss"].mean()
        reported, playing = loss.item(), step >= game.start_step
        if playing:
            kernel = self.model.decoder.conv_out.weight
            cost = -self.critic(made).mean()
            pulls = [
                torch.autograd.grad(each, kernel, retain_graph=True)[0].norm()
                for each in (loss, cost)
            ]
            loss = loss + game.weight * (pulls[0] / (pulls[1] + 1e-4)).clamp(max=1e4) * cost
        self.adam.zero_grad()
        loss.backward()
        self.apply(self.model, self.adam, learning_rate(training, step))
        if playing:
            self.critic_adam.zero_grad()
            real = video.clone().requires_grad_()
            logits = self.critic(real)
            loss = (hinge(1 - logits) + hinge(1 + self.critic(made.detach()))) / 2
            if (step - game.start_step) % game.r1_every == 0:
                scores = logits.flatten(1).mean(1).sum()
                (slope,) = torch.autograd.grad(scores, real, create_graph=True)
                loss = loss + game.r1 * game.r1_every * slope.square().sum() / 2 / len(real)
            loss.backward()
            later = dataclasses.replace(
                training, steps=STEPS - game.start_step, learning_rate=game.learning_rate
            )
            self.apply(self.critic, self.critic_adam, learning_rate(later, step - game.start_step))
        return reported


def furthest(weights, module):
    return max(float((weights[n] - p.detach()).abs().max()) for n, p in module.named_parameters())


def distance(weights, module):
    """Return the root mean square difference of all weights.

    Adam makes a step of a gradient that is zero but for rounding, whichever sign that has: single
    weights may differ by the learning rate, the more so the less the processor's sums agree.
    """
    steps = [(weights[n] - p.detach()).flatten() for n, p in module.named_parameters()]
    return float(torch.cat(steps).square().mean().sqrt())


def game(folder):
    """Two ranks at stages 0, 1 (which recomputes blocks) and 2 beside one plain process."""
    plain = Plain(section())
    source = batches(rank=0, world=1, micro_batch_size=BATCH).steps()
    losses = [plain.update(next(source)[0], step) for step in range(STEPS)]
    report = {}
    for stage in range(3):
        config = section(zero_stage=stage, recompute=stage == 1)
        step, logged = open_here(config), []
        train(
            step, mine(), config.training,
            report=lambda done, scalars, logged=logged: logged.append(scalars),
        )  # fmt: skip
        report[f"stage {stage}"] = {
            "autoencoder": furthest(step.engine.full_parameters(), plain.model),
            "discriminator": distance(step.adversary.engine.full_parameters(), plain.critic),
            "losses": [scalars["loss"] for scalars in logged],
            "plain losses": losses,
            "names": [sorted(scalars) for scalars in logged],
        }
    return report


def state_of(step):
    return {
        (name, kind, key): tensor
        for name, engine in step.engines.items()
        for kind in engine.kinds
        for key, tensor in engine.gather(kind).items()
    }


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def resume(folder):
    """Stop before, at and after the beginning of the game; VAE+GAN and VQ-GAN."""
    report = {}
    for name, stage, changes in (
        ("vae", 2, {}),
        ("vq", 0, {"quantiser": VQ}),
    ):
        config = section(zero_stage=stage, **changes)
        whole, logged = open_here(config), []
        train(
            whole, mine(), config.training,
            report=lambda done, scalars, logged=logged: logged.append(scalars),
        )  # fmt: skip
        for stop in (1, 3):
            store = Checkpoints(folder / f"{name} {stage} {stop}", run_fingerprint="clips")
            asked = iter([False] * (stop - 1) + [True] * STEPS)
            train(
                open_here(config), mine(), config.training, checkpoints=store,
                should_stop=lambda asked=asked: next(asked),
            )  # fmt: skip
            second = open_here(config)
            outcome = train(second, mine(), config.training, checkpoints=store)
            report[f"{name}, stage {stage}, stopped after {stop}"] = {
                "started_at": outcome.started_at,
                "same": same(state_of(whole), state_of(second)),
                "codebook": [scalars.get("codebook/perplexity") for scalars in logged],
            }
    return report


@torch.no_grad()
def decoder(folder):
    """Train the decoder alone, in bf16, from an autoencoder of images."""
    torch.manual_seed(3)
    source = Autoencoder(dataclasses.replace(SIZE, kernel_frames=1, time_down=(False,)))
    source.set_normalisation([0.1] * 4, [2.0] * 4)
    path = folder / "images"
    if dist.get_rank() == 0:
        save_autoencoder(source, path)
    dist.barrier()
    config = section(start_from=str(path), train="decoder", adversarial=None)
    training = dataclasses.replace(config.training, precision="bf16")
    step = open_here(dataclasses.replace(config, training=training))
    started = finished(config, {})
    with torch.enable_grad():
        train(step, mine(), training)
    model = finished(config, step.engine.ema_parameters())
    video = to_video(stack(clips()[:2]))
    return {
        "encoder": fingerprint(model.encoder) == fingerprint(started.encoder),
        "latents": torch.equal(model.encode(video).mean, started.encode(video).mean),
        "images": float((started(video[:, :, :1])[0] - source(video[:, :, :1])[0]).abs().max()),
        "decoder": fingerprint(model.decoder) == fingerprint(started.decoder),
        "normalisation": [model.config.latents_mean[0], model.config.latents_std[0]],
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
