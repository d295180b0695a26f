"""A whole training step beside diffusers' transformer, same weights and inputs, one table.

    python -m tests.benchmarks.train_step
    python -m tests.benchmarks.train_step --compile   # and both compiled, minutes more

Forward, mean squared error of the velocity, backward, AdamW (fused, on both sides), in fp32, in a
plain PyTorch loop. The last row is our step with all blocks recomputed in the backward pass. The
error is the largest difference between both losses over the steps, over the loss.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from tests.benchmarks.transformer_cases import (
    FULL_TIME,
    HEADER,
    SIZES,
    Inputs,
    build_peer,
    compiled,
    interleaved,
    open_ours,
    ratios,
)
from video_platform.training.blocks import recompute_blocks

Network = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Trainer:
    """One model, its optimiser and the losses so far."""

    def __init__(self, model: torch.nn.Module, network: Network, inputs: Inputs):
        self._network, self._inputs = network, inputs
        self._optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-5, fused=True)
        self.losses: list[float] = []

    def __call__(self) -> None:
        """Take one step."""
        clean = self._inputs.latents
        generator = torch.Generator().manual_seed(len(self.losses))
        noise = torch.randn(clean.shape, generator=generator)
        t = torch.rand(1, generator=generator)
        velocity = self._network(torch.lerp(clean, noise, t), t, self._inputs.text)
        loss = F.mse_loss(velocity, noise - clean)
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.losses.append(loss.item())


def train_peer(model: torch.nn.Module, inputs: Inputs) -> Trainer:
    """Return the steps of the peer."""
    return Trainer(
        model, lambda x, t, text: model(x, t * FULL_TIME, text, return_dict=False)[0], inputs
    )


def rows_of(size: str, options: argparse.Namespace) -> None:
    """Print the rows of one size."""
    for frames in options.frames:
        inputs = Inputs.draw(frames)
        name = f"{size} {inputs.tokens} tokens"
        print(f"{name + ' fp32':34}{compare(size, inputs, options)}", flush=True)
        if options.compile:
            row = compare(size, inputs, options, change=compiled)
            print(f"{name + ' both compiled':34}{row}", flush=True)
            torch.compiler.reset()
        row = compare(size, inputs, options, change_ours=recomputing)
        print(f"{name + ' ours recomputing':34}{row}", flush=True)


def recomputing(model: torch.nn.Module) -> torch.nn.Module:
    """Recompute the activations of all blocks."""
    recompute_blocks(model)
    return model


def compare(
    size: str,
    inputs: Inputs,
    options: argparse.Namespace,
    *,
    change: Callable[[torch.nn.Module], torch.nn.Module] = lambda model: model,
    change_ours: Callable[[torch.nn.Module], torch.nn.Module] = lambda model: model,
) -> str:
    """Train both for a few steps in turn; return times, ratios and the error."""
    peer = build_peer(size)
    with tempfile.TemporaryDirectory() as folder:
        model = change_ours(open_ours(peer, Path(folder)))
    sides = {
        "theirs": train_peer(change(peer), inputs),
        "ours": Trainer(change(model), model, inputs),
    }
    times = interleaved(sides, options.runs)
    pairs = zip(sides["theirs"].losses, sides["ours"].losses, strict=True)
    error = max(abs(a - b) / a for a, b in pairs)
    return f"{ratios(times['theirs'], times['ours'])}{error:9.0e}"


def main() -> None:
    """Print one table over all that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--frames", nargs="+", type=int, default=[5, 9])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads; diffusers, ours, ratio")
    print(f"{HEADER}{'error':>9}")
    for size in options.sizes:
        rows_of(size, options)


if __name__ == "__main__":
    main()
