"""Pictures become clips that go on from them, as the model was trained to."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import ImageToVideo, TextToVideo
from pipelines.__main__ import main
from pipelines.clip import read_provenance
from pipelines.model_folder import FramesInput, FurtherText, ImageInput, ModelFolder
from pipelines.pixels import to_frames, to_video
from pipelines.request import RequestError
from tests.tiny import make_autoencoder, make_card, make_model, make_transformer
from tests.video_models.image.test_clip import make_vision_folder
from video_models.diffusion.noise import initial_noise
from video_models.image.clip import open_image_encoder
from video_models.text.batch import pad_text
from video_models.text.config import TextConfig
from video_models.text.encoder import open_text_encoder
from video_models.transformer.given_frames import given_frames
from video_platform.errors import ConfigError

WIDE = TextConfig(kind="words", name="wide", dim=24, max_tokens=6)


def picture(seed):
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)  # 16 x 24


def further_text():
    return FurtherText(config=WIDE, identity=open_text_encoder(WIDE).identity)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Models that take frames in every way; weights are random."""
    root = tmp_path_factory.mktemp("given")
    vision = make_vision_folder(root / "vision")
    identity = open_image_encoder(str(vision)).identity
    images = tuple(
        ImageInput(path=str(vision), output="tokens", frame=frame, identity=identity)
        for frame in ("first", "last")
    )
    kinds = {
        "beside": (
            {"condition_channels": 8, "image_dim": 16, "more_text_dims": (24,)},
            FramesInput(ways=((1, 0), (1, 1)), required=True, images=images),
        ),
        "clean": ({"more_text_dims": (24,)}, FramesInput(ways=((1, 0), (5, 0)), required=False)),
    }
    for name, (inputs, given) in kinds.items():
        card = make_card(given=given, more_texts=(further_text(),))
        make_model(root / name, card, transformer=make_transformer(**inputs))
    return root


@pytest.fixture(scope="module")
def beside(folders):
    return ImageToVideo.open(folders / "beside", device="cpu")


@pytest.fixture(scope="module")
def clean(folders):
    return ImageToVideo.open(folders / "clean", device="cpu")


def texts_of(model, prompts):
    texts = [
        pad_text(encoder.encode(prompts), encoder.max_tokens)
        for encoder in model.base.text_encoders
    ]
    return [text.embeddings for text in texts], [text.mask for text in texts]


def test_frames_follow_the_equations_with_condition_images_and_two_texts(beside):
    """Two Euler steps with guidance, written out; what is given is given to both halves."""
    first, last = picture(0), picture(1)
    clip = beside("a red circle", image=first, last_image=last, seed=2, negative_prompt="blur")
    video = torch.zeros(1, 3, 5, 16, 24)
    pixels = torch.from_numpy(np.stack([first, last]))
    video[:, :, [0, -1]] = to_video(pixels[None])
    known = torch.tensor([[True, False, False, False, True]])
    vae, transformer = beside.base.autoencoder, beside.base.transformer
    text, mask = texts_of(beside, ["a red circle", "blur"])
    with torch.no_grad():
        latents = vae.normalise(vae.encode(video).mode())
        condition = given_frames(known, latents, temporal_factor=4)
        image = beside.image_encoders[0].encode(pixels.movedim(-1, 1)).flatten(0, 1)[None]
        x = initial_noise(2, (4, 2, 4, 6))[None]
        for t in (1.0, 0.5):
            v_c, v_u = (
                transformer(
                    x, torch.tensor([t]), [each[i : i + 1] for each in text],
                    text_mask=[each[i : i + 1] for each in mask],
                    condition=condition, image=image,
                )
                for i in (0, 1)
            )  # fmt: skip
            x = x - 0.5 * (v_u + 4 * (v_c - v_u))
        expected = to_frames(vae.decode(vae.denormalise(x)))[0]
    assert np.abs(clip.frames.astype(int) - expected).max() <= 1
    other = beside("a red circle", image=first, last_image=first, seed=2, negative_prompt="blur")
    assert not np.array_equal(other.frames, clip.frames)


def test_a_last_frame_that_is_not_given_is_no_image_token(beside):
    seen = []
    forward = beside.base.transformer.prepare
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            beside.base.transformer,
            "prepare",
            lambda *args, image, **beside: (
                seen.append(image) or forward(*args, image=image, **beside)
            ),
        )
        beside("x", image=picture(0), guidance=1.0, steps=1)
    (image,) = seen
    assert image.shape == (1, 10, 16)
    assert image[:, :5].any() and not image[:, 5:].any()


