"""Judge autoencoders side by side: `vdp evaluate RECIPE evaluate.autoencoders={a: FOLDER, ...}`.

Reads `source` and `pixels`, or `world`, and `evaluate`; writes a table, curves by frame, a contact
sheet and side-by-side videos to `<project>/evaluation-autoencoders`.

    unseen clips -> encode -> decode -> PSNR, SSIM, bits, detectors, seconds -> one table
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from jobs.evaluation_autoencoder import (
    Networks,
    channels_of,
    coding_of,
    curves_of,
    describe,
    facts_of,
    measures_of,
)
from jobs.evaluation_autoencoder_pictures import write_curves, write_sheet, write_videos
from jobs.evaluation_autoencoder_results import (
    AutoencoderEvaluation,
    JudgedAutoencoder,
    as_metrics,
    curve_metrics,
    show,
    write_results,
)
from jobs.evaluation_bench import Bench, Frames, Reference, shapes_bench
from jobs.evaluation_ceiling import GROUND_TRUTH, judged_rates
from jobs.evaluation_config import EvaluationConfig
from jobs.evaluation_references import held_out_clips
from jobs.frechet import FEATURES_OF, open_features
from jobs.progress import progress
from jobs.recipe import Recipe, needed
from pipelines.model_folder import CARD
from pipelines.pixels import to_frames, to_video
from video_models.autoencoder.warm_start import AnyAutoencoder
from video_models.formats import ModelFormatError, fingerprint, open_autoencoder
from video_platform.config import as_tree
from video_platform.errors import ConfigError
from video_platform.tracking import open_tracker
from video_platform.tracking.tracker import PARENT

VIDEOS = "side-by-side"
"""The folder of the videos."""


def run(recipe: Recipe) -> AutoencoderEvaluation:
    """Judge the autoencoders that `evaluate.autoencoders` names, and track what came of it."""
    config = needed(recipe.evaluate, "evaluate", "evaluate")
    folders = config.autoencoder_folders
    bench, folder = bench_of(recipe, config), recipe.folder / "evaluation-autoencoders"
    tracker = open_tracker(recipe.tracking, recipe.folder)
    with tracker.start(
        "evaluation",
        name=f"{recipe.name} evaluate autoencoders",
        params=as_tree(recipe),
        tags={"vdp.folder": str(folder.absolute())},
    ) as tracked:
        found = evaluate_autoencoders(
            folders,
            bench,
            config=config,
            folder=folder,
            title=recipe.name,
            networks=networks_of(recipe, config),
        )
        for each in found.autoencoders:
            maker = tracker.find(each.identity)
            if maker is not None:
                tracked.tag(f"{PARENT}{each.name}", maker)
        tracked.metrics(as_metrics(found), step=0)
        for frame, values in curve_metrics(found):
            tracked.metrics(values, step=frame)
        tracked.artifact(folder)
    show(found)
    return found


def bench_of(recipe: Recipe, config: EvaluationConfig) -> Bench:
    """Return the clips that autoencoders are judged on: the world's unseen ones, or the source's.

    Raises:
        ConfigError: there are none.
    """
    if recipe.world is not None:
        bench = shapes_bench(recipe.world, config)
    else:
        clips = held_out_clips(recipe, config.reconstructions)
        bench = Bench(questions=(), references=tuple(Reference(frames=clip) for clip in clips))
    if not bench.references:
        raise ConfigError(
            "there are no clips to judge autoencoders on; give a world, or source and pixels, "
            "and evaluate.reconstructions of at least 1"
        )
    return bench


def networks_of(recipe: Recipe, config: EvaluationConfig) -> Networks:
    """Return the networks that the recipe names files of.

    LPIPS is where training reads it too, the network of features in the `evaluate` section.

    Raises:
        ConfigError: a file is not what it should be.
    """
    lpips, perceptual = recipe.autoencoder.loss.lpips_weights, None
    if lpips:
        from video_models.formats.lpips import open_lpips

        try:
            perceptual = open_lpips(lpips)
        except ModelFormatError as error:
            raise ConfigError(f"autoencoder.loss.lpips_weights: {error}") from None
    return Networks(perceptual=perceptual, features=open_features(config), features_of=FEATURES_OF)


def evaluate_autoencoders(
    folders: Mapping[str, Path],
    bench: Bench,
    *,
    config: EvaluationConfig,
    folder: Path,
    title: str = "autoencoders",
    networks: Networks | None = None,
) -> AutoencoderEvaluation:
    """Encode, decode, judge and write everything to `folder`.

    Args:
        folders: autoencoder folders, Wan's own files or model folders, by the name that the table
            calls them.
        bench: its references are the clips, its judge looks at what comes back.
        config: batch size, intervals, what the judge sees, and how many clips are shown.
        folder: where tables, pictures and videos go.
        title: heads the table.
        networks: for the measures that need one.

    Raises:
        ConfigError: a folder holds no autoencoder, or the clips do not fit it.
    """
    shutil.rmtree(folder / VIDEOS, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    judged: list[JudgedAutoencoder] = []
    repeated: dict[str, list[Frames]] = {}
    with progress("evaluate autoencoders", len(folders)) as told:
        for name, path in folders.items():
            each, repeated[name] = judge_autoencoder(
                name, path, bench, config=config, networks=networks or Networks()
            )
            judged.append(each)
            told(len(judged), {"autoencoder": name})
    originals = [reference.frames for reference in bench.references]
    found = AutoencoderEvaluation(
        title=title,
        folder=folder,
        autoencoders=tuple(judged),
        ground_truth=tuple(judged_rates(GROUND_TRUTH, originals, bench, config)),
        clips=(len(originals), *originals[0].shape[:3]),
        level=config.level,
    )
    write_results(found)
    write_curves(folder / "frames.png", found)
    if config.shown:
        write_sheet(folder / "sheet.png", originals[: config.shown], repeated)
        write_videos(folder / VIDEOS, originals, repeated)
    return found


def judge_autoencoder(
    name: str, path: Path, bench: Bench, *, config: EvaluationConfig, networks: Networks
) -> tuple[JudgedAutoencoder, list[Frames]]:
    """Open one autoencoder and judge it; return also the first `config.shown` reconstructions.

    Raises:
        ConfigError: the folder holds no autoencoder, or the clips do not fit it.
    """
    model = opened(path)
    clips = np.stack([reference.frames for reference in bench.references])
    try:
        coding = coding_of(model, to_video(torch.from_numpy(clips)), batch_size=config.batch_size)
    except ValueError as error:
        raise ConfigError(f"the clips do not fit the autoencoder {name!r}: {error}") from None
    judged = JudgedAutoencoder(
        name=name,
        folder=str(path),
        kind=describe(model),
        identity=fingerprint(model),
        temporal_factor=coding.temporal_factor,
        measures=tuple(measures_of(name, coding, bench, config, networks=networks)),
        facts=facts_of(model, coding, networks),
        curves=curves_of(coding),
        channels=channels_of(coding.codes),
    )
    return judged, list(to_frames(coding.reconstruction[: config.shown]))


def opened(path: Path) -> AnyAutoencoder:
    """Open an autoencoder, also out of a model folder.

    Raises:
        ConfigError: it holds none.
    """
    part = path / "vae" if (path / CARD).is_file() else path
    try:
        return open_autoencoder(part)
    except ModelFormatError as error:
        raise ConfigError(f"evaluate.autoencoders: {error}") from None
