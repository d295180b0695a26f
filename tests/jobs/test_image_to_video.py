"""Image to video end to end: trained on real ranks, resumed, saved, and generated from."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.cli import main
from jobs.denoising import DenoisingStep
from jobs.history import History
from jobs.latents import LatentSource
from jobs.launch import Payload
from jobs.meter import Meter
from jobs.pretrain_config import GivenConfig, GivenFrames, ObserveConfig, PretrainSection
from jobs.trained_model import model_card, save_model
from pipelines import ImageToVideo, TextToVideo
from pipelines.clip import read_provenance
from pipelines.model_folder import ModelFolder
from pipelines.pixels import to_frames, to_video
from tests.jobs.given_world import WORLD, frames_at, make_given_world
from tests.video_platform.training.test_engine import launch
from video_models.transformer.config import TransformerConfig
from video_models.transformer.family import build_transformer
from video_platform.cluster import WorkerContext
from video_platform.shapes.captions import clip_at
from video_platform.training.config import TrainingConfig
from video_platform.training.engine import StepResult
from video_platform.training.loop import At
from video_platform.video.decode import decode
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

SCENARIOS = ("everything", "clean")
CLIPS = 32
STEPS, LEARNING_RATE = 200, 1e-2
SIZE = TransformerConfig(
    latent_channels=4, text_dim=16, num_heads=2, head_dim=24, ffn_dim=96, num_layers=1, freq_dim=16,
    condition_channels=8, absolute_positions=True,
)  # fmt: skip
UNSEEN = (50, 53, 57, 60)
"""Clips of the world that are not in the cache."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two gloo ranks report, and the folder that they worked in."""
    folder = tmp_path_factory.mktemp("ranks")
    make_given_world(folder, CLIPS)
    return launch(folder, 2, *SCENARIOS, script=Path(__file__).with_name("given_ranks.py")), folder


def test_a_run_that_was_stopped_ends_with_the_same_model_losses_and_samples(pair):
    report = pair[0]["everything"]
    assert len(set(report["fingerprints"])) == 1
    assert report["loss"][0] == report["loss"][1]
    assert report["validation"][0] == report["validation"][1]
    assert len(report["validation"][0]) > 6
    assert report["same samples"]
    assert "samples/step-000004.png" in report["files"]


def test_a_model_says_what_it_may_be_given(pair):
    card = ModelFolder.open(pair[1] / "whole" / "model").card
    assert card.given.ways == ((1, 0), (1, 1))
    assert card.given.required
    assert [image.frame for image in card.given.images] == ["first", "last"]
    assert [text.layer for text in card.texts] == ["words", "wide"]
    clip = ImageToVideo.open(pair[1] / "whole" / "model")("a red circle", image=frames_at(50)[0])
    assert clip.frames.shape == (5, 16, 16, 3)


def test_clean_frames_are_trained_validated_and_sampled(pair):
    report, folder = pair[0]["clean"], pair[1]
    assert 0 < report["scalars"]["4"]["validation/loss"] < 10
    assert "samples/step-000004.png" in report["files"]
    assert not ModelFolder.open(folder / "clean" / "model").card.given.required


class Adam:
    """An engine of one process, for a training of seconds."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, module):
        self.module = module
        self._optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE)
        self._schedule = torch.optim.lr_scheduler.LinearLR(self._optimizer, 1.0, 0.0, STEPS)

    def backward(self, loss, *, share):
        (loss * share).backward()

    def step(self, *, by_block=False):
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        return StepResult(applied=True, grad_norm=1.0, learning_rate=0.0)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """The folder of a model that was trained on a first frame, and now and then on none."""
    folder = tmp_path_factory.mktemp("learned")
    world = make_given_world(folder, CLIPS)
    given = GivenConfig(ways=(GivenFrames(layer="first", chance=0.8),))
    training = TrainingConfig(steps=STEPS, batch_size=16, micro_batch_size=16)
    section = PretrainSection(
        training=training, given=given, held_out=0.0, observe=ObserveConfig(grad_norms=False)
    )
    recipe = dataclasses.replace(world, pretrain=section)
    source = LatentSource(recipe)
    torch.manual_seed(0)
    engine = Adam(build_transformer(SIZE))
    step = DenoisingStep(
        engine=engine, source=source, section=section, meter=Meter(SIZE, world=1), history=History()
    )
    context = WorkerContext(rank=0, world=1, device="cpu", report=print, stop_reason=lambda: None)
    loader = source.loader(source.split(0.0, seed=0)[1], training, context)
    for number, batches in enumerate(itertools.islice(loader.steps(), STEPS)):
        step.update(batches, At(number, 0))
    payload = Payload(
        recipe=recipe, run_id="ab" * 16, parents={}, extra={}, worker=None, folders={}
    )
    card = model_card(payload, source)
    return save_model(folder / "model", card, source=source, transformer=engine.module).path


def generated(folder, number, place):
    """Generate by the command; return how far two clips begin from a picture.

    One was given the picture, the other goes by its caption alone. Nearness is that to the best
    that the autoencoder can show of the picture.
    """
    model, (first, prompt) = TextToVideo.open(folder), (frames_at(number)[0], caption(number))
    Image.fromarray(first).save(place / "first.png")
    shown = ["--image", str(place / "first.png"), "--out", str(place / "clip.mp4")]
    assert main(["generate", str(folder), prompt, *shown]) == 0
    assert read_provenance(place / "clip.mp4")["given_frames"] == [1, 0]
    policy = PixelPolicy(frames=5, height=16, width=16, fps=8.0)
    seen = decode(place / "clip.mp4", policy=policy, limits=MediaLimits()).frames.astype(float)
    made, alone = ImageToVideo.of(model)(prompt, image=first).frames, model(prompt).frames
    assert np.abs(seen - made).mean() < np.abs(seen - alone).mean()  # the file shows this clip
    video = to_video(torch.from_numpy(first)[None, None])
    with torch.no_grad():
        best = to_frames(model.autoencoder.decode(model.autoencoder.encode(video).mode()))[0, 0]
    return [np.abs(clip[0].astype(float) - best).mean() for clip in (made, alone)]


def caption(number):
    return clip_at(WORLD, number)[1]


def test_a_clip_of_a_model_that_keeps_frames_clean_begins_with_its_picture(pair, tmp_path):
    pairs = [generated(pair[1] / "clean" / "model", number, tmp_path) for number in UNSEEN[:2]]
    given, alone = zip(*pairs, strict=True)
    assert max(given) <= 1
    assert min(alone) > 2


def test_a_trained_clip_begins_nearer_to_its_picture_than_one_without(learned, tmp_path):
    pairs = [generated(learned, number, tmp_path) for number in UNSEEN]
    given, alone = zip(*pairs, strict=True)
    assert np.mean(given) < 0.3 * np.mean(alone), (given, alone)
