"""High dynamic range to standard range: PQ or HLG to BT.709, as the ITU's papers say.

Signal to light on the display: PQ's EOTF, or HLG's inverse OETF and its OOTF for a display of
1000 cd/m2 (Rec. ITU-R BT.2100, tables 4 and 5). Bright light is rolled off so that 1000 cd/m2, and
whatever is brighter, becomes 203 cd/m2, the white of standard range (Report ITU-R BT.2408): the
EETF of Report ITU-R BT.2390, 5.4.1, on the largest of red, green and blue, which keeps the hue.
Light below 88 cd/m2 stays what it is. Then primaries to BT.709 (Report ITU-R BT.2407, clipped), and
light to signal by the inverse of Rec. ITU-R BT.1886.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Signal = NDArray[np.uint16]  # (H, W, 3), R'G'B' from 0 to 65535

SOURCE_PEAK = 1000.0  # cd/m2
TARGET_PEAK = 203.0  # cd/m2

_PQ = (
    2610 / 16384,
    2523 / 4096 * 128,
    3424 / 4096,
    2413 / 4096 * 32,
    2392 / 4096 * 32,
)  # m1, m2, c1, c2, c3
_HLG = 0.17883277, 1 - 4 * 0.17883277, 0.5 - 0.17883277 * float(np.log(4 * 0.17883277))  # a, b, c
_STEPS = 1 << 16
_ROWS = 128  # rows converted at a time, which bounds the memory
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)
_BT2020_TO_BT709 = np.array(
    [
        [1.660491, -0.587641, -0.072850],
        [-0.124550, 1.132900, -0.008349],
        [-0.018151, -0.100579, 1.118730],
    ],
    np.float32,
)


def pq_to_light(signal: Array) -> Array:
    """Return cd/m2 for a PQ signal from 0 to 1: the EOTF of BT.2100, table 4."""
    m1, m2, c1, c2, c3 = _PQ
    power = np.power(signal, 1 / m2)
    light: Array = 10_000 * np.power(np.maximum(power - c1, 0) / (c2 - c3 * power), 1 / m1)
    return light


def light_to_pq(light: Array) -> Array:
    """Return the PQ signal for cd/m2, the inverse of `pq_to_light`."""
    m1, m2, c1, c2, c3 = _PQ
    power = np.power(light / 10_000, m1)
    signal: Array = np.power((c1 + c2 * power) / (1 + c3 * power), m2)
    return signal


def hlg_to_scene(signal: Array) -> Array:
    """Return a scene's light, 0 to 1, for an HLG signal: the inverse OETF of BT.2100, table 5."""
    a, b, c = _HLG
    scene: Array = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return scene


def roll_off(light: Array) -> Array:
    """Return what light becomes, both in cd/m2: the EETF of BT.2390, 5.4.1, with no black lift."""
    white = float(light_to_pq(np.array(SOURCE_PEAK)))
    highest = float(light_to_pq(np.array(TARGET_PEAK))) / white
    knee = 1.5 * highest - 0.5
    signal = np.minimum(light_to_pq(light) / white, 1)
    t = (signal - knee) / (1 - knee)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee
    curve += (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * highest
    return pq_to_light(np.where(signal < knee, signal, curve) * white)


def to_standard_range(signal: Signal, *, hlg: bool, wide: bool) -> NDArray[np.uint8]:
    """Convert a picture of high dynamic range.

    Args:
        signal: R'G'B' (H, W, 3).
        hlg: whether it is HLG; else it is PQ.
        wide: whether its primaries are those of BT.2020; else they are BT.709's.

    Returns:
        R'G'B' (H, W, 3) of BT.709.
    """
    shown = np.empty(signal.shape, np.uint8)
    for top in range(0, len(signal), _ROWS):
        shown[top : top + _ROWS] = _convert(signal[top : top + _ROWS], hlg=hlg, wide=wide)
    return shown


def _convert(signal: Signal, *, hlg: bool, wide: bool) -> NDArray[np.uint8]:
    light = (_hlg_table() if hlg else _pq_table())[signal]  # 1 is the peak of the source
    if hlg:
        scene_luma = light @ _BT2020_LUMA
        light *= np.power(scene_luma, 0.2)[..., None]  # OOTF: gamma is 1.2 at 1000 cd/m2
    largest = light.max(axis=-1)
    light *= _gain_table()[_root_index(largest)][..., None]  # 1 is the peak of the target
    if wide:
        light = light @ _BT2020_TO_BT709.T
    return _encode_table()[_root_index(light)]


def _root_index(light: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return where light from 0 to 1 lies in tables whose steps are even in its root."""
    return (np.sqrt(np.clip(light, 0, 1)) * (_STEPS - 1) + 0.5).astype(np.uint16)


def _steps() -> Array:
    return np.arange(_STEPS) / (_STEPS - 1)


@cache
def _pq_table() -> NDArray[np.float32]:
    return np.minimum(pq_to_light(_steps()) / SOURCE_PEAK, 1).astype(np.float32)


@cache
def _hlg_table() -> NDArray[np.float32]:
    return hlg_to_scene(_steps()).astype(np.float32)


@cache
def _gain_table() -> NDArray[np.float32]:
    light = np.maximum(_steps(), 0.5 / _STEPS) ** 2 * SOURCE_PEAK
    return (roll_off(light) / light * SOURCE_PEAK / TARGET_PEAK).astype(np.float32)


@cache
def _encode_table() -> NDArray[np.uint8]:
    return np.round(255 * np.power(_steps(), 2 / 2.4)).astype(np.uint8)
