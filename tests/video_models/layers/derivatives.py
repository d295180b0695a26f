"""All derivatives that a layer must pass, in every mode and to second order."""

import torch
from torch import Tensor
from torch.func import grad, jvp


def derivatives(function, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Return the derivatives of a function's summed squared sines at some inputs, flat, by mode."""

    def loss(*given):
        return function(*given).sin().square().sum()

    def loss_of_gradient(*given):
        return sum(g.sin().sum() for g in gradient(*given))

    every = tuple(range(len(inputs)))
    gradient = grad(loss, every)
    ahead = tuple(x.cos() for x in inputs)
    taken = {
        "reverse": gradient(*inputs),
        "forward": (jvp(loss, inputs, ahead)[1],),
        "reverse over reverse": grad(loss_of_gradient, every)(*inputs),
        "forward over reverse": jvp(gradient, inputs, ahead)[1],
        "reverse over forward": grad(lambda *x: jvp(loss, x, ahead)[1], every)(*inputs),
    }
    with torch.no_grad():
        taken["forward without a graph"] = (jvp(loss, inputs, ahead)[1],)
    for i in every:
        rest = [x for j, x in enumerate(inputs) if j != i]
        one = lambda x, i=i, rest=rest: loss(*rest[:i], x, *rest[i:])  # noqa: E731
        taken[f"forward along input {i}"] = (jvp(one, (inputs[i],), (ahead[i],))[1],)
    return {mode: torch.cat([x.flatten() for x in parts]) for mode, parts in taken.items()}
