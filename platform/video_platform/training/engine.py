"""One trained network under DeepSpeed ZeRO: backward, step, average, and all of its state.

A step of training calls `engine.module` for the forward pass, `engine.backward(loss, share=...)`
once a micro-batch and `engine.step()` once a batch. The same code runs at ZeRO stage 0, 1, 2 and 3,
on one process or many, and in fp32 gives what a plain PyTorch loop gives.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from video_platform.errors import TrainingError
from video_platform.training.blocks import OTHER, block_of, prepare_blocks
from video_platform.training.clipping import Clipping
from video_platform.training.config import TrainingConfig
from video_platform.training.ema import MovingAverage, decays_of
from video_platform.training.masters import MOMENTS, Masters, open_masters
from video_platform.training.optimizers import Muon, open_optimizer
from video_platform.training.schedules import learning_rate
from video_platform.training.zero import import_deepspeed, open_process_group, zero_config

Kind = str
"""What an engine holds of each parameter, in fp32: `weights`, `exp_avg`, `exp_avg_sq`, and each
average by its name, see `video_platform.training.ema.decays_of`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepResult:
    """What became of one optimiser step."""

    applied: bool
    """False where the gradient was not finite and the weights stayed as they were."""
    grad_norm: float
    """Global gradient norm before clipping; infinite where it was not finite."""
    learning_rate: float
    """The rate of this step."""
    block_norms: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """The gradient's norm in each block before clipping, and outside of them as `other`; empty
    unless asked for."""


