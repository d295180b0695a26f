"""Where decoding may begin: the packets that no later frame looks behind.

A container's mark is not enough: some mark every packet. So the packet itself must say that it
holds a key frame, in the bits of its codec.
"""

import re
from collections.abc import Callable, Iterator

_H264_IDR, _H264_SETS = {5}, {7, 8}
_HEVC_RANDOM_ACCESS, _HEVC_SETS = set(range(16, 22)), {32, 33, 34}


def starts_anew(packet: bytes, codec: str, extradata: bytes) -> bool:
    """Whether no frame that is shown with or after a packet's looks back behind the packet.

    Args:
        packet: what the container stores of one frame, and marks as a key frame.
        codec: a canonical name; False for one that is not in `ENTRIES`.
        extradata: what the container stores of the stream.
    """
    return codec in ENTRIES and ENTRIES[codec](packet, extradata)


def parameter_sets(packet: bytes, codec: str, extradata: bytes) -> set[int]:
    """Return the kinds of parameter sets that an H.264 or HEVC packet brings along."""
    if codec == "h264":
        return _h264_units(packet, extradata) & _H264_SETS
    return _hevc_units(packet, extradata) & _HEVC_SETS if codec == "hevc" else set()


def _h264_units(packet: bytes, extradata: bytes) -> set[int]:
    """Kinds of units, ITU-T H.264, table 7-1."""
    return {head & 31 for head in _unit_heads(packet, extradata, length_at=4)}


def _hevc_units(packet: bytes, extradata: bytes) -> set[int]:
    """Kinds of units, ITU-T H.265, table 7-1."""
    return {head >> 1 & 63 for head in _unit_heads(packet, extradata, length_at=21)}


def _unit_heads(data: bytes, extradata: bytes, *, length_at: int) -> Iterator[int]:
    """Yield the first byte of each NAL unit, between start codes or behind its length."""
    if extradata[:1] != b"\x01" or len(extradata) <= length_at:
        yield from (
            data[found.end()] for found in re.finditer(rb"\x00\x00\x01(?=.)", data, re.DOTALL)
        )
        return
    length_bytes = (extradata[length_at] & 3) + 1
    place = 0
    while place + length_bytes < len(data):
        yield data[place + length_bytes]
        place += length_bytes + int.from_bytes(data[place : place + length_bytes], "big")


def _h264(packet: bytes, extradata: bytes) -> bool:
    return bool(_h264_units(packet, extradata) & _H264_IDR)


def _hevc(packet: bytes, extradata: bytes) -> bool:
    return bool(_hevc_units(packet, extradata) & _HEVC_RANDOM_ACCESS)


def _av1(packet: bytes, _extradata: bytes) -> bool:
    """A sequence header, and a key frame that is shown: AV1 bitstream, 5.3, 5.5 and 5.9.2."""
    place, described = 0, False
    while place + 1 < len(packet):
        kind = packet[place] >> 3 & 15
        extended, sized = packet[place] & 4, packet[place] & 2
        place += 2 if extended else 1
        size, place = _leb128(packet, place) if sized else (len(packet) - place, place)
        described |= kind == 1
        if kind in (3, 6):  # show_existing_frame = 0, frame_type = 00, show_frame = 1
            return described and place < len(packet) and packet[place] >> 4 == 0b0001
        place += size
    return False


def _leb128(data: bytes, place: int) -> tuple[int, int]:
    """Read a number of 7 bits a byte, and return it with the place behind it."""
    value = 0
    for index, byte in enumerate(data[place : place + 8]):
        value |= (byte & 127) << 7 * index
        if not byte & 128:
            return value, place + index + 1
    return value, len(data)


def _vp9(packet: bytes, _extradata: bytes) -> bool:
    """show_existing_frame and frame_type are 0: VP9 bitstream, 6.2."""
    profile_3 = packet[:1] and packet[0] & 0b110000 == 0b110000
    return len(packet) > 0 and packet[0] & (0b110 if profile_3 else 0b1100) == 0


def _vp8(packet: bytes, _extradata: bytes) -> bool:
    """The lowest bit is 0: RFC 6386, 9.1."""
    return len(packet) > 0 and not packet[0] & 1


def _mpeg4(packet: bytes, _extradata: bytes) -> bool:
    """vop_coding_type is 0, intra: ISO/IEC 14496-2, 6.2.5."""
    found = re.search(rb"\x00\x00\x01\xb6(.)", packet, re.DOTALL)
    return found is not None and found[1][0] >> 6 == 0


def _mpeg2(packet: bytes, _extradata: bytes) -> bool:
    """picture_coding_type is 1, intra, behind a sequence header: ISO/IEC 13818-2, 6.2."""
    found = re.search(rb"\x00\x00\x01\xb3.*?\x00\x00\x01\x00.(.)", packet, re.DOTALL)
    return found is not None and found[1][0] >> 3 & 7 == 1


def _always(_packet: bytes, _extradata: bytes) -> bool:
    return True


ENTRIES: dict[str, Callable[[bytes, bytes], bool]] = {
    "av1": _av1,
    "h264": _h264,
    "hevc": _hevc,
    "mjpeg": _always,
    "mpeg2video": _mpeg2,
    "mpeg4": _mpeg4,
    "prores": _always,
    "vp8": _vp8,
    "vp9": _vp9,
}
"""Whether decoding may begin at a packet, by codec."""
