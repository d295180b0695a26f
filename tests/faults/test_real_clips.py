"""Training on real videos with two workers, killed three times, ends as if nothing had happened.

    REAL_VIDEOS=videos pytest -s -m slow tests/faults/test_real_clips.py

`REAL_VIDEOS` names a folder with `clips/`: videos and captions.
"""

import os
from pathlib import Path

import pytest

from tests.faults.pretrain_runs import (
    curve,
    hash_of_model,
    kill_with_all,
    last,
    vdp,
    wait_for_step,
    workers,
)
from tests.tiny import make_autoencoder
from video_models.formats import save_autoencoder
from video_platform.latents import open_cache

REAL_VIDEOS = os.environ.get("REAL_VIDEOS")
STEPS = 30
RECIPE = f"""
name: killed
project: nowhere
pixels: {{frames: 9, height: 48, width: 64, fps: 8.0}}
clips: {{cut: windows}}
text: {{kind: words, dim: 32, max_tokens: 16}}
model:
  transformer:
    latent_channels: 4
    text_dim: 32
    num_heads: 4
    head_dim: 12
    ffn_dim: 96
    num_layers: 4
    patch_size: [1, 1, 1]
pretrain:
  held_out: 0.1
  training:
    steps: {STEPS}
    batch_size: 8
    micro_batch_size: 2
    learning_rate: 1.0e-3
    zero_stage: 2
    checkpoint_every: 4
    validate_every: 10
    log_every: 1
cluster: {{num_cpus: 2, workers: 2, max_failures: 5}}
"""


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(REAL_VIDEOS is None, reason="set REAL_VIDEOS to a folder with clips/")
def test_a_run_on_real_clips_killed_three_times_equals_the_undisturbed_one(tmp_path):
    recipe, log = tmp_path / "recipe.yaml", tmp_path / "log"
    recipe.write_text(RECIPE)
    save_autoencoder(make_autoencoder(), tmp_path / "autoencoder")
    places = [
        f"source.url={REAL_VIDEOS}/clips",
        f"cache.url={tmp_path}/cache",
        f"autoencoder.path={tmp_path}/autoencoder",
    ]
    assert vdp("precompute", recipe, *places, f"project={tmp_path}", log=log).wait() == 0, (
        log.read_text()[-4000:]
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert vdp("pretrain", recipe, *places, f"project={whole}", log=log).wait() == 0, (
        log.read_text()[-4000:]
    )
    run_with_kills(recipe, places, killed, log)
    expected = curve(whole)
    assert sorted(expected) == list(range(1, STEPS + 1))
    assert curve(killed) == expected, "every step, taken once or again, has the same loss"
    assert curve(killed, "validation/loss") == curve(whole, "validation/loss")
    assert hash_of_model(killed) == hash_of_model(whole)
    first, final = (float.fromhex(*expected[step]) for step in (1, STEPS))
    assert final < first
    print(f"\n{len(open_cache(f'{tmp_path}/cache'))} clips, loss {first:.4f} to {final:.4f}")
    for project in (whole, killed):
        shares = last(project, "goodput/")
        told = ", ".join(f"{name[8:]} {share:.1%}" for name, share in shares.items())
        print(f"{project.name}: {told}")


def run_with_kills(recipe: Path, places: list[str], project: Path, log: Path) -> None:
    """Kill each of the two workers once, and once the driver with everything."""
    driver = vdp("pretrain", recipe, *places, f"project={project}", log=log)
    for number, step in enumerate((6, 14)):
        wait_for_step(driver, project, step, log)
        workers(driver)[number].kill()
    wait_for_step(driver, project, 22, log)
    kill_with_all(driver)
    driver = vdp("pretrain", recipe, *places, f"project={project}", log=log)
    assert driver.wait() == 0, log.read_text()[-4000:]