class Engine:
    """A trained network with its optimiser, on every rank of the process group.

    Args:
        module: the network; ZeRO takes over its parameters. Those with `requires_grad` are trained.
            If its blocks are to be recomputed or compiled it names them by `block_names()`.
        config: the run.

    Attributes:
        module: call it for the forward pass.
        device: where it computes.
        dtype: type of its weights; inputs are expected in it.
        steps: optimiser steps taken, skipped ones included.
        skipped_steps: those whose gradient was not finite.
        last: result of the newest step.
    """

    def __init__(self, module: nn.Module, config: TrainingConfig) -> None:
        open_process_group()
        deepspeed = import_deepspeed()
        self.module = module
        self.steps = 0
        self.skipped_steps = 0
        self.last: StepResult | None = None
        self._config = config
        self._world = dist.get_world_size()
        if config.precision == "autocast":
            device = "cuda" if torch.cuda.is_available() else "cpu"
            module.forward = torch.autocast(device, torch.bfloat16)(module.forward)
        self._trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not self._trained:
            raise TrainingError("the network has no parameter to train; all are frozen")
        prepare_blocks(module, config)
        self._optimizer = open_optimizer(module, config)
        if config.zero_stage == 0:
            self._optimizer.register_step_pre_hook(self._guard)
        size = sum(parameter.numel() for parameter in self._trained.values())
        exact = self._weights_before_rounding()
        self._deepspeed, optimizer, *_ = deepspeed.initialize(
            model=module,
            optimizer=self._optimizer,
            config=zero_config(config, num_parameters=size),
            dist_init_required=False,
        )
        self.device = torch.device(self._deepspeed.device)
        self.dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        self._masters: Masters = open_masters(config.zero_stage, optimizer)
        for name, value in exact.items():
            self._masters.put(self._trained[name], value.to(self.device))
        if isinstance(self._optimizer, Muon):
            self._optimizer.bind(self._masters)
        self._averages = {
            name: MovingAverage(self._masters.slices(), decay=decay)
            for name, decay in decays_of(config).items()
        }
        self._clipping = Clipping(config.clip_norm, config.clip_deviations)
        self._norm: float | None = None
        self._blocks = (*getattr(module, "block_names", tuple)(), OTHER)
        self._squares: Tensor | None = None
        self._optimizer.register_step_pre_hook(self._measure)

    def backward(self, loss: Tensor, *, share: float) -> None:
        """Add the gradient of one micro-batch.

        Every rank calls this equally often between two steps; a rank with nothing left passes a
        loss of padding with `share=0`.

        Args:
            loss: mean over the samples of the micro-batch, on the graph of `module`.
            share: part of the global batch that the micro-batch makes up; over all ranks and
                micro-batches of a step the shares add up to 1.
        """
        self._masters.before_backward()
        # DeepSpeed divides by the number of ranks. A loss that is not finite makes the gradient so
        # too, whatever the graph does: the step is then skipped on all ranks.
        scale = share * self._world + 0 * loss.detach()
        self._deepspeed.backward(loss * scale, scale_wrt_gas=False)

    def step(self, *, by_block: bool = False) -> StepResult:
        """Clip, update the weights and their averages, and forget the gradient.

        Args:
            by_block: whether the gradient's norm is also measured in each block.
        """
        self._squares = torch.zeros(len(self._blocks), device=self.device) if by_block else None
        rate = learning_rate(self._config, self.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        if self._config.zero_stage:  # stage 0 is clipped by `_guard`; for DeepSpeed 0 is no limit
            limit = self._clipping.limit
            self._deepspeed.optimizer.clip_grad = limit if math.isfinite(limit) else 0.0
        self._deepspeed.step()
        norm = (
            self._norm if self._config.zero_stage == 0 else self._deepspeed.get_global_grad_norm()
        )
        norm = math.inf if norm is None else float(norm)
        applied = math.isfinite(norm)
        self.skipped_steps += not applied
        if applied:
            self._clipping.note(norm)
            for average in self._averages.values():
                average.update(self.steps)
        self.steps += 1
        self.last = StepResult(
            applied=applied,
            grad_norm=norm if applied else math.inf,
            learning_rate=rate,
            block_norms=self._block_norms(norm) if by_block else {},
        )
        return self.last

    def full_parameters(self) -> dict[str, Tensor]:
        """Return the module's state dict, fp32, on the CPU, whole on every rank. Collective."""
        return self._state_dict("weights")

    def ema_parameters(self, which: Kind = "ema") -> dict[str, Tensor]:
        """Return the same with averaged weights; without an average, the weights. Collective.

        Args:
            which: an average by name, out of `kinds`.

        Raises:
            TrainingError: there are averages, but none of this name.
        """
        if which != "ema" and which not in self._averages:
            raise TrainingError(
                f"there is no average {which!r}; this run keeps {', '.join(self._averages)}"
            )
        return self._state_dict(which)

    @contextmanager
    def computing_with(self, kind: Kind) -> Iterator[None]:
        """Let the module compute with an average of its weights inside the block. Collective.

        Its own weights are back afterwards, also where the block raised, which it does on all ranks
        or ends the run.
        """
        try:
            with self._averaged(kind):
                self._take_over_masters()
                yield
        finally:
            self._take_over_masters()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What a checkpoint of this engine consists of."""
        return ("weights", "exp_avg", "exp_avg_sq", *self._averages)

    def gather(self, kind: Kind, *, keep: bool = True) -> dict[str, Tensor]:
        """Collect one kind of state, fp32, on the CPU, by parameter name. Collective.

        Args:
            kind: what to collect; `weights` brings persistent buffers along.
            keep: False takes part without holding the result.
        """
        moment = kind if kind in MOMENTS else None
        gathered = {}
        with self._averaged(kind):
            for name, parameter in self._having(kind).items():
                self._check_trained(name, parameter)
                whole = self._masters.get(parameter, moment)
                if keep:
                    gathered[name] = whole.detach().to("cpu", copy=True)
        if keep and kind == "weights":
            gathered |= {n: b.detach().to("cpu", copy=True) for n, b in self._buffers()}
        return gathered

    def describe(self, kind: Kind) -> dict[str, list[Any]]:
        """Return type and whole shape of what `gather` returns, such as `["float32", 3, 4]`."""
        described = {name: ["float32", *_shape(p)] for name, p in self._having(kind).items()}
        if kind == "weights":
            for name, buffer in self._buffers():
                described[name] = [str(buffer.dtype).removeprefix("torch."), *buffer.shape]
        return described

    def fragments(self, kind: Kind) -> Iterator[tuple[str, int, Tensor]]:
        """Yield this rank's part of what `gather` returns; it needs no other rank.

        Over all ranks the parts make up the whole, each element once.

        Yields:
            Name, place of the first element, and elements: flat, and live until the next.
        """
        moment = kind if kind in MOMENTS else None
        rank = dist.get_rank()
        with self._averaged(kind):
            for name, parameter in self._having(kind).items():
                self._check_trained(name, parameter)
                if self._config.zero_stage == 0:  # every rank holds all of it
                    whole = self._masters.get(parameter, moment).reshape(-1)
                    start, end = (whole.numel() * r // self._world for r in (rank, rank + 1))
                    yield name, start, whole[start:end]
                else:
                    part, start = self._masters.fragment(parameter, moment)
                    yield name, start, part.detach().reshape(-1)
        if kind == "weights" and rank == 0:
            yield from ((name, 0, buffer.reshape(-1)) for name, buffer in self._buffers())

    def restore(self, kind: Kind, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `gather` returned, at any stage and number of ranks. Collective.

        Args:
            kind: which state.
            tensors: fit `describe`; each is asked for once.
        """
        with self._averaged(kind):
            for name, parameter in self._having(kind).items():
                self._check_trained(name, parameter)
                value = tensors[name].to(self.device, torch.float32)
                self._masters.put(parameter, value, kind if kind in MOMENTS else None)
                if kind == "weights":
                    with self._masters.gathered([parameter]), torch.no_grad():
                        parameter.copy_(value)
        if kind == "weights":
            for name, buffer in self._buffers():
                buffer.copy_(tensors[name])
            for average in self._averages.values():
                average.reset()

    def counters(self) -> dict[str, float]:
        """Return what a checkpoint records beside the tensors."""
        steps = {"steps": self.steps, "skipped_steps": self.skipped_steps}
        return steps | self._clipping.counters()

    def restore_counters(self, counters: Mapping[str, float]) -> None:
        """Take over what `counters` returned; the optimiser counts the steps that were applied."""
        self.steps = int(counters["steps"])
        self.skipped_steps = int(counters["skipped_steps"])
        self._clipping.restore(counters)
        for state in self._optimizer.state.values():
            state["step"].fill_(self.steps - self.skipped_steps)

    def _state_dict(self, kind: Kind) -> dict[str, Tensor]:
        fp32 = self.gather(kind)
        names = {id(parameter): name for name, parameter in self._trained.items()}
        state = {}
        for name, value in self.module.state_dict(keep_vars=True).items():
            if id(value) in names:
                state[name] = fp32[names[id(value)]]
            else:
                with self._masters.gathered([value] if isinstance(value, nn.Parameter) else []):
                    state[name] = value.detach().to("cpu", copy=True)
        return state

    @torch.no_grad()
    def _take_over_masters(self) -> None:
        """Copy the fp32 weights into those that compute."""
        for parameter in self._trained.values():
            whole = self._masters.get(parameter)
            with self._masters.gathered([parameter]):
                parameter.copy_(whole)

    def _weights_before_rounding(self) -> dict[str, Tensor]:
        """Return the weights whose fp32 copies DeepSpeed would make from bf16 ones."""
        if self._config.precision != "bf16":
            return {}
        return {n: p.detach().to("cpu", torch.float32, copy=True) for n, p in self._trained.items()}

    def _having(self, kind: Kind) -> dict[str, nn.Parameter]:
        """Return the trained parameters that have this kind of state."""
        if kind not in MOMENTS or not isinstance(self._optimizer, Muon):
            return self._trained
        keeps = self._optimizer.keeps
        return {name: p for name, p in self._trained.items() if keeps(p, kind)}

    def _averaged(self, kind: Kind) -> Any:
        average = self._averages.get(kind)
        return nullcontext() if average is None else average.in_place()

    def _buffers(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in self.module.state_dict(keep_vars=True).items():
            if not isinstance(value, nn.Parameter):
                yield name, value

    def _check_trained(self, name: str, parameter: nn.Parameter) -> None:
        if not parameter.requires_grad:
            raise TrainingError(
                f"parameter {name!r} is trained but frozen just now; "
                "set requires_grad back before the step ends"
            )

    def _measure(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Add up the squares of this rank's part of the gradient, block by block.

        Nothing here waits for the device.
        """
        if self._squares is None:
            return
        stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
        parts: list[Tensor] = []
        places: list[int] = []
        for name, parameter in self._trained.items():
            part = self._masters.gradient(parameter, stepped)
            if part.numel():
                parts.append(part)
                places.append(self._blocks.index(block_of(name, self._blocks)))
        if parts:
            norms = torch.stack(torch._foreach_norm(parts, dtype=torch.float32)).to(self.device)
            place = torch.tensor(places, device=self.device)
            self._squares.index_add_(0, place, norms.square())

    def _block_norms(self, norm: float) -> dict[str, float]:
        """Return the norms of all ranks' parts together; clipping has scaled all alike."""
        assert self._squares is not None, "asked for"  # noqa: S101
        dist.all_reduce(self._squares)
        squares = self._squares.tolist()
        whole = math.sqrt(sum(squares))
        scale = norm / whole if whole > 0 and math.isfinite(norm) else 0.0
        return {
            block: math.sqrt(square) * scale
            for block, square in zip(self._blocks, squares, strict=True)
        }

    def _guard(self, adam: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Clip at stage 0, and make the step empty when the gradient is not finite."""
        parameters = list(self._trained.values())
        limit = self._clipping.limit
        grads = [p.grad for p in parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(grads)
        self._norm = float(norm)
        if not math.isfinite(self._norm):
            for parameter in parameters:
                parameter.grad = None
        elif self._norm > limit:
            nn.utils.clip_grads_with_norm_(parameters, limit, norm)


def _shape(value: Tensor) -> tuple[int, ...]:
    """Return the whole shape; stage 3 leaves an empty tensor in place of a parameter."""
    return tuple(getattr(value, "ds_shape", value.shape))
