"""Decode videos and fill the latent cache: `vdp precompute RECIPE`.

    captioned videos -> decoded clips -> latents    }
                     -> captions      -> embeddings }  -> snapshot

Run again it finishes what is missing and ends with the same snapshot; with nothing missing it
starts no actor at all.
"""

import contextlib
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from jobs.launch import made_by, platform, source_of, source_run
from jobs.progress import progress
from jobs.recipe import Recipe, needed
from pipelines.pixels import to_video
from video_models.autoencoder.model import Autoencoder
from video_models.formats import fingerprint, open_autoencoder
from video_models.text.config import TextConfig
from video_models.text.encoder import open_text_encoder
from video_platform.config import as_tree
from video_platform.datasets.record import Record
from video_platform.errors import ConfigError, SourceError
from video_platform.latents.canary import Encode, Frames
from video_platform.latents.config import CacheConfig
from video_platform.latents.fill import Settings, fill_latents, fill_text
from video_platform.latents.manifest import Plan, save_manifest
from video_platform.latents.shard import DTYPES
from video_platform.latents.snapshots import take_snapshot
from video_platform.latents.spec import LayerSpec, latent_spec, text_spec
from video_platform.latents.work import OnProgress, Progress
from video_platform.latents.workers import EncodeText
from video_platform.storage import open_store
from video_platform.tracking import Run
from video_platform.tracking.tracker import FINGERPRINT, PARENT
from video_platform.video.policy import PixelPolicy


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrecomputeReport:
    """What a run of `precompute` found and did."""

    snapshot: int
    """Number of the snapshot that holds the source."""
    snapshot_id: str
    """Its root hash."""
    fingerprint: str
    """Hash of what the latents are bound to."""
    autoencoder: str
    """Hash of the autoencoder's tensors."""
    source: str
    """Hash of the stored source manifest."""
    clips: int
    """Clips in the snapshot."""
    rejects: Mapping[str, int]
    """Clips of the source that were refused, now or before, by reason."""
    encoded_now: int
    """Clips that this run encoded; 0 when all was there."""
    captions_encoded_now: int
    """Captions that this run encoded."""
    seconds: float
    """Wall time of this run."""


def precompute(
    recipe: Recipe, records: Sequence[Record], *, on_progress: OnProgress
) -> PrecomputeReport:
    """Fill the recipe's cache with the clips of a source, on the Ray that is running.

    Args:
        recipe: with `cache` and `pixels`; its autoencoder's folder is within every worker's reach.
        records: the captioned videos.
        on_progress: is told after each unit.

    Raises:
        SourceError: there is no clip.
        StaleCacheError: the autoencoder no longer gives the latents that the cache recorded.
        CacheError: some units could not be done now; the others are committed.
    """
    started_s = time.monotonic()
    cache = needed(recipe.cache, "cache", "precompute")
    policy = needed(recipe.pixels, "pixels", "precompute")
    if not records:
        raise SourceError("the source holds no videos; `vdp inspect` says what it holds")
    records = [dataclasses.replace(item, size=item.size or policy.size) for item in records]
    root = open_store(cache.url)
    root.probe()
    folder = str(recipe.autoencoder_folder.absolute())
    latent, words = _latent_spec(folder, policy, cache), _text_spec(recipe.text, cache)
    plan = Plan(
        source=save_manifest(root, records),
        latent=latent.folder,
        text={words.layer.removeprefix("text/"): words.folder},
        unit_size=cache.unit_size,
        text_unit_size=cache.text_unit_size,
    )
    plan.save(root)
    open_text = functools.partial(_open_text, recipe.text)
    embedded = fill_text(
        root, words, records, config=cache, open_encode=open_text, on_progress=on_progress
    )
    encoded = fill_latents(
        root,
        latent,
        records,
        settings=Settings(cache=cache, policy=policy, limits=recipe.limits),
        open_encode=functools.partial(_open_encode, folder, cache),
        on_progress=on_progress,
    )
    header = take_snapshot(root, plan)
    return PrecomputeReport(
        snapshot=header.number,
        snapshot_id=header.id,
        fingerprint=latent.fingerprint,
        autoencoder=latent.identity["autoencoder"],
        source=plan.source,
        clips=header.clips,
        rejects=header.rejects,
        encoded_now=encoded.encoded,
        captions_encoded_now=embedded.encoded,
        seconds=time.monotonic() - started_s,
    )


