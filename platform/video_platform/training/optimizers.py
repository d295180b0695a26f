"""AdamW, RAdam, and Muon: orthogonalised momentum for the blocks' matrices, AdamW for the rest.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by
the nearest orthogonal one, so that every direction is learned at the same rate. The update is
scaled by 0.2 sqrt(longer side), which gives it the size of AdamW's (Liu et al. 2025, arXiv
2502.16982, equation 4): one learning rate and weight decay serve both.

It needs whole matrices, and ZeRO cuts them up. A matrix that one rank holds whole is turned by that
rank alone; one that lies across ranks is gathered first, a few at a time. So ZeRO 1 and 2 share the
work out and send little, and stage 0 repeats it on every rank.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from video_platform.errors import TrainingError
from video_platform.training.config import TrainingConfig
from video_platform.training.masters import MOMENTS, Masters

MOMENTUM = MOMENTS[0]
"""Muon keeps its momentum where AdamW keeps its own."""

UPDATE = "update"
"""What is about to be made orthogonal; worth nothing after the step."""

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic whose iteration draws singular values into about [0.7, 1.2]."""

ELEMENTS_AT_ONCE = 1 << 22
"""Most elements that are gathered and turned together, unless one matrix has more."""


def orthogonalise(matrices: Tensor, *, steps: int = 5) -> Tensor:
    """Return the orthogonal matrices nearest to these, roughly: singular values of 0.7 to 1.2.

    Newton-Schulz iteration, in bfloat16 on a GPU and in float32 on a CPU.

    Args:
        matrices: (..., rows, columns).
        steps: iterations; five reach singular values that are 1/1000 of the largest.
    """
    rows, columns = matrices.shape[-2:]
    x = matrices.mT if rows > columns else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    if x.is_cuda:
        x = x.bfloat16()
    a, b, c = NEWTON_SCHULZ
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    turned: Tensor = (x.mT if rows > columns else x).to(matrices)
    return turned


def open_optimizer(module: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimiser of a run; vectors and scalars never decay.

    Raises:
        TrainingError: Muon is asked for a network that names no blocks.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    turned = block_matrices(module) if config.optimizer == "muon" else []
    known = {id(parameter) for parameter in turned}
    rest = [parameter for parameter in trained if id(parameter) not in known]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    knobs: dict[str, Any] = {
        "lr": config.learning_rate, "betas": config.betas, "eps": config.epsilon
    }  # fmt: skip
    if config.optimizer == "radam":
        return torch.optim.RAdam(groups, decoupled_weight_decay=True, **knobs)
    adam = torch.optim.AdamW(groups, fused=True, **knobs)
    if not turned:
        return adam
    return Muon(turned, adam, momentum=config.muon_momentum, weight_decay=config.weight_decay)


def block_matrices(module: nn.Module) -> list[nn.Parameter]:
    """Return what Muon turns of a network.

    Raises:
        TrainingError: it names no blocks.
    """
    names = getattr(module, "block_names", None)
    if names is None:
        raise TrainingError(
            f"optimizer muon needs block_names() on {type(module).__name__}; set it to adamw"
        )
    parameters = (p for name in names() for p in module.get_submodule(name).parameters())
    return [p for p in parameters if p.requires_grad and p.ndim > 1]


class Muon(torch.optim.Optimizer):
    """Muon for `matrices`, and `adam` for what it was made for, as one optimiser.

    A kernel of a convolution is a matrix with a row for each output channel. Call `bind` before the
    first step.
    """

    def __init__(
        self,
        matrices: list[nn.Parameter],
        adam: torch.optim.AdamW,
        *,
        momentum: float,
        weight_decay: float,
    ) -> None:
        turned = {
            "params": list(matrices),
            "lr": adam.defaults["lr"],
            "momentum": momentum,
            "weight_decay": weight_decay,
            "turned": True,
            "state": (MOMENTUM, UPDATE),
        }
        super().__init__([turned, *adam.param_groups], {"turned": False, "state": MOMENTS})
        self._matrices = list(matrices)
        self._shapes = {id(matrix): matrix.flatten(1).shape for matrix in matrices}
        self._adam = adam
        self._adam.state = self.state
        self._masters: Masters | None = None
        self._split: set[int] = set()

    def keeps(self, parameter: nn.Parameter, moment: str) -> bool:
        """Say whether a moment of a parameter outlives a step."""
        return moment == MOMENTUM or id(parameter) not in self._shapes

    def bind(self, masters: Masters) -> None:
        """Learn where the matrices lie. Collective."""
        self._masters = masters
        held = [masters.fragment(matrix)[0].numel() for matrix in self._matrices]
        whole = [self._shapes[id(matrix)].numel() for matrix in self._matrices]
        votes = torch.tensor(
            [0 < part < size for part, size in zip(held, whole, strict=True)]
        ).int()
        votes = votes.to(self._matrices[0].device)
        dist.all_reduce(votes)
        self._split = {
            id(matrix) for matrix, vote in zip(self._matrices, votes, strict=True) if vote
        }

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every group that has gradients; ZeRO shows one group at a time."""
        rest = [group for group in self.param_groups if not group["turned"]]
        if rest:
            self._adam.param_groups = rest
            self._adam.step()
        for group in self.param_groups:
            if group["turned"] and any(p.grad is not None for p in group["params"]):
                self._gather_momentum(group)
                self._turn(group)

    def _gather_momentum(self, group: dict[str, Any]) -> None:
        """Take in the gradient, and look one step ahead (Nesterov); element by element."""
        beta = group["momentum"]
        for parameter in group["params"]:
            state = self.state[parameter]
            state["step"] += 1
            if parameter.grad is None:
                state[UPDATE].zero_()
            else:
                state[MOMENTUM].lerp_(parameter.grad, 1 - beta)
                torch.lerp(parameter.grad, state[MOMENTUM], beta, out=state[UPDATE])

    def _turn(self, group: dict[str, Any]) -> None:
        rate, decay = group["lr"], group["weight_decay"]
        for shape, batch in self._batches():
            updates = [self._whole_update(matrix) for matrix in batch]
            mine = [i for i, update in enumerate(updates) if update is not None]
            if not mine:
                continue
            turned = orthogonalise(torch.stack([u for u in updates if u is not None]))
            for i, update in zip(mine, turned, strict=True):
                weights, start = self._located.fragment(batch[i])
                change = update.flatten()[start : start + weights.numel()].view_as(weights)
                weights.mul_(1 - rate * decay).add_(change, alpha=-rate * 0.2 * max(shape) ** 0.5)

    def _batches(self) -> Iterator[tuple[torch.Size, list[nn.Parameter]]]:
        """Yield matrices of one shape, a few at a time, in the same order on every rank."""
        for shape in dict.fromkeys(self._shapes.values()):
            alike = iter([m for m in self._matrices if self._shapes[id(m)] == shape])
            while batch := list(islice(alike, max(1, ELEMENTS_AT_ONCE // shape.numel()))):
                yield shape, batch

    def _whole_update(self, matrix: nn.Parameter) -> Tensor | None:
        """Return the update of a matrix that this rank holds a part of; all ranks call it alike."""
        update, _ = self._located.fragment(matrix, UPDATE)
        if id(matrix) in self._split:
            whole = self._located.get(matrix, UPDATE)
            update = whole if update.numel() else update
        return update.view(self._shapes[id(matrix)]) if update.numel() else None

    @property
    def _located(self) -> Masters:
        if self._masters is None:
            raise TrainingError("the optimiser does not know where its matrices are; call bind")
        return self._masters
