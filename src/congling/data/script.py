"""Which script a text is in, from counts of its characters.

The national standards of the two regions differ where the scripts differ: a character in GB 2312 but not
in Big5 is a simplified form, one in Big5 but not in GB 2312 a traditional (or rare) one. No list has to
be kept.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from congling.data.statistics import END


@cache
def _tables() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Code points of simplified forms, and of traditional ones."""
    hans, hant = [], []
    for code in range(0x4E00, 0xA000):
        simple, traditional = _encodes(chr(code), "gb2312"), _encodes(chr(code), "big5")
        if simple and not traditional:
            hans.append(code)
        elif traditional and not simple:
            hant.append(code)
    return np.array(hans), np.array(hant)


def _encodes(character: str, codec: str) -> bool:
    try:
        character.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def describe(counts: NDArray[np.int64]) -> dict[str, float | str]:
    """A guess (hans, hant, mixed, latin, other) and the shares of characters it rests on.

    ``counts`` has one entry a code point, as :class:`congling.data.statistics.CharacterCounts` keeps them.
    """
    total = max(int(counts[:END].sum()), 1)
    hans, hant = (int(counts[table].sum()) for table in _tables())
    han = int(counts[0x3400:0xA000].sum() + counts[0xF900:0xFB00].sum() + counts[0x20000:0x33480].sum())
    latin = int(counts[0x41:0x5B].sum() + counts[0x61:0x7B].sum() + counts[0xC0:0x250].sum())
    if han < 0.1 * max(han + latin, 1):
        guess = "latin" if latin > 0.2 * total else "other"
    elif latin > 2 * han or min(hans, hant) > 0.1 * max(
        hans + hant, 1
    ):  # a letter says about a fifth of what a Han character says
        guess = "mixed"
    else:
        guess = "hans" if hans >= hant else "hant"
    shares = {"han": han, "simplified_only": hans, "traditional_only": hant, "latin": latin}
    return {"guess": guess, **{name: round(count / total, 4) for name, count in shares.items()}}