def run(recipe: Recipe) -> PrecomputeReport:
    """Fill the recipe's cache, as a run of its own in the tracking store."""
    cache = needed(recipe.cache, "cache", "precompute")
    needed(recipe.pixels, "pixels", "precompute")
    records = source_of(recipe, "precompute")
    with platform(recipe) as tracker:
        parents = {"source": source_run(tracker, recipe, records)}
        name = f"{recipe.name} precompute"
        with (
            tracker.start("cache", name=name, params=as_tree(recipe), parents=parents) as tracked,
            _shown() as on_progress,
        ):
            report = precompute(recipe, records, on_progress=on_progress)
            _track(tracked, report, made_by(tracker, autoencoder=report.autoencoder))
    print(describe(report, cache.url))
    return report


def describe(report: PrecomputeReport, url: str) -> str:
    """Say in one line what a run did."""
    done = f"encoded {report.encoded_now} clips and {report.captions_encoded_now} captions"
    if not report.encoded_now + report.captions_encoded_now:
        done = "nothing to do, all was there"
    refused = ", ".join(f"{count} {reason}" for reason, count in sorted(report.rejects.items()))
    return (
        f"{url}: {done} in {report.seconds:.1f} s; snapshot {report.snapshot} "
        f"({report.snapshot_id[:16]}) holds {report.clips} clips; rejected: {refused or 'none'}"
    )


def _latent_spec(folder: str, policy: PixelPolicy, cache: CacheConfig) -> LayerSpec:
    """Describe what the autoencoder in a folder makes of clips of one policy."""
    try:
        model = open_autoencoder(folder, Autoencoder)
        shape = model.config.latent_shape(policy.frames, policy.height, policy.width)
    except ValueError as error:
        raise ConfigError(f"autoencoder {folder}, pixels: {error}") from None
    return latent_spec(
        autoencoder_fingerprint=fingerprint(model),
        policy=policy,
        config=cache,
        information={
            "autoencoder": dataclasses.asdict(model.config),
            "latent_shape": shape,
            "torch": torch.__version__,
        },
    )


def _text_spec(text: TextConfig, cache: CacheConfig) -> LayerSpec:
    """Describe what a text encoder makes of captions."""
    try:
        encoder = open_text_encoder(text)
    except ValueError as error:
        raise ConfigError(f"text: {error}") from None
    return text_spec(encoder.name, identity=encoder.identity, stored=cache.stored)


def _open_encode(folder: str, cache: CacheConfig) -> Encode:
    """Open an autoencoder as a function from frames to mean and log-variance."""
    device = torch.device("cuda" if cache.gpus_per_encoder else "cpu")
    dtype = DTYPES[cache.compute]
    model = open_autoencoder(folder, Autoencoder).requires_grad_(False).to(device, dtype)

    @torch.inference_mode()
    def encode(frames: Frames) -> tuple[Tensor, Tensor]:
        video = to_video(torch.from_numpy(frames).to(device))
        posterior = model.encode(video.to(dtype))
        return posterior.mean.float().cpu(), posterior.logvar.float().cpu()

    return encode


def _open_text(text: TextConfig) -> EncodeText:
    """Open a text encoder as a function from captions to embeddings."""
    return open_text_encoder(text).encode


@contextlib.contextmanager
def _shown() -> Iterator[OnProgress]:
    """Show progress, a bar for each layer, one after the other."""
    with contextlib.ExitStack() as bars:
        open_bars: dict[str, Any] = {}

        def show(now: Progress) -> None:
            if now.layer not in open_bars:
                bars.close()
                open_bars[now.layer] = bars.enter_context(progress(now.layer, now.samples))
            values = {"clips/s": now.samples_per_s, "rejected": str(sum(now.rejects.values()))}
            open_bars[now.layer](now.samples_done, values)

        yield show


def _track(run: Run, report: PrecomputeReport, parents: Mapping[str, str]) -> None:
    """Note in a run what it made and of what."""
    run.tag(FINGERPRINT, report.snapshot_id)
    for role, run_id in parents.items():
        run.tag(f"{PARENT}{role}", run_id)
    run.text(json.dumps(dataclasses.asdict(report), indent=2), "precompute.json")
    figures = {"clips": report.clips, "encoded": report.encoded_now, "seconds": report.seconds}
    run.metrics({f"precompute/{name}": float(value) for name, value in figures.items()}, step=0)


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["precompute", *sys.argv[1:]]))
