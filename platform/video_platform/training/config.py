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

    optimizer: Literal["adamw", "muon", "radam"] = "adamw"
    """`muon` makes the updates of the matrices in the network's blocks orthogonal and leaves the
    rest to AdamW; one step costs a little more and teaches much more. `radam` is AdamW that
    needs no warm-up, as consistency training uses it."""
    learning_rate: float = 1e-4
    """Peak learning rate, reached after the warm-up."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from near zero."""
    schedule: Literal["constant", "cosine", "wsd"] = "cosine"
    """What the learning rate does after the warm-up; `wsd` stays at the peak and falls linearly in
    the last part."""
    decay_share: float = 0.2
    """`wsd`: the part of the steps after the warm-up in which the rate falls."""
    final_learning_rate_fraction: float = 0.1
    """Where `cosine` and `wsd` end, as a fraction of the peak."""
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
    clip_deviations: float | None = None
    """Besides, how many standard deviations the gradient norm may lie above its moving average; 3
    is usual. None does not look at the average."""
    ema_decay: float | None = 0.999
    """Decay of the moving average of the weights that is sampled and saved; None keeps none."""
    ema_warmup: bool = True
    """Lower the decay to (1 + step) / (10 + step) while that is smaller, so that the average of a
    short run does not remember its initial weights."""

    more_ema_decays: tuple[float, ...] = ()
    """Decays of further averages, each saved under its own name."""
    ema_widths: tuple[float, ...] = ()
    """Relative widths of power-function averages (EDM2), each saved under its own name: their
    memory grows with the run, which suits runs of any length; 0.05 to 0.15 is usual."""

    zero_stage: Literal[0, 1, 2, 3] = 1
    """DeepSpeed ZeRO: 0 replicates all, 1 shards optimiser state, 2 also gradients, 3 also
    weights."""
    precision: Literal["fp32", "bf16", "autocast"] = "fp32"
    """Type of weights, activations and gradients. `bf16` keeps fp32 master weights and moments,
    computes modulation and norms in fp32, and needs zero_stage >= 1. `autocast` keeps all weights
    and gradients in fp32, those of modulation and norms exactly, and multiplies in bf16: the same
    memory in all, twice the traffic between ranks."""
    offload_optimizer: Literal["none", "cpu"] = "none"
    """Where optimiser state lives; cpu needs zero_stage >= 1."""
    offload_parameters: Literal["none", "cpu"] = "none"
    """Where weights live while they are not computed with; cpu needs zero_stage 3."""
    activation_checkpointing: bool = False
    """Recompute the activations of blocks in the backward pass instead of keeping them."""
    checkpoint_every_block: int = 1
    """Which blocks recompute: 1 is all of them, 2 every second one."""
    checkpoint_keeps: Literal["inputs", "products"] = "inputs"
    """What a recomputed block keeps: its input alone, or also the results of matrix products and
    attention, so that little is computed twice."""
    compile_blocks: bool = False
    """Compile each block with torch.compile; takes a minute at the start. Not with zero_stage 3,
    which fetches weights inside of blocks."""
    sequence_parallel: int = 1
    """So many neighbouring workers share each sample and split its tokens, for clips that are too
    long for one (Ulysses). The heads must divide by it, and the workers too."""

    log_every: int = 10
    """Steps between two lines of scalars."""
    checkpoint_every: int | None = 500
    """Steps between two checkpoints; None writes one at the end only."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay, and besides the newest that is known to be sound."""
    keep_every: int | None = None
    """Checkpoints of every so many steps stay for good, to be looked at or exported later; a
    multiple of `checkpoint_every`. None lets all older ones go."""
    validate_every: int | None = None
    """Steps between two measurements of the held-out loss; None never measures."""
    sample_every: int | None = None
    """Steps between two rounds of sample clips; None never samples."""
    max_skipped_steps: int = 3
    """Steps in a row whose loss or gradient is not finite before the run goes back to its newest
    checkpoint and leaves the batches since out. None of these steps changes the weights."""
    max_skipped_in_1000: int = 20
    """The same, of the last 1000 steps."""
    max_rewinds: int = 2
    """How often the run goes back within 1000 steps; once more and it stops."""
    spike_deviations: float | None = 8.0
    """A loss or gradient norm that lies so many mean absolute deviations above its moving average
    is logged as a spike; None looks for none."""
    straggler_ratio: float = 1.5
    """A rank is logged as a straggler where it needs so many times what the others need."""

    def __post_init__(self) -> None:
        skips = ("max_skipped_steps", "max_skipped_in_1000")
        for name in ("steps", "log_every", "keep_checkpoints", *skips, *BATCH_SIZES):
            _at_least_one(name, getattr(self, name))
        for name in ("checkpoint_every", "keep_every", "validate_every", "sample_every"):
            _at_least_one(name, getattr(self, name))
        if self.keep_every is not None and self.keep_every % (self.checkpoint_every or self.steps):
            raise ValueError(
                f"keep_every = {self.keep_every!r} is no multiple of checkpoint_every = "
                f"{self.checkpoint_every!r}, so that there would be nothing to keep"
            )
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
        if self.clip_deviations is not None and self.clip_deviations <= 0:
            raise ValueError(
                f"clip_deviations is above 0, or null for none, not {self.clip_deviations!r}"
            )
        if not 0 <= self.muon_momentum < 1:
            raise ValueError(f"muon_momentum is in [0, 1), not {self.muon_momentum!r}")
        if self.zero_stage == 0 and self.precision == "bf16":
            raise ValueError(
                "precision bf16 with zero_stage 0 computes wrong updates in DeepSpeed 0.19; "
                "use zero_stage 1, 2 or 3, or precision fp32"
            )
        if self.zero_stage == 0 and self.offload_optimizer != "none":
            raise ValueError("offload_optimizer cpu needs zero_stage 1, 2 or 3")
        self._check_blocks()
        self._check_averages()

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

    def _check_blocks(self) -> None:
        _at_least_one("checkpoint_every_block", self.checkpoint_every_block)
        _at_least_one("sequence_parallel", self.sequence_parallel)
        if self.zero_stage != 3 and self.offload_parameters != "none":
            raise ValueError(
                "offload_parameters cpu moves the parts that zero_stage 3 cuts weights into; use "
                "zero_stage 3, or offload_optimizer"
            )
        if self.zero_stage == 3 and self.compile_blocks:
            raise ValueError(
                "compile_blocks cannot see through the fetching of weights of zero_stage 3; use "
                "zero_stage 0, 1 or 2"
            )
        special = self.checkpoint_keeps != "inputs" or self.checkpoint_every_block != 1
        if special and not self.activation_checkpointing:
            raise ValueError(
                "checkpoint_keeps and checkpoint_every_block say how activation_checkpointing is "
                "done; set that to true"
            )

    def _check_averages(self) -> None:
        if not 0 < self.decay_share <= 1:
            raise ValueError(f"decay_share is in (0, 1], not {self.decay_share!r}")
        if any(not 0 <= decay < 1 for decay in self.more_ema_decays):
            raise ValueError(f"more_ema_decays are in [0, 1), not {self.more_ema_decays!r}")
        if any(not 0 < width < 0.28 for width in self.ema_widths):
            raise ValueError(f"ema_widths are between 0 and 0.28, not {self.ema_widths!r}")

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
                "pack lays samples of different shapes behind each other: it needs batch_tokens "
                "and micro_batch_tokens, and draws of 2 or more"
            )


def _at_least_one(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{name} is at least 1, not {value!r}")
