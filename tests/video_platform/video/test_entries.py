"""Key frames are told from the bits of their codec, on packets of real encoders."""

import io

import av
import pytest

from video_platform.video.entries import parameter_sets, starts_anew

ENCODERS = {
    "av1": ("libsvtav1", {"preset": "10"}),
    "h264": ("libx264", {"bf": "2"}),
    "hevc": ("libx265", {"x265-params": "log-level=none:keyint=5"}),
    "mpeg2video": ("mpeg2video", {"bf": "2"}),
    "mpeg4": ("mpeg4", {"bf": "2"}),
    "vp8": ("libvpx", {}),
    "vp9": ("libvpx-vp9", {}),
}


def packets(data):
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        extradata = stream.codec_context.extradata or b""
        for packet in container.demux(stream):
            if packet.size:
                yield bytes(packet), extradata, packet.is_keyframe


@pytest.mark.parametrize("container", ["matroska", "mpegts"])
@pytest.mark.parametrize("codec", ENCODERS)
def test_the_bits_agree_with_the_mark_of_the_muxer(media, codec, container):
    if container == "mpegts" and codec in ("vp8", "vp9", "av1"):
        pytest.skip("MPEG transport streams do not hold it")
    encoder, options = ENCODERS[codec]
    data = media.video(media.grey(12, 64, 96), codec=encoder, container=container, g="5", **options)
    told = [
        (starts_anew(packet, codec, extradata), mark) for packet, extradata, mark in packets(data)
    ]
    assert all(bits == mark for bits, mark in told)
    assert 2 <= sum(bits for bits, _ in told) < 12


def test_a_picture_that_others_look_behind_is_no_entry(media):
    data = media.video(
        media.grey(24), container="matroska", g="6", bf="2", **{"x264-params": "open-gop=1"}
    )
    entries = [starts_anew(packet, "h264", extra) for packet, extra, _ in packets(data)]
    assert entries == [True] + 23 * [False]


def test_parameter_sets_within_the_stream_are_seen(media):
    inside = [
        parameter_sets(packet, "h264", extra)
        for packet, extra, _ in packets(media.video(media.grey(8), container="mpegts", g="4"))
    ]
    assert inside[0] == inside[4] == {7, 8}
    assert inside[1] == set()
    outside = [
        parameter_sets(packet, "h264", extra)
        for packet, extra, _ in packets(media.video(media.grey(8), g="4"))
    ]
    assert outside[0] == set()


@pytest.mark.parametrize("codec", [*ENCODERS, "prores", "theora"])
@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\1", b"\xff" * 40, b"\0" * 40])
def test_nonsense_is_no_entry_and_no_error(codec, data):
    assert starts_anew(data, codec, b"") in (True, False)
    assert starts_anew(data, codec, b"\x01") in (True, False)
    assert starts_anew(data, "theora", b"") is False
