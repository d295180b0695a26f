"""Find pictures that look alike among very many, without comparing each with each.

Cut two signatures of which at most `d` bits differ into `d // 2 + 1` bands, and in one of these at
most one bit differs, whatever the bits (multi-index hashing: Norouzi, Punjani and Fleet 2012,
arXiv 1307.2982). So a signature is compared only with those that come so near in one band.
"""

import itertools
from collections.abc import Iterator, Sequence

HASH_BITS = 64


class DuplicateIndex:
    """Signatures that were let in, each unlike all of other owners before it."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._known: dict[tuple[int, int, int], list[tuple[int, str]]] = {}

    def meets(self, hashes: Sequence[str], owner: str) -> bool:
        """Say whether a signature is like one that was let in; if not, it is let in.

        Args:
            hashes: 64-bit hashes of some pictures, in hexadecimal. Only signatures of equally many
                are compared; they are alike when at most `bits` a hash differ on average.
            owner: signatures of one owner are not compared with each other.
        """
        count = len(hashes)
        signature = int("".join(hashes), 16)
        farthest = self._bits * count
        bands = list(_bands(signature, count * HASH_BITS, farthest // 2 + 1))
        for low, width, value in bands:
            for near in (value, *(value ^ 1 << bit for bit in range(width))):
                for other, known in self._known.get((count, low, near), ()):
                    if known != owner and (signature ^ other).bit_count() <= farthest:
                        return True
        for low, _, value in bands:
            self._known.setdefault((count, low, value), []).append((signature, owner))
        return False


def _bands(signature: int, bits: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Cut a signature into bands: the lowest bit, width and content of each."""
    cuts = [bits * band // count for band in range(count + 1)]
    for low, high in itertools.pairwise(cuts):
        yield low, high - low, signature >> low & (1 << high - low) - 1
