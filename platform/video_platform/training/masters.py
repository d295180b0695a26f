"""Where the fp32 weights and AdamW's moments of a trained network are, for each ZeRO stage.

One small interface over three layouts, so that checkpoints and averages know no stage:

    Replicated    stage 0     every rank holds every parameter
    Partitioned   stage 1, 2  every rank holds a slice of one flat fp32 buffer a parameter group
    Sharded       stage 3     every rank holds a slice of each parameter

`get` and `put` are collective: every rank calls them for the same parameters in the same order.
"""

from collections.abc import Iterator, Set
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state tensors, by the names that torch gives them."""


class Masters(Protocol):
    """The fp32 state of one trained network."""

    def slices(self) -> list[Tensor]:
        """Return this rank's live fp32 weights."""
        ...

    def get(self, parameter: nn.Parameter, moment: str | None = None) -> Tensor:
        """Gather the fp32 weights of a parameter, or one of its moments, whole on every rank."""
        ...

    def put(self, parameter: nn.Parameter, value: Tensor, moment: str | None = None) -> None:
        """Store a whole tensor as the fp32 weights of a parameter, or as one of its moments."""
        ...

    def fragment(self, parameter: nn.Parameter, moment: str | None = None) -> tuple[Tensor, int]:
        """Return what this rank holds of `get`, live, flat, maybe empty, and where it begins."""
        ...

    def gradient(self, parameter: nn.Parameter, stepped: Set[int]) -> Tensor:
        """Return this rank's part of the gradient that the optimiser is about to use, flat.

        Over all ranks and calls of the optimiser the parts make up the whole; some are empty.

        Args:
            parameter: a trained one.
            stepped: identities of the tensors that this call of the optimiser changes.
        """
        ...

    def gathered(self, parameters: list[nn.Parameter]) -> AbstractContextManager[Any]:
        """Make the parameters whole inside the block; what rank 0 writes there reaches all."""
        ...

    def before_backward(self) -> None:
        """Announce a backward pass whose gradient adds to what is there since the last step."""
        ...


class Replicated:
    """Stage 0: torch's own optimiser on whole parameters."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def slices(self) -> list[Tensor]:
        """Return the parameters themselves."""
        return list(_parameters(self._optimizer))

    def get(self, parameter: nn.Parameter, moment: str | None = None) -> Tensor:
        """Return a reference; nothing needs gathering."""
        return parameter.detach() if moment is None else self._state(parameter, moment)

    @torch.no_grad()
    def put(self, parameter: nn.Parameter, value: Tensor, moment: str | None = None) -> None:
        """Copy in place."""
        self.get(parameter, moment).copy_(value.view_as(parameter))

    def fragment(self, parameter: nn.Parameter, moment: str | None = None) -> tuple[Tensor, int]:
        """Return all of it."""
        return self.get(parameter, moment).view(-1), 0

    def gradient(self, parameter: nn.Parameter, stepped: Set[int]) -> Tensor:
        """Return all of it on rank 0, which every rank has, and nothing elsewhere."""
        mine = parameter.grad is not None and torch.distributed.get_rank() == 0
        return (
            parameter.grad.view(-1) if mine and parameter.grad is not None else _nothing(parameter)
        )

    def gathered(self, parameters: list[nn.Parameter]) -> AbstractContextManager[Any]:
        """Do nothing: they are whole."""
        return nullcontext()

    def before_backward(self) -> None:
        """Do nothing: gradients add up by themselves."""

    def _state(self, parameter: nn.Parameter, moment: str) -> Tensor:
        state: Tensor = self._optimizer.state[parameter][moment]
        return state


class Partitioned:
    """Stages 1 and 2: DeepSpeed's flat fp32 partitions."""

    def __init__(self, zero: Any) -> None:
        self._zero = zero
        zero._lazy_init_hp_params_optimizer_state()

    def slices(self) -> list[Tensor]:
        """Return the flat partitions, one a parameter group."""
        return list(self._zero.single_partition_of_fp32_groups)

    def get(self, parameter: nn.Parameter, moment: str | None = None) -> Tensor:
        """Add the fragments of all ranks."""
        whole: Tensor = cast(Any, parameter).get_full_hp_param(moment)
        return whole

    def put(self, parameter: nn.Parameter, value: Tensor, moment: str | None = None) -> None:
        """Keep the fragment that this rank owns."""
        cast(Any, parameter).set_full_hp_param(value, moment)

    def fragment(self, parameter: nn.Parameter, moment: str | None = None) -> tuple[Tensor, int]:
        """Return the part inside this rank's partition."""
        mapping = cast(Any, parameter)._hp_mapping
        if mapping is None:
            return parameter.new_empty(0, dtype=torch.float32), 0
        return mapping.get_hp_fragment(moment), mapping.lp_fragment_address.start

    def gradient(self, parameter: nn.Parameter, stepped: Set[int]) -> Tensor:
        """Return the part inside this rank's partition."""
        mapping = cast(Any, parameter)._hp_mapping
        if mapping is None:
            return _nothing(parameter)
        flat, where = self.slices()[mapping.param_group_index], mapping.hp_fragment_address
        return _part(flat, where.start, where.numel, parameter, stepped)

    def gathered(self, parameters: list[nn.Parameter]) -> AbstractContextManager[Any]:
        """Do nothing: the weights that compute are whole."""
        return nullcontext()

    def before_backward(self) -> None:
        """Do nothing: gradients add up by themselves."""


