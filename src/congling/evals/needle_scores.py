"""What answers to needles come to: the share of each cell, of each length, and the effective length.

The effective length is RULER's (Hsieh et al. 2024): the longest up to which a model is as good as at the
length it was trained at. As shares of a few hundred cases are not sure, a length falls short where its share
is below by more than both intervals allow.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from congling.evals.paired import Measured, difference
from congling.evals.scores import Score, share

NAME = "needles"
ALL = "all"
"""In the place of a kind: every kind together."""
EFFECTIVE, OWN, WRITTEN, WINDOW = "effective-length", "at-trained-length", "written", "window"
_LIKELIEST = (
    "facts of the small world in texts of this many tokens, at this depth (%): the right answer is likelier "
    "than all others of its form"
)
_WRITTEN = "the same needles: the greedy text to the end of the line, by the exact rule of the world"
_WINDOW = "the same needles, of which {who} reads the last {trained} tokens alone: a sliding window"
_EFFECTIVE = (
    "the longest up to which the share is not certainly below that at {trained} tokens; 0 where it is no "
    "better than chance there"
)


@dataclass(frozen=True)
class Answered:
    """How a problem was answered."""

    likeliest: bool
    """Whether the right answer is likelier than each other."""
    written: bool
    """Whether greedy decoding writes it."""


@dataclass(frozen=True)
class Cell:
    """Answers of one kind, length and depth."""

    kind: str
    length: int
    depth: int
    answers: Sequence[Answered]
    windowed: Sequence[Answered] = ()
    """To the same problems, of which only the last trained length was read."""
    chance: float = field(default=0.0, kw_only=True)


Measure = Callable[[Answered], bool]
_MEASURES: tuple[tuple[str, str, Measure], ...] = (
    ("", _LIKELIEST, lambda one: one.likeliest),
    (f"/{WRITTEN}", _WRITTEN, lambda one: one.written),
)


def scores(cells: Sequence[Cell], trained: int, who: str = "this model") -> list[Score]:
    """All scores of some cells: each, all depths of a length, the effective length; last every kind together.

    ``who`` reads the window. Names are ``needles/KIND/LENGTH/DEPTH``, ``needles/KIND/LENGTH`` and
    ``needles/KIND/effective-length``; what was written is scored under the same with ``/written``.
    """
    found: list[Score] = []
    for kind in dict.fromkeys(cell.kind for cell in cells):
        own = [cell for cell in cells if cell.kind == kind]
        for cell in own:
            found += _shares(f"{NAME}/{kind}/{cell.length}/{cell.depth}", [cell])
            if cell.windowed:
                found.append(_windowed(cell, trained, who))
        found += _by_length(kind, own, trained)
    return [*found, *_by_length(ALL, cells, trained)]


def _shares(name: str, cells: Sequence[Cell]) -> list[Score]:
    """Both measures of some cells together."""
    answers = [one for cell in cells for one in cell.answers]
    chance = sum(cell.chance * len(cell.answers) for cell in cells) / len(answers)
    return [
        share(name + suffix, list(map(measure, answers)), protocol, chance=None if suffix else chance)
        for suffix, protocol, measure in _MEASURES
    ]


def _windowed(cell: Cell, trained: int, who: str) -> Score:
    hits = [one.likeliest for one in cell.windowed]
    name = f"{NAME}/{cell.kind}/{cell.length}/{cell.depth}/{WINDOW}"
    protocol = _WINDOW.format(trained=trained, who=who)
    return share(name, hits, protocol, chance=cell.chance, reference=True)


def _by_length(kind: str, cells: Sequence[Cell], trained: int) -> Iterator[Score]:
    """Shares of each length, and the effective length by both measures."""
    shares: list[list[Score]] = []
    lengths = sorted({cell.length for cell in cells})
    for length in lengths:
        shares.append(_shares(f"{NAME}/{kind}/{length}", [cell for cell in cells if cell.length == length]))
        yield from shares[-1]
    for number, (suffix, _, _) in enumerate(_MEASURES):
        by_length = {length: some[number] for length, some in zip(lengths, shares, strict=True)}
        own = max((length for length in lengths if length <= trained), default=None)
        if own is not None:
            told = f"all depths, at the length that the model was trained at: {own} tokens"
            yield replace(by_length[own], name=f"{NAME}/{kind}/{OWN}{suffix}", protocol=told, reference=True)
            yield Score(
                f"{NAME}/{kind}/{EFFECTIVE}{suffix}",
                effective_length(by_length, own),
                by_length[own].n,
                "tokens",
                _EFFECTIVE.format(trained=own),
            )


def effective_length(by_length: dict[int, Score], own: int) -> int:
    """The longest length up to which no share is certainly below that at ``own`` tokens; 0 where that one is
    no better than chance."""
    base = by_length[own]
    if (base.low or 0.0) <= (base.chance or 0.0):
        return 0

    def holds(length: int) -> bool:
        found = difference(_measured(base), _measured(by_length[length]))
        return not (found.certain and found.value < 0)

    longer = sorted(length for length in by_length if length > own)
    return max([own, *takewhile(holds, longer)])


def _measured(score: Score) -> Measured:
    return Measured(score.value, score.low, score.high, score.n)
