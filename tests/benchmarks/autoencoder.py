"""Time and memory of the autoencoder beside diffusers', same weights and inputs, one table.

    python -m tests.benchmarks.autoencoder --quick          # minutes, on a machine with other work
    python -m tests.benchmarks.autoencoder --sizes small full --threads 2

Each figure comes from a process of its own: weights are opened, a small frame warms the kernels
up, then the clip is run. Extra memory is the peak of the resident set over what was resident before
the runs; time is the best run, by the clock and by the processor (which other work disturbs less).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

WIDTHS = {"small": 32, "full": 96}
PUBLISHED = {
    "2.1": {"z_dim": 16},
    "2.2": {
        "z_dim": 48,
        "is_residual": True,
        "patch_size": 2,
        "in_channels": 12,
        "out_channels": 12,
        "latents_mean": [0.0] * 48,
        "latents_std": [1.0] * 48,
        "scale_factor_spatial": 16,
    },
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One measurement: whose code, on what."""

    folder: str
    out: str
    ours: bool
    decode: bool
    dtype: str
    frames: int
    side: int
    runs: int


def measure(case: Case) -> dict[str, float]:
    """Run one case in this process; writes what was computed to `case.out`."""
    run = _ours(case) if case.ours else _theirs(case)
    with torch.no_grad():
        run(_input(case, frames=1, side=32))
        given = _input(case, frames=case.frames, side=case.side)
        before, seconds = _reset_peak(), []
        for _ in range(case.runs):
            start = time.perf_counter(), time.process_time()
            result = run(given)
            seconds.append((time.perf_counter() - start[0], time.process_time() - start[1]))
        peak = _status("VmHWM")
        torch.save(result.clone(), case.out)
    wall, processor = (min(values) for values in zip(*seconds, strict=True))
    return {"wall_s": wall, "cpu_s": processor, "extra_mb": (peak - before) / 1024}


def _ours(case):
    from video_models.formats import open_autoencoder

    model = open_autoencoder(Path(case.folder)).to(DTYPES[case.dtype]).eval()
    return model.decode if case.decode else lambda video: model.encode(video).mean


def _theirs(case):
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    model = diffusers.AutoencoderKLWan.from_pretrained(case.folder).to(DTYPES[case.dtype]).eval()
    if case.decode:
        return lambda latents: model.decode(latents).sample
    return lambda video: model.encode(video).latent_dist.mean


def _input(case, *, frames, side):
    config = json.loads((Path(case.folder) / "config.json").read_text())
    generator = torch.Generator().manual_seed(frames)
    if case.decode:
        side //= config["scale_factor_spatial"]
        shape = (1, config["z_dim"], 1 + (frames - 1) // 4, side, side)
    else:
        shape = (1, 3, frames, side, side)
    return torch.randn(shape, generator=generator).clamp(-1, 1).to(DTYPES[case.dtype])


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(field: str) -> int:
    """Return a figure of this process in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise LookupError(field)


def save_peer(folder: Path, width: int, variant: str) -> None:
    """Write a diffusers folder with random weights."""
    import diffusers

    torch.manual_seed(0)
    model = diffusers.AutoencoderKLWan(base_dim=width, **PUBLISHED[variant])
    model.save_pretrained(folder)


def compare(case: Case) -> dict[str, float]:
    """Measure both sides of a case, each in a fresh process; return one row."""
    sides = {}
    for ours in (False, True):
        given = {**asdict(case), "ours": ours, "out": f"{case.out}-{ours}.pt"}
        command = [sys.executable, "-m", "tests.benchmarks.autoencoder", "--case"]
        done = subprocess.run(
            [*command, json.dumps(given)], check=True, stdout=subprocess.PIPE, text=True
        )
        sides[ours] = json.loads(done.stdout.splitlines()[-1])
    theirs, mine = (torch.load(f"{case.out}-{ours}.pt").float() for ours in (False, True))
    mine = mine.clamp(-1, 1) if case.decode else mine
    row = {"error": ((mine - theirs).norm() / theirs.norm()).item()}
    for name in ("wall_s", "cpu_s", "extra_mb"):
        row |= {f"their_{name}": sides[False][name], f"our_{name}": sides[True][name]}
    return row


def main() -> None:
    """Print one table over all that the command line names."""
    options = _options()
    if options.case:
        print(json.dumps(measure(Case(**json.loads(options.case)))))
        return
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads; diffusers, ours, ratio")
    print(f"{'':34}{'wall s':>22}{'cpu s':>22}{'extra MB':>21}{'error':>9}")
    with tempfile.TemporaryDirectory() as scratch:
        for size in options.sizes:
            for variant in options.variants:
                folder = Path(scratch) / f"{size}-{variant}"
                save_peer(folder, WIDTHS[size], variant)
                _table(options, f"{size} {variant}", folder)


def _table(options: argparse.Namespace, name: str, folder: Path) -> None:
    for dtype in options.dtypes:
        for frames in options.frames:
            for decode in (False, True):
                case = Case(
                    folder=str(folder),
                    out=str(folder / "out"),
                    ours=True,
                    decode=decode,
                    dtype=dtype,
                    frames=frames,
                    side=options.side,
                    runs=options.runs,
                )
                what = f"{name} {dtype} {frames}x{options.side}x{options.side}"
                what += " dec" if decode else " enc"
                print(f"{what:34}{_row(compare(case))}", flush=True)


def _row(row: dict[str, float]) -> str:
    text = ""
    for name in ("wall_s", "cpu_s"):
        theirs, ours = row[f"their_{name}"], row[f"our_{name}"]
        text += f"{theirs:8.2f}{ours:8.2f}{theirs / ours:6.2f}"
    theirs, ours = row["their_extra_mb"], row["our_extra_mb"]
    return f"{text}{theirs:7.0f}{ours:7.0f}{ours / theirs:7.2f}{row['error']:9.0e}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short clip of small frames")
    parser.add_argument("--sizes", nargs="+", choices=WIDTHS, default=["small"])
    parser.add_argument("--variants", nargs="+", choices=PUBLISHED, default=["2.1"])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    parser.add_argument("--frames", nargs="+", type=int, default=[17, 33])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.frames, options.side = [9], 128
    return options


if __name__ == "__main__":
    main()
