"""The discriminator's side of an autoencoder's training, through its own engine.

Both networks learn within one micro-batch: the autoencoder from a copy of the discriminator that
gathers no gradient, then the discriminator from the detached reconstruction.
"""

import dataclasses
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.func import functional_call

from video_models.autoencoder.discriminator import PatchDiscriminator
from video_models.objectives.adversarial import (
    adaptive_weight,
    discriminator_hinge,
    generator_hinge,
    gradient_penalty,
)
from video_models.objectives.config import AdversarialConfig
from video_platform.training.config import TrainingConfig
from video_platform.training.engine import Engine
from video_platform.training.loop import At


@dataclasses.dataclass
class Adversary:
    """A discriminator under training, and what its opinion costs the autoencoder."""

    engine: Engine
    config: AdversarialConfig

    def plays(self, at: At) -> bool:
        """Say whether the game has begun; every rank agrees."""
        return at.step >= self.config.start_step

    def charge(
        self, reconstruction: Tensor, loss: Tensor, *, kernel: Tensor, share: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the generator's side of the game to the autoencoder's loss. Collective.

        Args:
            reconstruction: on the autoencoder's graph.
            loss: what else the autoencoder minimises.
            kernel: the decoder's last, at which the two gradients are compared.
            share: of the micro-batch.

        Returns:
            The whole loss, and scalars to report.
        """
        module = self.engine.module
        copy = {name: parameter.detach() for name, parameter in module.named_parameters()}
        cost = generator_hinge(functional_call(module, copy, (reconstruction,))).mean()
        weight = torch.tensor(self.config.weight, device=cost.device)
        if self.config.adaptive:
            gradients = _gradients((loss, cost), kernel, share=share)
            weight = weight * adaptive_weight(*gradients, limit=self.config.max_adaptive)
        return loss + weight * cost, {"adversarial": cost, "adversarial_weight": weight}

    def learn(
        self, video: Tensor, reconstruction: Tensor, *, at: At, share: float
    ) -> dict[str, Tensor]:
        """Add the gradient of the discriminator's side; return scalars to report."""
        module = self.engine.module
        real, fake = module(video), module(reconstruction.detach())
        loss = discriminator_hinge(real, fake).mean()
        scalars = {"loss": loss, "real": real.mean(), "fake": fake.mean()}
        if self.config.r1:
            due = (at.step - self.config.start_step) % self.config.r1_every == 0
            penalty = self._penalty(module, video) if due else loss.new_zeros(())
            scalars["r1"] = penalty
            loss = loss + penalty
        self.engine.backward(loss, share=share)
        return {f"discriminator/{name}": value for name, value in scalars.items()}

    def _penalty(self, module: Callable[[Tensor], Tensor], video: Tensor) -> Tensor:
        """Return R1 with its weight, once for all the steps until it is due again."""
        weight = self.config.r1 * self.config.r1_every
        return weight * gradient_penalty(module, video).mean()


def open_adversary(
    config: AdversarialConfig, training: TrainingConfig, *, channels: int, device: torch.device
) -> Adversary:
    """Build the discriminator and its engine, which is trained from the start of the game on."""
    engine = Engine(
        PatchDiscriminator(config.discriminator, channels=channels).to(device),
        dataclasses.replace(
            training,
            steps=training.steps - config.start_step,
            optimizer="adamw",
            learning_rate=config.learning_rate or training.learning_rate,
            betas=config.betas,
            ema_decay=None,
            activation_checkpointing=False,
        ),
    )
    return Adversary(engine=engine, config=config)


def _gradients(losses: tuple[Tensor, ...], kernel: Tensor, *, share: float) -> Tensor:
    """Return the gradient of each loss by a kernel, over all ranks' micro-batches together."""
    found = [torch.autograd.grad(loss, kernel, retain_graph=True)[0] for loss in losses]
    gradients = torch.stack(found).float() * share
    dist.all_reduce(gradients)
    return gradients
