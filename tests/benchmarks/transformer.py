"""Forward pass beside diffusers' transformer, same weights and inputs, one table.

    python -m tests.benchmarks.transformer                   # fp32 and bf16 checkpoints
    python -m tests.benchmarks.transformer --compile         # and both compiled, minutes more
    python -m tests.benchmarks.transformer --size 1.3b --tokens 8192   # on a GPU

The forward pass is that of a sampler: several steps with one prompt. What does not change between
steps is prepared once by ours (`prepare`), before the clock runs; the peer has no such call. A
checkpoint in bf16 is run in bf16 by the peer, and by ours in what multiplies matrices faster on the
processor at hand; its error is that against the peer's float32. Errors are the largest difference
over the largest number.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from tests.benchmarks.transformer_cases import (
    FULL_TIME,
    HEADER,
    SIZES,
    Inputs,
    build_peer,
    compiled,
    interleaved,
    open_ours,
    peer_in_bf16,
    ratios,
    relative_error,
)
from tests.benchmarks.transformer_gpu import measure_on_gpu

Step = Callable[[], torch.Tensor]


def step_of(model: torch.nn.Module, inputs: Inputs) -> Step:
    """Return one call of our model with everything prepared that a sampler prepares."""
    dtype = model.patch_embedding.weight.dtype
    prepared, latents = model.prepare(inputs.text.to(dtype)), inputs.latents.to(dtype)
    return lambda: model(latents, torch.tensor([0.5]), prepared)


def peer_step(model: torch.nn.Module, inputs: Inputs) -> Step:
    """Return one call of the peer."""
    dtype = model.patch_embedding.weight.dtype
    latents, text = inputs.latents.to(dtype), inputs.text.to(dtype)
    t = torch.tensor([0.5 * FULL_TIME])
    return lambda: model(latents, t, text, return_dict=False)[0]


def faster_dtype() -> torch.dtype:
    """Return what this processor multiplies matrices faster in, float32 or bfloat16."""
    sides = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(1024, 1024).to(dtype)
        sides[dtype] = lambda x=x: x @ x
    times = interleaved(sides, runs=5)
    return min(times, key=lambda dtype: times[dtype].cpu_s)


def compare(name: str, theirs: Step, ours: Step, exact: Step, runs: int) -> None:
    """Print one row; the error is that of our output against an exact one."""
    error = relative_error(ours(), exact())
    times = interleaved({"theirs": theirs, "ours": ours}, runs)
    print(f"{name:34}{ratios(times['theirs'], times['ours'])}{error:9.0e}", flush=True)


def rows_of(size: str, options: argparse.Namespace, folder: Path) -> None:
    """Print the rows of one size."""
    peer = build_peer(size).eval()
    half = peer_in_bf16(size) if "bf16" in options.dtypes else None
    for frames in options.frames:
        inputs = Inputs.draw(frames)
        name = f"{size} {inputs.tokens} tokens"
        exact = peer_step(peer, inputs)
        if "fp32" in options.dtypes:
            ours = step_of(open_ours(peer, folder), inputs)
            compare(f"{name} fp32", exact, ours, exact, options.runs)
        if half is not None:
            ours = step_of(open_ours(half, folder).to(options.half), inputs)
            compare(f"{name} bf16", peer_step(half, inputs), ours, exact, options.runs)
        if options.compile:
            ours = step_of(compiled(open_ours(peer, folder)), inputs)
            theirs = peer_step(compiled(build_peer(size).eval()), inputs)
            compare(f"{name} fp32, both compiled", theirs, ours, exact, options.runs)
            torch.compiler.reset()


@torch.no_grad()
def main() -> None:
    """Print one table over all that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--frames", nargs="+", type=int, default=[5, 9])
    parser.add_argument("--dtypes", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", choices=["1.3b"], help="measure on a GPU instead")
    parser.add_argument("--tokens", nargs="+", type=int, default=[8192, 32768])
    options = parser.parse_args()
    if options.size:
        measure_on_gpu(options.size, options.tokens, options.runs)
        return
    torch.set_num_threads(options.threads)
    options.half = faster_dtype()
    print(f"torch {torch.__version__}, {options.threads} threads; diffusers, ours, ratio")
    print(f"bf16 checkpoints: diffusers in bfloat16, ours in {str(options.half)[6:]}")
    print(f"{HEADER}{'error':>9}")
    with tempfile.TemporaryDirectory() as scratch:
        for size in options.sizes:
            rows_of(size, options, Path(scratch))


if __name__ == "__main__":
    main()
