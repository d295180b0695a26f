"""What a run gets done and what it takes: tokens, clips, operations, memory.

Operations are those that the model needs, by formula; what activation checkpointing computes again
is not counted, so that the utilisation is that of the model (MFU: Chowdhery et al. 2022, PaLM,
arXiv 2204.02311, appendix B).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import psutil
import torch
import torch.distributed as dist
from torch import Tensor

from jobs.latent_order import Size
from jobs.latents import LatentBatch
from video_models.transformer.costs import Costs
from video_models.transformer.joint_config import AnyTransformerConfig
from video_models.transformer.joint_costs import any_costs

WORK = ("clips", "tokens", "tflop")
"""What is counted of a batch."""
PRODUCT_SIZE = {"cpu": 1024, "cuda": 8192}
"""Rows of the square matrices whose product measures a device."""


class Meter:
    """Counts what batches take, and turns counts into rates.

    Args:
        size: of the transformer.
        world: ranks that train.
        frozen: whether most weights are frozen: their gradients are then not computed.
        image_tokens: tokens of an image encoder, of one clip.
        time_per_token: whether each token has a time of its own.
        peak_tflops: what one device can do at most; None tells no utilisation.
    """

    def __init__(
        self,
        size: AnyTransformerConfig,
        *,
        world: int,
        frozen: bool = False,
        image_tokens: int = 0,
        time_per_token: bool = False,
        peak_tflops: float | None = None,
    ) -> None:
        self.world = world
        self._size, self._frozen, self._peak = size, frozen, peak_tflops
        self._image_tokens, self._time_per_token = image_tokens, time_per_token
        self._known: dict[tuple[int, ...], dict[str, Tensor]] = {}

    def work(self, batch: LatentBatch) -> dict[str, Tensor]:
        """Return clips, tokens and TFLOP of a batch."""
        B, _, T, H, W = batch.mean.shape
        key = (B, T, H, W, *batch.text.lengths)
        if key not in self._known:
            costs = self._costs((T, H, W), batch=B, text_tokens=batch.text.lengths)
            forward, backward = costs.forward.total, costs.backward.total
            flop = forward + (min(forward, backward) if self._frozen else backward)
            counts = zip(WORK, (B, costs.tokens, flop / 1e12), strict=True)
            self._known[key] = {f"batch/{name}": torch.tensor(float(n)) for name, n in counts}
        return self._known[key]

    def work_of(self, *, text_tokens: Sequence[int]) -> Callable[[Size], float]:
        """Return what the operations of one clip are by the size of its latents.

        Args:
            text_tokens: slots of a caption, of each text encoder.
        """

        def work(size: Size) -> float:
            return self._costs(size, batch=1, text_tokens=text_tokens).training.total

        return work

    def _costs(self, size: Size, *, batch: int, text_tokens: Sequence[int]) -> Costs:
        return any_costs(
            self._size,
            size,
            batch=batch,
            text_tokens=text_tokens,
            image_tokens=self._image_tokens,
            time_per_token=self._time_per_token,
        )

    def rates(self, scalars: Mapping[str, float]) -> dict[str, float]:
        """Return rates of what was done, over the time of the steps and of waiting for batches.

        Args:
            scalars: of all ranks together, by step: `batch/...`, and what the loop's clock says.
        """
        if "steps_per_s" not in scalars or "batch/tokens" not in scalars:
            return {}
        training = sum(scalars.get(f"time/{phase}", 0.0) for phase in ("step", "data"))
        steps_per_s = scalars["steps_per_s"] / (training or 1.0)
        clips, tokens, tflop = (scalars[f"batch/{name}"] * steps_per_s for name in WORK)
        rates = {
            "throughput/clips_per_step": scalars["batch/clips"],
            "throughput/tokens_per_step": scalars["batch/tokens"],
            "throughput/clips_per_s": clips,
            "throughput/tokens_per_s": tokens,
            "throughput/tflop_per_s": tflop,
        }
        if self._peak is not None:
            rates["throughput/utilisation"] = tflop / (self._peak * self.world)
        return rates


def memory(device: torch.device) -> dict[str, float]:
    """Return the most memory that a rank holds now and, on a GPU, has held, in GB. Collective."""
    names = ["memory/process_gb"]
    values = [psutil.Process().memory_info().rss / 1e9]
    if device.type == "cuda":
        names.append("memory/device_peak_gb")
        values.append(torch.cuda.max_memory_allocated(device) / 1e9)
    most = torch.tensor(values, device=device)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    return dict(zip(names, most.tolist(), strict=True))


def measured_tflops(device: torch.device, dtype: torch.dtype, *, repeats: int = 5) -> float:
    """Return what a device does in a product of two large matrices, the best of some."""
    n = PRODUCT_SIZE["cuda" if device.type == "cuda" else "cpu"]
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    best_s = math.inf
    for _ in range(repeats):
        _finish(device)
        start_s = time.perf_counter()
        a @ b
        _finish(device)
        best_s = min(best_s, time.perf_counter() - start_s)
    return 2 * n**3 / best_s / 1e12


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