def test_clean_frames_stay_as_they_are_and_the_rest_follows_them(clean):
    vae = clean.base.autoencoder
    made = [clean("a red circle", image=picture(n), seed=1).frames for n in (0, 1)]
    with torch.no_grad():
        for number, frames in enumerate(made):
            alone = vae.encode(to_video(torch.from_numpy(picture(number))[None, None])).mode()
            shown = to_frames(vae.decode(alone))[0, 0]
            assert np.abs(frames[0].astype(int) - shown).max() <= 1
    assert not np.array_equal(made[0][1:], made[1][1:])
    two = clean("x", image=np.stack([picture(0)] * 5), num_frames=9)
    assert two.provenance["given_frames"] == [5, 0]
    assert two.frames.shape[0] == 9


def test_tokens_of_clean_frames_have_time_zero(clean):
    seen = []
    forward = clean.base.transformer.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            clean.base.transformer,
            "forward",
            lambda x, t, *args, **beside: seen.append(t) or forward(x, t, *args, **beside),
        )
        clean("x", image=picture(0), steps=2, guidance=2.0)
        clean("x", steps=1)
    assert seen[1].tolist() == [[0.0] * 6 + [0.5] * 6] * 2
    assert seen[2].tolist() == [1.0, 1.0]


def test_a_model_that_may_do_without_makes_clips_of_text_alone(clean, folders):
    alone = TextToVideo.open(folders / "clean", device="cpu")("a red circle", seed=3)
    assert np.array_equal(alone.frames, clean("a red circle", seed=3).frames)
    assert not np.array_equal(alone.frames, clean("a red circle", image=picture(0), seed=3).frames)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ({}, r"1 first and 0 last or 1 first and 1 last frames, not 0 first and 0 last"),
        ({"last_image": picture(1)}, "not 0 first and 1 last"),
        ({"image": np.stack([picture(0)] * 2)}, "not 2 first and 0 last"),
        ({"image": picture(0), "num_frames": 1}, "1 frames are given of a clip of num_frames=1"),
        ({"image": picture(0).astype(float)}, "uint8 pixels"),
    ],
)
def test_frames_that_a_model_does_not_know_are_told_by_name(beside, shown, words):
    with pytest.raises(RequestError, match=words):
        beside("x", **shown)


def test_the_command_begins_with_a_picture_of_any_size(folders, tmp_path):
    Image.fromarray(picture(0)).resize((96, 64), Image.Resampling.NEAREST).save(tmp_path / "a.png")
    out = tmp_path / "clip.mp4"
    main([str(folders / "clean"), "x", "--image", str(tmp_path / "a.png"), "--out", str(out)])
    told = read_provenance(out)
    assert told["given_frames"] == [1, 0]
    assert len(told["given_sha256"]) == 64


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("text", ["--image"], "text-to-video model and takes no picture"),
        ("beside", [], "image-to-video model that is given 1 first and 0 last"),
        ("clean", ["--last-image"], "1 first and 0 last or 5 first and 0 last or none frames"),
    ],
)
def test_the_command_refuses_pictures_by_name(folders, model, tmp_path, name, options, words):
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    folder = model if name == "text" else folders / name
    with pytest.raises(ConfigError, match=words):
        main([str(folder), "x", *(word for o in options for word in (o, str(tmp_path / "a.png")))])


def test_a_picture_that_is_not_there_is_told(folders):
    with pytest.raises(ConfigError, match=r"there is no file 'nowhere\.png' for image"):
        main([str(folders / "clean"), "x", "--image", "nowhere.png"])


def test_another_image_encoder_is_refused(beside, tmp_path):
    other = open_image_encoder(str(make_vision_folder(tmp_path / "other", seed=5)))
    with pytest.raises(ConfigError, match="trained with other image encoders"):
        ImageToVideo(beside.base, [other, other])


def test_every_text_encoder_must_be_the_one_of_the_training(folders, tmp_path):
    card = ModelFolder.open(folders / "clean").card
    (further,) = card.more_texts
    changed = dataclasses.replace(further, config=dataclasses.replace(WIDE, seed=4))
    for name, texts, words in (
        ("other", (changed,), "another text encoder; seed: 4, not 0"),
        ("fewer", (), "takes those of 2 text encoders"),
    ):
        ModelFolder.save(
            tmp_path / name,
            dataclasses.replace(card, more_texts=texts),
            autoencoder=make_autoencoder(),
            transformer=make_transformer(more_text_dims=(24,)),
        )
        with pytest.raises(ConfigError, match=words):
            TextToVideo.open(tmp_path / name, device="cpu")
