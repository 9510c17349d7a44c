"""Which documents to hold out: whole documents, by a seeded hash of their text or from the end."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from congling.data.config import SplitConfig
from congling.data.segment import cut

FEW = 10
"""Documents below which their lengths decide a random split: a tenth of so few may be most of the text."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One flag a document (true = validation), and a sentence when the wish could not be met as it stands."""

    flags: NDArray[np.bool_]
    note: str = ""


def hold_out(hashes: Sequence[int], lengths: Sequence[int], config: SplitConfig) -> HeldOut:
    """Choose validation documents; at least one, and at least one is left for training.

    ``hashes`` are :func:`congling.data.dedup.content_hash` values: the choice depends on the texts and the
    seed, not on file names. ``lengths`` are in characters.
    """
    total = len(hashes)
    flags = np.zeros(total, bool)
    if total < 2:
        return HeldOut(flags)
    if total < FEW and config.validation < 1 and config.order == "random":
        flags[_nearest(_shuffled(hashes, config.seed), lengths, config)] = True
        return HeldOut(flags)
    share = config.validation < 1
    wanted = max(1, round(config.validation * total)) if share else int(config.validation)
    note = ""
    if wanted > total // 2:
        note = f"validation = {config.validation} asks for {wanted} of {total} documents; {total // 2} are"
        wanted = total // 2
    order = range(total - 1, -1, -1) if config.order == "last" else _shuffled(hashes, config.seed)
    characters = 0
    for index in list(order)[:wanted]:
        if share and characters + lengths[index] > config.largest and characters:
            note = f"the validation share is limited to {config.largest:,} characters (split.largest)"
            break
        flags[index] = True
        characters += lengths[index]
    return HeldOut(flags, note)


def _nearest(order: Sequence[int], lengths: Sequence[int], config: SplitConfig) -> list[int]:
    """Of all choices that hold at most half of the text, one whose length is nearest to the share.

    The earliest in ``order`` among equals. There is always one, the shortest document alone.
    """
    total = sum(lengths)
    wanted = min(config.validation * total, config.largest)
    choices = itertools.chain.from_iterable(
        itertools.combinations(order, count) for count in range(1, len(order))
    )
    sizes = ((sum(lengths[index] for index in choice), choice) for choice in choices)
    allowed = ((abs(size - wanted), choice) for size, choice in sizes if 2 * size <= total)
    return list(min(allowed, key=lambda one: one[0])[1])


def _shuffled(hashes: Sequence[int], seed: int) -> list[int]:
    """Document numbers in the order of a seeded hash (splitmix64's finaliser, vectorised)."""
    key = int.from_bytes(hashlib.blake2b(f"split {seed}".encode(), digest_size=8).digest(), "little")
    mixed = np.asarray(hashes, np.uint64) ^ np.uint64(key)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.argsort(mixed ^ (mixed >> np.uint64(31)), kind="stable").tolist()


def cut_last_part(text: str, config: SplitConfig) -> tuple[str, str]:
    """Divide a lone document into a training part and its last part, at a paragraph or sentence border.

    The second is empty when the text is too short to be divided.
    """
    share = config.validation if config.validation < 1 else 0.1
    target = int(len(text) * (1 - min(share, 0.5)))
    border = text.find("\n", target)
    if border < 0 or border > len(text) * 0.97:
        border = text.rfind("\n", 1, target)
    if border < len(text) // 2:
        border = len(next(cut(text, max(target, 1)))) if len(text) > 1 else 0
    head, tail = text[:border].strip("\n"), text[border:].strip("\n")
    return (head, tail) if head and tail else (text, "")
