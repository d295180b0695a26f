"""Peak memory of a training step of the autoencoder, activations kept or recomputed, one table.

    python -m tests.benchmarks.training_memory                   # 17 x 480 x 832, minutes
    python -m tests.benchmarks.training_memory --frames 5 --height 96 --width 128 --run

A step is the forward pass, the loss and the backward pass in float32; the optimiser's state is not
counted. PyTorch's memory tracker counts what is alive while the step runs on tensors without
numbers, so sizes that this machine cannot hold are counted too. `--run` also runs the step, in a
process of its own, and gives the peak of the resident set over what was resident before: what
the kernels need for themselves comes on top there.
"""

import argparse
import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.model import Autoencoder
from video_platform.training.blocks import recompute_blocks

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training step."""

    dim: int
    frames: int
    height: int
    width: int
    recompute: bool


def wan(dim: int) -> AutoencoderConfig:
    """Return Wan 2.1's autoencoder with another width."""
    return AutoencoderConfig(
        base_dim=dim,
        latent_channels=16,
        dim_mult=(1, 2, 4, 4),
        num_res_blocks=2,
        space_down=(True,) * 3,
        time_down=(False, True, True),
    )


def counted(case: Case) -> int:
    """Return the bytes of tensors that are alive at the step's peak."""
    with FakeTensorMode():
        model = _model(case)
        tracker = MemTracker()
        tracker.track_external(model)
        with tracker:
            _step(model, case)
    return sum(kinds["Total"] for kinds in tracker.get_tracker_snapshot("peak").values())


def resident(case: Case) -> int:
    """Return the bytes by which the resident set grew at the step's peak, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_run, (case,))


def _run(case: Case) -> int:
    model = _model(case)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    _step(model, case)
    return (_status("VmHWM") - before) * 1024


def _model(case: Case) -> Autoencoder:
    model = Autoencoder(wan(case.dim)).train()
    if case.recompute:
        recompute_blocks(model)
    return model


def _step(model: Autoencoder, case: Case) -> None:
    size = case.frames, case.height, case.width
    video, noise = torch.randn(1, 3, *size), torch.randn(1, *model.config.latent_shape(*size))
    reconstruction, posterior = model(video, noise)
    loss = (reconstruction - video).square().mean() + 1e-6 * posterior.kl().mean()
    loss.backward()


def _status(field: str) -> int:
    """Return a figure of this process in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise LookupError(field)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("dim", 32), ("frames", 17), ("height", 480), ("width", 832)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--run", action="store_true", help="run the step too")
    options = vars(parser.parse_args())
    run = options.pop("run")
    print("{dim} channels, {frames} x {height} x {width}".format(**options))
    for recompute in (False, True):
        case = Case(**options, recompute=recompute)
        line = (
            f"{'recomputed' if recompute else 'kept':>11}  counted {counted(case) / GIB:6.2f} GiB"
        )
        print(line + (f"  resident {resident(case) / GIB:6.2f} GiB" if run else ""), flush=True)


if __name__ == "__main__":
    main()
