"""The form of couplets, judged without the grammar: equal length and category by category."""

from collections.abc import Mapping
from functools import cache

from congling.data.smallworld.package_data import table
from congling.data.smallworld.script import to_traditional


def couplet_faults(text: str) -> list[str | None]:
    """One entry for every pair of sides in the lines of couplets of a text: None, or what is wrong with it.

    A line of couplets is one that holds nothing but sides, like ``云对雨，花对柳。`` or ``上联，下联。``
    """
    faults: list[str | None] = []
    for line in text.splitlines():
        pairs = _pairs_of(line.strip())
        faults += [couplet_fault(upper, lower) for upper, lower in pairs]
    return faults


def _pairs_of(line: str) -> list[tuple[str, str]]:
    parts = line.removesuffix("。").split("，")
    if not line.endswith("。") or not all(0 < len(part) <= 9 for part in parts):
        return []
    pairs = [tuple(part.replace("對", "对").split("对")) for part in parts]
    if all(len(pair) == 2 for pair in pairs):
        return [(pair[0], pair[1]) for pair in pairs]
    if len(parts) != 2 or not all(set(part) <= _known().keys() for part in parts):
        return []
    return [(parts[0], parts[1])]


def couplet_fault(upper: str, lower: str) -> str | None:
    """What is wrong with a pair of sides, or None if nothing is.

    >>> couplet_fault("白鹭飞青岭", "黄莺入翠溪") is None
    True
    """
    if len(upper) != len(lower):
        return f"{upper} and {lower} differ in length"
    known = _known()
    for above, below in zip(upper, lower, strict=True):
        if above == below:
            return f"{above} answers itself"
        if not known.get(above, frozenset()) & known.get(below, frozenset()):
            return f"{below} is of another category than {above}"
    return None


@cache
def _known() -> Mapping[str, frozenset[str]]:
    """Categories of every character of the couplets, in both scripts; words of two count place by place."""
    known: dict[str, set[str]] = {}
    for name, text in table("lexicon")["couplets"].items():
        bare = name.removesuffix("_level").removesuffix("_oblique")
        for word in [*text.split(), *to_traditional(text).split()]:
            for place, character in enumerate(word):
                known.setdefault(character, set()).add(f"{bare} {place}")
    return {character: frozenset(names) for character, names in known.items()}
