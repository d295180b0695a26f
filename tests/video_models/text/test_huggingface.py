"""Published encoders from tiny folders of random weights; nothing is downloaded."""

import pytest
import torch

from video_models.text.config import TextConfig
from video_models.text.encoder import open_text_encoder

transformers = pytest.importorskip("transformers")

WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "circle", "moves", "left"]


def word_tokenizer(folder, cls, **specials):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    cls(tokenizer_object=core, **specials).save_pretrained(folder)


def make_text_folder(kind, path):
    """Write an encoder of random weights, 16 wide."""
    torch.manual_seed(0)
    if kind == "clip":
        config = transformers.CLIPTextConfig(
            vocab_size=8,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            eos_token_id=1,
            bos_token_id=1,
            pad_token_id=0,
        )
        transformers.CLIPTextModel(config).save_pretrained(path)
    else:
        model = transformers.UMT5EncoderModel if kind == "umt5" else transformers.T5EncoderModel
        config = model.config_class(
            vocab_size=400, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
        )
        model(config).save_pretrained(path)
    if kind != "byt5":
        word_tokenizer(
            path,
            transformers.PreTrainedTokenizerFast,
            pad_token="<pad>",
            eos_token="</s>",
            unk_token="<unk>",
        )


@pytest.fixture(params=["byt5", "clip", "t5", "umt5"])
def folder(request, tmp_path):
    make_text_folder(request.param, tmp_path / request.param)
    return request.param, tmp_path / request.param


def open_at(folder, **changes):
    kind, path = folder
    return open_text_encoder(TextConfig(kind=kind, path=str(path), **changes))


def test_captions_of_any_length_give_their_own_tokens(folder):
    encoder = open_at(folder, max_tokens=12)
    long, short, empty = encoder.encode(["a red circle", "red", ""])
    expected = {"byt5": (12, 4, 1)}.get(encoder.name, (4, 2, 1))
    assert (len(long), len(short), len(empty)) == expected
    assert {x.shape[1] for x in (long, short, empty)} == {encoder.dim} == {16}


def test_padding_does_not_change_a_caption(folder):
    encoder = open_at(folder)
    together = encoder.encode(["red", "a red circle moves left"])[0]
    torch.testing.assert_close(together, encoder.encode(["red"])[0], rtol=1e-4, atol=1e-5)


def test_a_long_caption_is_cut(folder):
    encoder = open_at(folder, max_tokens=3)
    assert len(encoder.encode(["a red circle moves left"])[0]) == 3


def test_the_identity_follows_the_weights_and_not_the_folder(folder, tmp_path):
    kind, path = folder
    before = open_at(folder).identity
    moved = path.rename(tmp_path / "elsewhere")
    assert open_at((kind, moved)).identity == before
    encoder = open_at((kind, moved))
    encoder._model.get_parameter(next(iter(dict(encoder._model.named_parameters())))).data += 1
    encoder._model.save_pretrained(moved)
    assert open_at((kind, moved)).identity != before


def test_the_identity_does_not_follow_what_was_encoded(folder):
    encoder = open_at(folder)
    encoder.encode(["a red circle"])
    assert encoder.identity == open_at(folder).identity


def test_clip_pools_a_caption_into_one_vector_beside_its_tokens(folder):
    if folder[0] != "clip":
        with pytest.raises(ValueError, match="gives only tokens"):
            open_at(folder, output="pooled")
        return
    tokens, pooled = open_at(folder), open_at(folder, output="pooled", name="clip-pooled")
    long, empty = pooled.encode(["a red circle", ""])
    assert (pooled.name, pooled.max_tokens, tokens.max_tokens) == ("clip-pooled", 1, 16)
    assert long.shape == empty.shape == (1, pooled.dim)
    torch.testing.assert_close(long[0], tokens.encode(["a red circle"])[0][-1])  # its end token
    assert tokens.identity != pooled.identity


def test_more_tokens_than_the_weights_have_positions_for_are_refused(folder):
    if folder[0] == "clip":
        with pytest.raises(ValueError, match=r"max_tokens is 17; .* reads at most 16"):
            open_at(folder, max_tokens=17)
    else:
        assert open_at(folder, max_tokens=17).max_tokens == 17


def test_half_precision_is_an_encoder_of_its_own(folder):
    full, half = open_at(folder), open_at(folder, compute="bfloat16")
    one, other = (encoder.encode(["a red circle"])[0] for encoder in (full, half))
    assert full.identity != half.identity
    assert one.dtype == other.dtype == torch.float32
    assert 0 < (one - other).abs().max() < 0.1


def test_pickled_weights_are_refused(folder, tmp_path):
    _kind, path = folder
    weights = path / "model.safetensors"
    from safetensors.torch import load_file

    torch.save(load_file(weights), path / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ValueError, match="safetensors"):
        open_at(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"text\.path is '.*nowhere'"):
        open_text_encoder(TextConfig(kind="t5", path=str(tmp_path / "nowhere")))
