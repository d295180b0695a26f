"""The CLIP score with a tiny model of random weights; nothing is downloaded."""

import json

import pytest
import torch

from video_models.image.clip_score import open_clip_score

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:transformers")


def make_clip_folder(path):
    """A whole CLIP model with a tokenizer that knows a few letters."""
    torch.manual_seed(0)
    path.mkdir()
    vocab = ["<|startoftext|>", "<|endoftext|>", *"abcdert", *(f"{c}</w>" for c in "abcdert")]
    (path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(vocab)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(path / "vocab.json"), str(path / "merges.txt"))
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}
    )
    transformers.CLIPProcessor(images, tokenizer).save_pretrained(path)
    part = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    config = transformers.CLIPConfig(
        text_config={
            **part, "num_attention_heads": 2, "vocab_size": len(vocab), "eos_token_id": 1,
            "bos_token_id": 0, "max_position_embeddings": 16,
        },
        vision_config={**part, "num_attention_heads": 2, "image_size": 8, "patch_size": 4},
        projection_dim=8,
    )  # fmt: skip
    transformers.CLIPModel(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_clip_folder(tmp_path_factory.mktemp("clip") / "model")


def clips():
    draw = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 4, 3, 12, 10), generator=draw, dtype=torch.uint8)


CAPTIONS = ["a red cat", "bad", "a"]


def test_it_is_the_cosine_of_the_models_own_similarity_averaged_over_frames(folder):
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.CLIPProcessor.from_pretrained(folder)
    expected = []
    for clip, caption in zip(clips(), CAPTIONS, strict=True):
        inputs = processor(text=[caption], images=list(clip), return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits_per_image[:, 0] / model.logit_scale.exp()
        expected.append(100 * logits.clamp_min(0).mean())
    found = open_clip_score(str(folder))(clips(), CAPTIONS)
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-4, rtol=0)
    assert found.unique().numel() == 3


def test_a_caption_too_many_is_an_error(folder):
    with pytest.raises(ValueError, match="2 captions for 3 clips"):
        open_clip_score(str(folder))(clips(), CAPTIONS[:2])


def test_a_long_caption_is_cut(folder):
    score = open_clip_score(str(folder))
    assert score(clips(), ["a " * 40] * 3).isfinite().all()


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere holds no CLIP model"):
        open_clip_score(str(tmp_path / "nowhere"))
