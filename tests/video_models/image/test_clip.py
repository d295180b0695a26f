"""A CLIP vision model from a tiny folder of random weights; nothing is downloaded."""

import json

import pytest
import torch

from video_models.image.clip import MEAN, STD, open_image_encoder

transformers = pytest.importorskip("transformers")


@pytest.fixture
def folder(tmp_path):
    return make_vision_folder(tmp_path / "clip")


def make_vision_folder(path, seed=0):
    torch.manual_seed(seed)
    config = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    transformers.CLIPVisionModel(config).save_pretrained(path)
    return path


def images(height=8, width=8):
    draw = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, height, width), generator=draw, dtype=torch.uint8)


def test_it_gives_what_the_model_gives_for_normalised_pixels(folder):
    model = transformers.CLIPVisionModel.from_pretrained(folder)
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (MEAN, STD))
    with torch.no_grad():
        found = model((images() / 255 - mean) / std, output_hidden_states=True)
    tokens = open_image_encoder(str(folder)).encode(images())
    pooled = open_image_encoder(str(folder), "pooled").encode(images())
    assert (tokens.shape, pooled.shape) == ((2, 5, 16), (2, 1, 16))
    torch.testing.assert_close(tokens, found.hidden_states[-2])
    torch.testing.assert_close(pooled[:, 0], found.pooler_output)


def test_an_image_of_any_size_is_taken_whole(folder):
    encoder = open_image_encoder(str(folder))
    plain = torch.full((1, 3, 24, 40), 99, dtype=torch.uint8)
    torch.testing.assert_close(encoder.encode(plain), encoder.encode(plain[..., :8, :8]))
    border = plain.clone()
    border[..., :4] = 255
    assert (encoder.encode(border) - encoder.encode(plain)).abs().max() > 1e-3


def test_the_identity_follows_weights_pixels_and_output(folder):
    before = open_image_encoder(str(folder)).identity
    assert open_image_encoder(str(folder), "pooled").identity != before
    other = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(other))
    encoder = open_image_encoder(str(folder))
    assert encoder.identity == {**before, "mean": [0.5] * 3, "std": [0.5] * 3}
    encoder._model.get_parameter(next(iter(dict(encoder._model.named_parameters())))).data += 1
    encoder._model.save_pretrained(folder)
    assert open_image_encoder(str(folder)).identity["weights"] != before["weights"]


def test_a_folder_without_safetensors_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere holds no CLIP vision model"):
        open_image_encoder(str(tmp_path / "nowhere"))
