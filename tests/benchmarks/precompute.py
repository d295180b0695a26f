"""The whole `precompute` job against its own limit, and beside a plain script, in one table.

    python -m tests.benchmarks.precompute                    # 320 clips, minutes on two cores
    python -m tests.benchmarks.precompute --clips 60 --skip-plain

Both sides make latents of the same H.264 files with the same random weights of Wan 2.1's design.
The plain side is one process: PyAV, diffusers' `AutoencoderKLWan`, one safetensors file a clip.

The limit of the job is the time that its stages worked, divided by the processors that they share:
seconds of processor time of decoders and encoders, from when an encoder is ready, over the number
of cores. The wall time is that of all of `precompute`: from the store's probe, through actors that
start, captions, latents and commits, to the snapshot. Other work on the machine makes it longer, so
the share of the machine that others took is in the table, and the limit on what they left.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

FPS = 8.0
CORES = len(os.sched_getaffinity(0))
CHILD = "video_platform.video.child"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One measurement."""

    folder: str
    clips: int
    frames: int
    side: int
    encoders: int
    decoders: int
    batch_size: int


def measure_job(case: Case) -> dict[str, float]:
    """Run the job in this process and return its figures."""
    from jobs.precompute_latents import precompute
    from jobs.recipe import AutoencoderSection, Recipe
    from video_models.text.config import TextConfig
    from video_platform.cluster import start
    from video_platform.cluster_config import ClusterConfig
    from video_platform.datasets.config import SourceConfig
    from video_platform.datasets.source import open_source
    from video_platform.latents.config import CacheConfig
    from video_platform.video.policy import PixelPolicy

    # Ray's workers give way to all other work; the plain script does not.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  (Ray spells it so)
    folder = Path(case.folder)
    recipe = Recipe(
        name="benchmark",
        pixels=PixelPolicy(frames=case.frames, height=case.side, width=case.side, fps=FPS),
        cache=CacheConfig(
            url=str(folder / "cache"),
            encoders=case.encoders,
            decoders=case.decoders,
            batch_size=case.batch_size,
            unit_size=16,
        ),
        autoencoder=AutoencoderSection(path=str(folder / "vae")),
        text=TextConfig(dim=8, max_tokens=8),
    )
    files = open_source(SourceConfig(url=str(folder / "videos")))
    with start(ClusterConfig(num_cpus=CORES)):
        watch = Stopwatch()
        report = precompute(recipe, files, on_progress=watch.look)
        return {**watch.figures(), "clips": float(report.clips)}


class Stopwatch:
    """Measures wall time, and the processor time of every process of a job while it runs."""

    def __init__(self) -> None:
        self._spent: dict[int, tuple[str, float]] = {}
        self._look_at_processes()
        self._began_s, self._all_s = time.monotonic(), _all_cpu_s()
        self._at_start = dict(self._spent)
        self._at_first_clip = self._at_start
        self._load = None

    def look(self, now) -> None:
        """Take note of what every process has used so far; called by the job as it goes on."""
        self._look_at_processes()
        if now.layer == "latent":
            self._load = now.load
            if not now.load.encode_s:  # until an encoder has done something all is start-up
                self._at_first_clip = dict(self._spent)

    def figures(self) -> dict[str, float]:
        """Return seconds: `wall`, `decode` and `encode` of processor time, and what else was."""
        self._look_at_processes()
        wall, everybody = time.monotonic() - self._began_s, _all_cpu_s() - self._all_s
        stages = {"decode": 0.0, "encode": 0.0}
        own = 0.0
        for pid, (stage, spent) in self._spent.items():
            own += spent - self._at_start.get(pid, ("", 0.0))[1]
            if stage:
                stages[stage] += spent - self._at_first_clip.get(pid, ("", 0.0))[1]
        return {
            "wall": wall,
            **stages,
            "rest": own - sum(stages.values()),
            "others": max(everybody - own, 0.0) / wall,
            "encoder_busy": self._load.encoder_busy,
            "decoder_busy": self._load.decoder_busy,
        }

    def _look_at_processes(self) -> None:
        """Note what each has used; one that has died keeps what it was last seen with."""
        this = psutil.Process()
        for process in (this, *this.children(recursive=True)):
            try:
                self._spent[process.pid] = (_stage(process.cmdline()), _cpu_s(process))
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue


def measure_plain(case: Case) -> dict[str, float]:
    """Do the same in one process, as a script would."""
    import av
    import diffusers
    import numpy as np
    import torch
    from safetensors.torch import save_file

    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(CORES)
    folder = Path(case.folder)
    (folder / "plain").mkdir(exist_ok=True)
    this = psutil.Process()
    others_s, began_s = _all_cpu_s() - _cpu_s(this), time.monotonic()
    model = diffusers.AutoencoderKLWan.from_pretrained(folder / "vae").eval()
    spent = {"decode": 0.0, "encode": 0.0}
    for path in sorted((folder / "videos").rglob("*.mp4")):
        at = time.process_time()
        with av.open(str(path)) as file:
            frames = []
            for frame in file.decode(video=0):
                small = frame.reformat(case.side, case.side, "rgb24", interpolation="BICUBIC")
                frames.append(small.to_ndarray())
                if len(frames) == case.frames:
                    break
        video = torch.from_numpy(np.stack(frames)).movedim(-1, 0)[None].float() / 127.5 - 1
        between = time.process_time()
        with torch.inference_mode():
            law = model.encode(video).latent_dist
        parts = {"mean": law.mean[0], "logvar": law.logvar[0]}
        save_file(
            {name: part.contiguous() for name, part in parts.items()},
            folder / "plain" / f"{path.stem}.safetensors",
        )
        spent["decode"] += between - at
        spent["encode"] += time.process_time() - between
    wall = time.monotonic() - began_s
    others = (_all_cpu_s() - _cpu_s(this) - others_s) / wall
    return {**spent, "wall": wall, "others": max(others, 0.0), "clips": float(case.clips)}


def _stage(command: list[str]) -> str:
    """Return the stage that a process belongs to, from its command line; empty for no stage."""
    line = " ".join(command)
    if line.startswith("ray::ClipEncoder"):
        return "encode"
    return "decode" if line.startswith("ray::Decoder") or CHILD in line else ""


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _all_cpu_s() -> float:
    """Return the processor time of the whole machine."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq + times.steal


def make_world(case: Case, width: int, source_side: int) -> None:
    """Write the clips, their captions, and an autoencoder with random weights."""
    import diffusers
    import torch

    from video_platform.shapes.world import WorldConfig
    from video_platform.shapes.write import write_dataset

    folder = Path(case.folder)
    world = WorldConfig(num_clips=case.clips, size=source_side, frames=case.frames, fps=FPS)
    write_dataset(world, str(folder / "videos"), format="folder")
    torch.manual_seed(0)
    diffusers.AutoencoderKLWan(base_dim=width).save_pretrained(folder / "vae")


def _in_a_process(side: str, case: Case) -> dict[str, float]:
    """Measure one side in a fresh process."""
    command = [sys.executable, "-m", "tests.benchmarks.precompute", side]
    done = subprocess.run(
        [*command, "--case", json.dumps(dataclasses.asdict(case))],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1" if side == "--job" else str(CORES)},
    )
    return json.loads(done.stdout.splitlines()[-1])


def _row(name: str, found: dict[str, float]) -> str:
    """Lay out one side's figures."""
    busy = found["decode"] + found["encode"]
    limit, left = busy / CORES, busy / max(CORES - found["others"], 0.1)
    text = f"{name:6}{found['clips'] / found['wall']:9.2f}{found['wall']:9.1f}"
    text += f"{found['decode']:10.1f}{found['encode']:9.1f}{found.get('rest', 0.0):8.1f}"
    text += f"{limit:9.1f}{found['wall'] / limit:8.2f}{found['others']:9.2f}"
    text += f"{found['wall'] / left:9.2f}"
    if "encoder_busy" in found:
        text += f"{found['encoder_busy']:9.0%}{found['decoder_busy']:9.0%}"
    return text


def main() -> None:
    """Print one table."""
    options = _options()
    if options.case:
        case = Case(**json.loads(options.case))
        print(json.dumps(measure_job(case) if options.job else measure_plain(case)))
        return
    print(
        f"{options.clips} clips of {options.frames} x {options.side} x {options.side}, width "
        f"{options.width}, {options.encoders} encoders, {options.decoders} decoders, {CORES} cores"
    )
    print(
        f"{'':6}{'clips/s':>9}{'wall s':>9}{'decode s':>10}{'encode':>9}{'rest':>8}{'limit s':>9}"
        f"{'ratio':>8}{'others':>9}{'of left':>9}{'enc busy':>9}{'dec busy':>9}"
    )
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as scratch:
            fields = {field.name for field in dataclasses.fields(Case)} - {"folder"}
            case = Case(folder=scratch, **{name: getattr(options, name) for name in fields})
            make_world(case, options.width, options.source_side)
            job = _in_a_process("--job", case)
            print(_row("job", job), flush=True)
            if not options.skip_plain:
                plain = _in_a_process("--plain", case)
                print(_row("plain", plain), flush=True)
                print(f"the job is {plain['wall'] / job['wall']:.2f} x as fast as the plain script")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=320)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--source-side", type=int, default=256)
    parser.add_argument("--width", type=int, default=32, help="of the autoencoder; 96 is Wan's own")
    parser.add_argument("--encoders", type=int, default=CORES)
    parser.add_argument("--decoders", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--skip-plain", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