class Sharded:
    """Stage 3: DeepSpeed's shard of each parameter, padded at the end."""

    def __init__(self, zero: Any) -> None:
        self._zero = zero

    def slices(self) -> list[Tensor]:
        """Return the flat shards, one a sub-group."""
        return list(self._zero.fp32_partitioned_groups_flat)

    def get(self, parameter: nn.Parameter, moment: str | None = None) -> Tensor:
        """Gather the shards of all ranks."""
        whole: Tensor = self._zero.get_full_hp_param(parameter, moment)
        return whole

    def put(self, parameter: nn.Parameter, value: Tensor, moment: str | None = None) -> None:
        """Keep this rank's shard; DeepSpeed's own setter fails where shards are padded."""
        size = self._zero.get_local_fp32_param(parameter).numel()
        rank = torch.distributed.get_rank()
        shard = value.new_zeros(size)
        mine = value.flatten()[rank * size : (rank + 1) * size]
        shard[: mine.numel()] = mine
        self._zero.set_local_hp_param(shard, parameter, moment)

    def fragment(self, parameter: nn.Parameter, moment: str | None = None) -> tuple[Tensor, int]:
        """Return this rank's shard without its padding."""
        shard, _ = self._zero._get_fp32_opt_state_partition(
            parameter, release_swap_buffers=True, optim_state_key=moment
        )
        start = torch.distributed.get_rank() * shard.numel()
        left = max(cast(Any, parameter).ds_numel - start, 0)
        return shard[:left], start

    def gradient(self, parameter: nn.Parameter, stepped: Set[int]) -> Tensor:
        """Return this rank's shard; its padding is 0."""
        group, start, numel = self._zero.grad_position[self._zero.get_param_id(parameter)]
        return _part(self.slices()[group], start, numel, parameter, stepped)

    def gathered(self, parameters: list[nn.Parameter]) -> AbstractContextManager[Any]:
        """Fetch the shards of the weights that compute."""
        from deepspeed.runtime.zero import GatheredParameters

        context: AbstractContextManager[Any] = GatheredParameters(parameters, modifier_rank=0)
        return context

    def before_backward(self) -> None:
        """Count the micro-batch, as DeepSpeed's own forward would; else the last gradient stays."""
        self._zero.clear_backward_seen_flag()


def open_masters(zero_stage: int, optimizer: Any) -> Masters:
    """Return the layout of a stage, with the optimiser's state in place.

    Args:
        zero_stage: DeepSpeed ZeRO stage.
        optimizer: what `deepspeed.initialize` returned as the optimiser.
    """
    if zero_stage == 0:
        for group in optimizer.param_groups:
            _fill_state(optimizer, group, group["params"])
        return Replicated(optimizer)
    ours = optimizer.optimizer
    if zero_stage == 3:
        flat = optimizer.fp32_partitioned_groups_flat
        of_group = [optimizer.sub_group_to_group_id[i] for i in range(len(flat))]
    else:
        flat = optimizer.single_partition_of_fp32_groups
        of_group = list(range(len(flat)))
    for tensor, index in zip(flat, of_group, strict=True):
        _fill_state(ours, ours.param_groups[index], [tensor])
    return Sharded(optimizer) if zero_stage == 3 else Partitioned(optimizer)


def _fill_state(optimizer: Any, group: dict[str, Any], parameters: list[Tensor]) -> None:
    """Create an optimiser's state as its first step would, so that it can be restored before."""
    for parameter in parameters:
        state = optimizer.state[parameter]
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        for name in group.get("state", MOMENTS):
            state[name] = torch.zeros_like(parameter.detach())


def _part(
    flat: Tensor, start: int, numel: int, parameter: nn.Parameter, stepped: Set[int]
) -> Tensor:
    if flat.grad is None or id(flat) not in stepped:
        return _nothing(parameter)
    return flat.grad.view(-1)[start : start + numel]


def _nothing(parameter: nn.Parameter) -> Tensor:
    return torch.empty(0, dtype=torch.float32, device=parameter.device)


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
    for group in optimizer.param_groups:
        yield from group["params"]
