"""The knobs of a training run, checked before anything heavy is imported."""

import dataclasses
from typing import Literal

BATCH_SIZES = (
    "batch_size",
    "micro_batch_size",
    "batch_tokens",
    "micro_batch_tokens",
    "batch_multiple",
    "draws",
)
"""Knobs that say how many samples are trained on at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long, how fast and in which pieces a network is trained."""

    steps: int
    """Optimiser steps in the whole run."""
    batch_size: int | None = None
    """Samples that make up one optimiser step, over all workers together. Any number of workers
    shares them, to the sample; a multiple of the workers is shared evenly."""
    micro_batch_size: int | None = None
    """Most samples that one worker sends through the network at once. How often a worker
    accumulates follows from it: batch_size / (workers x micro_batch_size)."""
    batch_tokens: int | None = None
    """Instead of `batch_size`: latent positions (frames x rows x columns of a latent) that make up
    one optimiser step, so that small clips come in larger batches and all steps cost the same."""
    micro_batch_tokens: int | None = None
    """Instead of `micro_batch_size`: most latent positions sent through the network at once."""
    batch_multiple: int = 1
    """With `batch_tokens`, batches are of a multiple of so many samples, at least of one. A
    multiple of the number of workers gives each the same work."""
    draws: int = 1
    """From how many shapes a batch is put together: each draw is of one shape and gives an equal
    part of the batch, so that pictures and clips, small and large meet in one update."""
    pack: bool = False
    """With `batch_tokens` and several draws, lay samples of different shapes one behind the other
    in a micro-batch, each attending to itself alone, until it holds `micro_batch_tokens`; so all
    workers have about the same to do. False keeps a micro-batch to one shape."""
    seed: int = 0
    """Root of every random draw: order of samples, noise, timesteps, dropout, initial weights."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon` makes the updates of the matrices in the network's blocks orthogonal and leaves the
    rest to AdamW; one step costs a little more and teaches much more."""
    learning_rate: float = 1e-4
    """Peak learning rate, reached after the warm-up."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from near zero."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """What the learning rate does after the warm-up."""
    final_learning_rate_fraction: float = 0.1
    """Where `cosine` ends, as a fraction of the peak."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of AdamW's first and second moment."""
    muon_momentum: float = 0.95
    """Decay of Muon's momentum."""
    epsilon: float = 1e-8
    """Term that keeps AdamW's division finite."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices and kernels; vectors (norms, biases) never decay."""
    clip_norm: float | None = 1.0
    """Largest global gradient norm; None does not clip."""
    ema_decay: float | None = 0.999
    """Decay of the moving average of the weights that is sampled and saved; None keeps none."""
    ema_warmup: bool = True
    """Lower the decay to (1 + step) / (10 + step) while that is smaller, so that the average of a
    short run does not remember its initial weights."""

    zero_stage: Literal[0, 1, 2, 3] = 1
    """DeepSpeed ZeRO: 0 replicates all, 1 shards optimiser state, 2 also gradients, 3 also
    weights."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Type of weights, activations and gradients; bf16 keeps fp32 master weights and moments, and
    needs zero_stage >= 1."""
    offload_optimizer: Literal["none", "cpu"] = "none"
    """Where optimiser state lives; cpu needs zero_stage >= 1."""
    activation_checkpointing: bool = False
    """Recompute the activations of each block in the backward pass instead of keeping them."""

    log_every: int = 10
    """Steps between two lines of scalars."""
    checkpoint_every: int | None = 500
    """Steps between two checkpoints; None writes one at the end only."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay on disk."""
    validate_every: int | None = None
    """Steps between two measurements of the held-out loss; None never measures."""
    sample_every: int | None = None
    """Steps between two rounds of sample clips; None never samples."""
    max_skipped_steps: int = 10
    """Steps in a row whose gradient is not finite before the run is stopped."""

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "keep_checkpoints", "max_skipped_steps", *BATCH_SIZES):
            _at_least_one(name, getattr(self, name))
        for name in ("checkpoint_every", "validate_every", "sample_every"):
            _at_least_one(name, getattr(self, name))
        self._check_batch()
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is above 0, not {self.learning_rate!r}")
        if not 0 <= self.final_learning_rate_fraction <= 1:
            raise ValueError(
                "final_learning_rate_fraction is between 0 and 1, "
                f"not {self.final_learning_rate_fraction!r}"
            )
        if self.warmup_steps < 0 or self.weight_decay < 0:
            raise ValueError("warmup_steps and weight_decay are 0 or more")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is in [0, 1) or null, not {self.ema_decay!r}")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"clip_norm is above 0, or null for none, not {self.clip_norm!r}")
        if not 0 <= self.muon_momentum < 1:
            raise ValueError(f"muon_momentum is in [0, 1), not {self.muon_momentum!r}")
        if self.zero_stage == 0 and self.precision == "bf16":
            raise ValueError(
                "precision bf16 with zero_stage 0 computes wrong updates in DeepSpeed 0.19; "
                "use zero_stage 1, 2 or 3, or precision fp32"
            )
        if self.zero_stage == 0 and self.offload_optimizer != "none":
            raise ValueError("offload_optimizer cpu needs zero_stage 1, 2 or 3")

    def sizes(self, tokens: int, *, draws: int = 1) -> tuple[int, int]:
        """Return how many samples of so many tokens are in a batch, and most in a micro-batch.

        Args:
            tokens: positions of a sample.
            draws: into how many the batch is divided; the samples are those of one.
        """
        if self.batch_size is not None and self.micro_batch_size is not None:
            return self.batch_size // draws, self.micro_batch_size
        assert self.batch_tokens and self.micro_batch_tokens, "checked before"  # noqa: S101
        multiples = self.batch_tokens // draws // (tokens * self.batch_multiple)
        return max(multiples, 1) * self.batch_multiple, max(self.micro_batch_tokens // tokens, 1)

    def _check_batch(self) -> None:
        """Accept samples or tokens, for batch and micro-batch alike."""
        knobs = {"batch_multiple", "draws"}
        given = {name for name in BATCH_SIZES if getattr(self, name) is not None} - knobs
        allowed = {"batch_size", "micro_batch_size"}, {"batch_tokens", "micro_batch_tokens"}
        if given not in allowed:
            raise ValueError(
                f"{', '.join(sorted(given)) or 'no size of a batch'} is given; give batch_size and "
                "micro_batch_size, or batch_tokens and micro_batch_tokens"
            )
        whole = self.batch_size or self.batch_tokens or 0
        part = self.micro_batch_size or self.micro_batch_tokens or 0
        if part > whole:
            raise ValueError(f"a micro-batch of {part} is larger than its batch of {whole}")
        if (self.batch_size or 0) % self.draws:
            raise ValueError(
                f"batch_size = {whole} is not in {self.draws} equal draws; make it a multiple"
            )
        if self.pack and (self.batch_tokens is None or self.draws == 1):
            raise ValueError(
                "pack lays samples of different shapes behind each other: it needs batch_tokens and "
                "micro_batch_tokens, and draws of 2 or more"
            )


def _at_least_one(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{name} is at least 1, not {value!r}")
