"""Prompts become clips, the same ones for the same seed."""

import shutil

import numpy as np
import pytest
import torch

from pipelines import TextToVideo
from pipelines.model_folder import ModelFolder
from pipelines.pixels import to_frames
from pipelines.request import RequestError
from tests.tiny import make_autoencoder, make_card, make_transformer
from video_models.diffusion.config import SamplingConfig
from video_models.text.batch import pad_text
from video_platform.errors import ConfigError


@pytest.fixture(scope="module")
def generate(model):
    return TextToVideo.open(model, device="cpu")


def test_a_prompt_becomes_a_clip_of_the_models_own_size(generate):
    clip = generate("a red circle")
    assert clip.frames.shape == (5, 16, 24, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.fps == 8.0


def test_the_same_seed_gives_the_same_frames_and_another_others(generate):
    first, again, other = (generate("a red circle", seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.frames, again.frames)
    assert not np.array_equal(first.frames, other.frames)


def test_the_prompt_matters(generate):
    first, other = generate("a red circle", seed=1), generate("a blue square", seed=1)
    assert not np.array_equal(first.frames, other.frames)


def test_a_clip_does_not_depend_on_its_batch(generate):
    prompts = ["a red circle", "a blue square", "nothing"]
    batch = generate(prompts, seed=[7, 8, 9])
    for clip, prompt, seed in zip(batch, prompts, (7, 8, 9), strict=True):
        alone = generate(prompt, seed=seed)
        difference = np.abs(clip.frames.astype(int) - alone.frames.astype(int))
        assert difference.max() <= 1  # rounding of other matrix shapes


def test_one_seed_serves_all_prompts(generate):
    first, second = generate(["a red circle", "a red circle"], seed=5)
    assert np.array_equal(first.frames, second.frames)


def test_no_prompts_make_no_clips(generate):
    assert generate([]) == []


def test_frames_follow_the_equations(generate):
    """Two Euler steps with guidance, written out."""
    clip = generate("a red circle", seed=2, negative_prompt="blur")
    x = torch.from_numpy(np.zeros(0))
    from video_models.diffusion.noise import initial_noise

    x = initial_noise(2, (4, 2, 4, 6))[None]
    texts = pad_text(generate.text_encoder.encode(["a red circle", "blur"]), 8)
    with torch.no_grad():
        for t in (1.0, 0.5):
            v_c, v_u = (
                generate.transformer(
                    x,
                    torch.tensor([t]),
                    texts.embeddings[i : i + 1],
                    text_mask=texts.mask[i : i + 1],
                )
                for i in (0, 1)
            )
            x = x - 0.5 * (v_u + 4 * (v_c - v_u))
        video = generate.autoencoder.decode(x * 2.0 + 0.1)[0]
    expected = ((video.clamp(-1, 1) + 1) * 127.5).permute(1, 2, 3, 0).numpy()
    assert np.abs(clip.frames - expected).max() <= 1


def test_sizes_steps_and_sampler_can_be_chosen(generate):
    told = []
    clip = generate(
        "x",
        num_frames=9,
        height=8,
        width=8,
        steps=3,
        sampler="heun",
        guidance=1.0,
        on_step=lambda done, total: told.append((done, total)),
    )
    assert clip.frames.shape == (9, 8, 8, 3)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert (clip.provenance["steps"], clip.provenance["sampler"]) == (3, "heun")


def test_guidance_of_one_costs_one_call_a_step(generate, monkeypatch):
    batches = []
    forward = generate.transformer.forward
    monkeypatch.setattr(
        generate.transformer,
        "forward",
        lambda x, *args, **kwargs: batches.append(len(x)) or forward(x, *args, **kwargs),
    )
    generate("x", guidance=1.0)
    generate("x", guidance=2.0)
    assert batches == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"height": 20}, "multiples of 8 pixels, such as 16 and 24"),
        ({"width": 4}, "multiples of 8"),
        ({"width": 0}, "multiples of 8"),
        ({"num_frames": 6}, r"num_frames=6 .* 1, 5, 9, \.\.\."),
        ({"num_frames": 0}, "num_frames=0"),
        ({"steps": 0}, "steps is 0"),
        ({"guidance": -1.0}, "guidance"),
        ({"sampler": "magic"}, r"unknown sampler 'magic'; known: .*euler"),
        ({"hight": 8}, "unknown option 'hight'"),
    ],
)
def test_what_cannot_be_done_is_told_with_what_can(generate, wish, told):
    with pytest.raises(RequestError, match=told):
        generate("x", **wish)


def test_seeds_and_prompts_must_pair_up(generate):
    with pytest.raises(RequestError, match="2 prompts with 1 seeds"):
        generate(["a", "b"], seed=[1])


def test_a_student_with_guidance_baked_in_refuses_guidance(student):
    fast = TextToVideo.open(student, device="cpu")
    assert fast("x").provenance["guidance"] == 1
    assert fast("x", guidance=1.0).frames.shape == (5, 16, 24, 3)
    with pytest.raises(RequestError, match="baked in"):
        fast("x", guidance=4.0)
    with pytest.raises(ValueError, match="baked in"):  # an error of the argument's value
        fast("x", guidance=4.0)


def test_a_student_of_a_range_of_scales_takes_the_scale_as_input(tmp_path):
    sampling = SamplingConfig(steps=1, guidance=1.0)
    ModelFolder.save(
        tmp_path / "s",
        make_card(kind="student", sampling=sampling, guidance_baked=True),
        autoencoder=make_autoencoder(),
        transformer=make_transformer(guidance_embedding=True),
    )
    model = TextToVideo.open(tmp_path / "s", device="cpu")
    with torch.no_grad():  # the scale's way in begins at zero
        model.transformer.condition_embedder.guidance_embedder.linear_2.weight.normal_()
    weak, strong = model("x", guidance=1.0), model("x", guidance=8.0)
    assert not np.array_equal(weak.frames, strong.frames)


def test_another_text_encoder_is_refused(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "m")
    path = folder / "model.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1', 1))
    with pytest.raises(ConfigError, match="another text encoder; seed: 1, not 0"):
        TextToVideo.open(folder, device="cpu")


def test_frames_are_clamped_and_rounded():
    video = torch.tensor([-2.0, -1.0, 0.0, 0.999, 1.0, 3.0]).reshape(1, 1, 6, 1, 1)
    frames = to_frames(video.expand(1, 3, 6, 1, 1))
    assert frames[0, :, 0, 0, 0].tolist() == [0, 0, 128, 255, 255, 255]
