"""A clip in chunks of any size gives the whole clip's numbers, with memory flat in its length."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.video_models.autoencoder.shapes import (
    UNCUT,
    VARIANTS,
    clip_of,
    latents_of,
    make_model,
)
from video_models.layers import memory as memory_module
from video_models.layers.memory import Memory, flow

MODELS = {name: make_model(name) for name in VARIANTS}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
BIG, ONE_FRAME = 1 << 19, 1


@pytest.fixture(params=VARIANTS)
def model(request):
    return MODELS[request.param]


def whole(call, x):
    """Run without a memory: every layer takes the whole clip at once."""
    with torch.enable_grad():
        return call(x)


def cut(x, sizes):
    """Cut a clip into chunks of these sizes in turn."""
    chunks = []
    while x.shape[2]:
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(x[:, :, :size])
        x = x[:, :, size:]
    return chunks


def joined(posteriors):
    posteriors = list(posteriors)
    return torch.cat([torch.cat((p.mean, p.logvar), dim=1) for p in posteriors], dim=2)


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=6, deadline=None)
@given(
    groups=st.integers(0, 3),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    piece=st.sampled_from([BIG, ONE_FRAME]),
)
def test_chunks_of_any_size_give_the_whole_clip(variant, groups, sizes, piece):
    model = MODELS[variant]
    video = clip_of(model, 1 + groups * model.config.temporal_factor, batch=2)
    latents = latents_of(model, 1 + groups, batch=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(memory_module.PIECE_ELEMENTS, "cpu", piece)
        code = joined(model.encode_stream(cut(video, sizes)))
        parts = list(model.decode_stream(cut(latents, sizes)))
    assert len(parts) == len(cut(latents, sizes))
    torch.testing.assert_close(code, joined([whole(model.encode, video)]), **CLOSE)
    torch.testing.assert_close(torch.cat(parts, dim=2), whole(model.decode, latents), **CLOSE)


def test_without_gradients_a_clip_is_a_stream_of_one_chunk(model):
    video = clip_of(model, 1 + 2 * model.config.temporal_factor)
    with torch.no_grad():
        code = model.encode(video)
        assert torch.equal(joined([code]), joined(model.encode_stream([video])))
        (parts,) = model.decode_stream([code.mean])
        assert torch.equal(model.decode(code.mean), parts)
    torch.testing.assert_close(joined([code]), joined([whole(model.encode, video)]), **CLOSE)


def kept_bytes(model, half):
    """Return what a memory holds after each of six chunks."""
    memory, sizes = Memory(), []
    for _ in range(6):
        if half is model.encoder:
            p = model.config.patch_size
            x = torch.randn(1, 3 * p * p, model.config.temporal_factor, 16, 16)
        else:
            x = latents_of(model, 1)
        with torch.no_grad():
            for _ in half.stream(x, memory):
                pass
        sizes.append(memory.size_bytes)
    return sizes


@pytest.mark.parametrize("piece", [BIG, ONE_FRAME])
def test_memory_grows_with_the_clip_by_what_is_attended_to_only(model, monkeypatch, piece):
    monkeypatch.setitem(memory_module.PIECE_ELEMENTS, "cpu", piece)
    config = model.config
    for half in (model.encoder, model.decoder):
        sizes = kept_bytes(model, half)
        positions = (16 * config.patch_size // config.spatial_factor) ** 2
        positions = positions if half is model.encoder else 2
        dim = half.mid_block.attentions[0].proj.in_channels
        keys_and_values = 2 * dim * positions * 4 * (config.mid_attention == "clip")
        assert sizes[-1] - sizes[2] == 3 * keys_and_values
        assert sizes[2] > 0 or config.kernel_frames == 1


@pytest.mark.parametrize("variant", UNCUT)
def test_what_needs_a_clip_whole_refuses_chunks_by_the_name_of_the_switch(variant):
    model = make_model(variant)
    with pytest.raises(ValueError, match=r"norm='group_clip'.*set norm to group_frame"):
        list(model.encode_stream([clip_of(model, 5)]))
    with pytest.raises(ValueError, match="norm='group_clip'"):
        list(model.decode_stream([latents_of(model, 2)]))


@pytest.mark.parametrize("variant", UNCUT)
def test_what_needs_a_clip_whole_gives_it_with_gradients_or_without(variant, monkeypatch):
    monkeypatch.setitem(memory_module.PIECE_ELEMENTS, "cpu", ONE_FRAME)
    model = make_model(variant)
    for call, x in (
        (model.decode, latents_of(model, 3, batch=2)),
        (lambda x: model(x)[0], clip_of(model, 9)),
    ):
        with torch.no_grad():
            ours, expected = call(x), whole(call, x)
        assert (ours - expected).norm() <= 1e-5 * expected.norm()


def test_a_stream_takes_a_chunk_only_when_asked_for_the_next_part(model):
    factor, taken = model.config.temporal_factor, []

    def camera():
        for number in range(1000):
            taken.append(number)
            yield clip_of(model, 1 if number == 0 else factor)

    parts = model.decode_stream(code.mean for code in model.encode_stream(camera()))
    assert [next(parts).shape[2] for _ in range(3)] == [1, factor, factor]
    assert taken == [0, 1, 2]


def test_a_stream_records_no_gradients_and_leaves_the_callers_mode_alone(model):
    (code,) = model.encode_stream([clip_of(model, 1)])
    assert not code.mean.requires_grad
    for _ in model.decode_stream([code.mean]):
        assert torch.is_grad_enabled()


def test_streams_side_by_side_do_not_mix(model):
    video = clip_of(model, 1 + 2 * model.config.temporal_factor)
    chunks = cut(video, [2]), cut(video.flip(3), [2])
    pairs = zip(*(model.encode_stream(each) for each in chunks), strict=True)
    first, second = (joined(codes) for codes in zip(*pairs, strict=True))
    torch.testing.assert_close(first, joined(model.encode_stream(chunks[0])))
    torch.testing.assert_close(second, joined(model.encode_stream(chunks[1])))


def test_an_incomplete_clip_is_refused_at_its_end():
    model = MODELS["wan_2.1"]
    stream = model.encode_stream(cut(clip_of(model, 7), [3]))
    with pytest.raises(ValueError, match="a clip of 7 frames does not fit"):
        list(stream)


def test_chunks_that_do_not_belong_together_are_refused():
    model = MODELS["wan_2.1"]
    video = clip_of(model, 5)
    with pytest.raises(ValueError, match="only the number of frames may change"):
        list(model.encode_stream([video, video.transpose(3, 4)]))
    with pytest.raises(ValueError, match=r"\(B, 3, T, H, W\)"):
        list(model.encode_stream([video[:, :2]]))
    with pytest.raises(ValueError, match=r"multiples of 8"):
        list(model.encode_stream([video[..., :7]]))
    with pytest.raises(ValueError, match=r"\(B, 4, T, H, W\)"):
        list(model.decode_stream([video]))


def test_a_chunk_without_frames_changes_nothing():
    model = MODELS["wan_2.2"]
    video = clip_of(model, 5)
    chunks = [video[:, :, :0], video[:, :, :2], video[:, :, :0], video[:, :, 2:]]
    torch.testing.assert_close(
        joined(model.encode_stream(chunks)), joined(model.encode_stream([video])), **CLOSE
    )
    assert list(model.encode_stream([])) == list(model.decode_stream([])) == []


def test_pieces_go_all_the_way_before_the_next_piece_starts(monkeypatch):
    monkeypatch.setitem(memory_module.PIECE_ELEMENTS, "cpu", 2)
    calls = []

    def stage(name):
        def call(x, memory):
            calls.append(f"{name}{x.shape[2]}")
            return x

        return call

    x = torch.randn(1, 1, 4, 1, 1)
    out = list(flow([stage("a"), stage("b")], x, Memory()))
    assert calls == ["a2", "b2", "a2", "b2"]
    assert torch.equal(torch.cat(out, dim=2), x)
