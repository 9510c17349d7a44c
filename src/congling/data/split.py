"""Which documents to hold out: whole documents, by a seeded hash of their text or from the end.

::

    order = "last"     │ train ……………………………… │ validation │ test │
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from congling.data.config import SplitConfig
from congling.data.segmenter import cut

FEW = 10
"""Documents below which their lengths decide a random split: a tenth of so few may be most of the text."""


HELD_OUT = {"validation": "held-out (validation)", "test": "held-out (test)"}
"""How the splits are called, wherever a number is shown, that nothing is learnt from."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Two flags a document, and a sentence for each wish that could not be met as it stands."""

    flags: NDArray[np.bool_]
    """Whether it is held out for validation."""
    test: NDArray[np.bool_]
    """Whether it is held out for the final score; never both."""
    note: str = ""


def hold_out(hashes: Sequence[int], lengths: Sequence[int], config: SplitConfig) -> HeldOut:
    """Choose test documents, then validation documents; one at least is left for training, one to validate.

    ``hashes`` are :func:`congling.data.dedup.content_hash` values: the choice depends on the texts and the
    seed, not on file names. ``lengths`` are in characters.
    """
    total, notes = len(hashes), []
    flags, test = np.zeros(total, bool), np.zeros(total, bool)
    order = list(range(total - 1, -1, -1)) if config.order == "last" else _shuffled(hashes, config.seed)
    if config.test and total == 2:
        notes.append("two documents are too few for a test document beside one for validation")
    elif config.test and total > 2:
        chosen = _chosen("test", config.test, order, lengths, config, notes, left=2)
        test[chosen] = True
        order = [index for index in order if not test[index]]
    if total > 1:
        flags[_chosen("validation", config.validation, order, lengths, config, notes, left=1)] = True
    return HeldOut(flags, test, "; ".join(notes))


def hold_out_together(hashes: Sequence[int], lengths: Sequence[int], config: SplitConfig) -> HeldOut:
    """Choose validation rows; those with equal hashes, which ask the same, stay together on one side.

    ``validation`` counts rows. A group that would go beyond it is passed over while smaller ones fit.
    """
    total = len(hashes)
    flags, none = np.zeros(total, bool), np.zeros(total, bool)
    groups: dict[int, list[int]] = {}
    for index, key in enumerate(hashes):
        groups.setdefault(key, []).append(index)
    members = list(groups.values())
    if len(members) == total:
        return hold_out(hashes, lengths, config.model_copy(update={"test": 0}))
    if len(members) < 2:
        return HeldOut(flags, none, f"all {total} rows ask the same: none can be held out")
    sizes = [sum(lengths[index] for index in group) for group in members]
    order = _shuffled(list(groups), config.seed)
    if config.order == "last":
        order = sorted(range(len(members)), key=lambda i: -members[i][-1])
    share, notes = config.validation < 1, list[str]()
    wanted = max(1, round(config.validation * total)) if share else int(config.validation)
    if len(members) < FEW and share and config.order == "random":
        taken = _nearest(order, sizes, min(config.validation * sum(sizes), config.largest), 1)
    else:
        most = config.largest if share else sum(sizes)
        counts = [len(group) for group in members]
        taken = _fitting(order, counts, sizes, min(wanted, total // 2), most)
    for chosen in taken:
        flags[members[chosen]] = True
    if flags.sum() != wanted:
        why = "rows that ask the same stay together"
        notes.append(f"{flags.sum()} of {total} rows are held out, not {wanted}: {why}")
    return HeldOut(flags, none, "; ".join(notes))


def _fitting(
    order: Sequence[int], counts: Sequence[int], sizes: Sequence[int], wanted: int, most: int
) -> list[int]:
    """Groups in order, until there are ``wanted`` rows or ``most`` characters; at least the smallest."""
    taken: list[int] = []
    for group in order:
        if counts[group] <= wanted and sizes[group] <= most:
            taken.append(group)
            wanted, most = wanted - counts[group], most - sizes[group]
    return taken or [min(order, key=lambda group: counts[group])]


def _chosen(
    name: str,
    asked: float,
    order: Sequence[int],
    lengths: Sequence[int],
    config: SplitConfig,
    notes: list[str],
    *,
    left: int,
) -> list[int]:
    """Numbers of the documents of one split, from those in ``order``; at least ``left`` are left over."""
    total, share = len(lengths), asked < 1
    if total < FEW and share and config.order == "random":
        return _nearest(order, lengths, min(asked * sum(lengths), config.largest), left)
    wanted = max(1, round(asked * total)) if share else int(asked)
    if wanted > len(order) // 2:
        of = f"{len(order)}" if len(order) == total else f"{len(order)} left"
        notes.append(f"{name} = {asked} asks for {wanted} of {of} documents; {len(order) // 2} are")
        wanted = len(order) // 2
    chosen: list[int] = []
    characters = 0
    for index in order[:wanted]:
        if share and characters + lengths[index] > config.largest and characters:
            notes.append(f"the {name} share is limited to {config.largest:,} characters (split.largest)")
            break
        chosen.append(index)
        characters += lengths[index]
    return chosen


def _nearest(order: Sequence[int], lengths: Sequence[int], wanted: float, left: int) -> list[int]:
    """Of all choices that hold at most half of the text, one whose length is nearest to ``wanted``.

    The earliest in ``order`` among equals. There is always one, the shortest document alone.
    """
    total = sum(lengths[index] for index in order)
    choices = itertools.chain.from_iterable(
        itertools.combinations(order, count) for count in range(1, len(order) + 1 - left)
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
