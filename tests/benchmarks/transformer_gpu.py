"""Model FLOPs utilisation of a forward pass on one GPU, in bf16.

    python -m tests.benchmarks.transformer --size 1.3b --tokens 8192 32768

The floating-point operations that the model needs (`transformer_costs`), over its time, against
the matrix products that the same GPU is measured to reach. Attention runs on each of PyTorch's
kernels that the GPU has; the best is compiled as well. `--threads` and the rest do not apply.
"""

import math
import statistics
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from video_models.presets import TRANSFORMERS
from video_models.transformer.costs import transformer_costs
from video_models.transformer.model import VideoTransformer

PRESETS = {"1.3b": "wan-2.1-1.3b"}
KERNELS = (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION)
ROWS, COLUMNS, TEXT_TOKENS = 32, 64, 512  # latents: 512 tokens a frame


def gpu_seconds(run: Callable[[], object], runs: int) -> float:
    """Return the median time of a run on the GPU, after three to warm up."""
    taken = []
    for _ in range(runs + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end) / 1e3)
    return statistics.median(taken[3:])


def matmul_peak(runs: int, side: int = 8192) -> float:
    """Return the FLOP/s of a large bf16 matrix product."""
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / gpu_seconds(lambda: a @ b, runs)


def measure_on_gpu(size: str, tokens: list[int], runs: int) -> None:
    """Print one table: time, TFLOP/s and utilisation by kernel."""
    if not torch.cuda.is_available():
        raise SystemExit(f"--size {size} needs a GPU, and PyTorch sees none; leave it out on a CPU")
    config = TRANSFORMERS[PRESETS[size]]
    with torch.device("cuda"):
        model = VideoTransformer(config).to(torch.bfloat16).eval()
    peak = matmul_peak(runs)
    print(f"{torch.cuda.get_device_name()}: {peak / 1e12:.0f} TFLOP/s in bf16 matrix products")
    print(f"{'':44}{'ms':>9}{'TFLOP/s':>9}{'of peak':>9}")
    for count in tokens:
        shape = (math.ceil(4 * count / (ROWS * COLUMNS)), ROWS, COLUMNS)
        costs = transformer_costs(config, shape, batch=1, text_tokens=TEXT_TOKENS)
        latents = torch.randn(1, config.latent_channels, *shape, device="cuda").bfloat16()
        text = torch.randn(1, TEXT_TOKENS, config.text_dim, device="cuda").bfloat16()
        t = torch.full((1,), 0.5, device="cuda")

        def run(latents=latents, text=text, t=t):
            return model(latents, t, text)

        def row(name: str, run=run, costs=costs) -> float:
            seconds = gpu_seconds(run, runs)
            rate = costs.forward.total / seconds
            label = f"{size} {costs.tokens} tokens, {name}"
            print(f"{label:44}{seconds * 1e3:9.1f}{rate / 1e12:9.0f}{rate / peak:9.0%}", flush=True)
            return seconds

        times = {}
        for kernel in KERNELS:
            with sdpa_kernel(kernel):
                times[kernel] = row(kernel.name.lower())
        with sdpa_kernel(min(times, key=times.__getitem__)):
            for block in model.blocks:
                block.compile(dynamic=False)
            row("the fastest, compiled")
        for block in model.blocks:
            block._compiled_call_impl = None
        torch.compiler.reset()
