"""What a run of `precompute` found and did: for a person, for a tracker, and for the next job."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from jobs.cache_layers import CacheLayers
from jobs.fidelity import FidelityGate
from jobs.forecast import Forecast
from jobs.launch import made_by
from video_platform.latents.manifest import Plan
from video_platform.latents.snapshots import Snapshot
from video_platform.latents.work import Progress
from video_platform.tracking import Run, Tracker
from video_platform.tracking.tracker import FINGERPRINT, PARENT


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
    codes: Mapping[str, str]
    """Hash of the tensors that made each layer of tokens."""
    source: str
    """Hash of the stored source manifest."""
    clips: int
    """Clips in the snapshot."""
    buckets: Mapping[str, int]
    """Clips in the snapshot by shape of their latents."""
    rejects: Mapping[str, int]
    """Pieces of the source that were left out or refused, now or before, by reason."""
    encoded_now: int
    """Clips whose latents this run made; 0 when all was there."""
    captions_encoded_now: int
    """Captions that this run encoded, over all encoders."""
    layers_now: Mapping[str, int]
    """Samples that this run made of each layer; `scan` is the videos that it looked through."""
    fidelity: Mapping[str, Mapping[str, float]]
    """Of each bucket, what was measured of the latents of sampled clips, now or before."""
    seconds: float
    """Wall time of this run."""
    forecast_s: float | None
    """What `--plan` had forecast for the samples that this run made; None without a forecast."""


def make_report(
    layers: CacheLayers,
    plan: Plan,
    *,
    header: Snapshot,
    done: Mapping[str, Progress],
    gate: FidelityGate,
    left_out: Mapping[str, int],
    forecast: Forecast | None,
    seconds: float,
) -> PrecomputeReport:
    """Gather what is known at the end of a run."""
    latent = layers.latent.spec
    now = {name: progress.encoded for name, progress in done.items()}
    return PrecomputeReport(
        snapshot=header.number,
        snapshot_id=header.id,
        fingerprint=latent.fingerprint,
        autoencoder=latent.identity["autoencoder"],
        codes={
            name: layer.spec.identity["made_by"]["autoencoder"]
            for name, layer in layers.further.items()
            if layer.spec.identity["made_by"]["kind"] == "codes"
        },
        source=plan.source,
        clips=header.clips,
        buckets=header.buckets,
        rejects=dict(sorted((Counter(left_out) + Counter(header.rejects)).items())),
        encoded_now=now[latent.layer],
        captions_encoded_now=sum(now[layer.spec.layer] for layer in layers.text.values()),
        layers_now=now,
        fidelity={name: found.figures() for name, found in gate.buckets().items()},
        seconds=seconds,
        forecast_s=forecast.seconds(now) if forecast else None,
    )


def describe(report: PrecomputeReport, url: str) -> str:
    """Say in a few lines what a run did."""
    made = ", ".join(f"{count} of {name}" for name, count in report.layers_now.items() if count)
    refused = ", ".join(f"{count} {reason}" for reason, count in sorted(report.rejects.items()))
    lines = [
        f"{url}: {f'made {made}' if made else 'nothing to do, all was there'} in "
        f"{report.seconds:.1f} s; snapshot {report.snapshot} ({report.snapshot_id[:16]}) holds "
        f"{report.clips} clips; rejected: {refused or 'none'}"
    ]
    for name, figures in report.fidelity.items():
        cut = figures.get("max_difference")
        lines.append(
            f"  {name}: latents decode to {figures['psnr_db']:.1f} dB, the worst of "
            f"{figures['clips']:g} sampled clips to {figures['min_psnr_db']:.1f} dB"
            + (f"; chunks and tiles change them by at most {cut:.1e}" if cut is not None else "")
        )
    if report.forecast_s:
        lines.append(
            f"  forecast: {report.forecast_s:.1f} s; it took {report.seconds:.1f} s, "
            f"{report.seconds / report.forecast_s:.2f} times as long"
        )
    return "\n".join(lines)


def track(tracker: Tracker, run: Run, report: PrecomputeReport) -> None:
    """Note in a run what it made and of what."""
    run.tag(FINGERPRINT, report.snapshot_id)
    codes = {f"codes-{name}": tensors for name, tensors in report.codes.items()}
    for role, run_id in made_by(tracker, autoencoder=report.autoencoder, **codes).items():
        run.tag(f"{PARENT}{role}", run_id)
    tree: dict[str, Any] = dataclasses.asdict(report)
    run.text(json.dumps(tree, indent=2), "precompute.json")
    figures = {"clips": report.clips, "encoded": report.encoded_now, "seconds": report.seconds}
    if report.forecast_s:
        figures["forecast_seconds"] = report.forecast_s
    run.metrics({f"precompute/{name}": float(value) for name, value in figures.items()}, step=0)
