"""Needles: facts hidden in a text of wanted length, in exactly the language of the long documents.

::

    single       小武的风筝是472号。              one fact, and nothing but scenes and stories around it
    multi-key    the same among many like it: 小武's other things, and other people's 风筝
    multi-value  小武说了“松果”。…小武又说了“贝壳”。…   all of them, in the order told
    variables    设甲子是472。…设乙丑和甲子相同。      a number through one or two names
    counting     小武得了1个鸡蛋。…小武又得了1个鸡蛋。…  how many in all

The last three stand beside lines like them about something else. A text of one seed keeps its needle and the
beginning of its filler at any length, so that a length in tokens can be searched for.
"""

from itertools import accumulate
from random import Random
from typing import NamedTuple, get_args

from congling.core.errors import UserError
from congling.data.smallworld.lexicon import number_word
from congling.data.smallworld.long.choosing import Drawn, grammar
from congling.data.smallworld.long.hiding import HIDING, Draw, Hidden, NeedleKind, one, some
from congling.data.smallworld.long.lines import CHARACTERS, Line, around, write
from congling.data.smallworld.long.state import WEIGHTS
from congling.data.smallworld.script import to_traditional
from congling.data.smallworld.wordings import Script

NEEDLE_KINDS: tuple[NeedleKind, ...] = get_args(NeedleKind)
CANDIDATES = 64
"""Answers to choose among, the right one included."""
_TRIES = 500  # scenes drawn to fill the last characters exactly
_SCENES = 15, 40  # characters of scenes that come often enough to be waited for


class Needle(NamedTuple):
    """A question about a fact told before it."""

    prompt: str
    """The text up to where the answer begins."""
    answer: str
    """The rest of its line, the full stop included."""
    candidates: tuple[str, ...]
    """64 different answers of the same form, the right one among them at a random place."""
    kind: NeedleKind
    distance: int
    """Characters between the end of the first line that the answer needs and the question."""
    chance: float
    """How often an answer is right that knows nothing of the text."""


def needle(
    kind: NeedleKind, *, filler_characters: int, depth: float, seed: int, script: Script = "hans"
) -> Needle:
    """A needle of this kind at ``depth`` of the filler: 0 at its beginning, 1 at its end.

    Of several lines the first stands there, and the others follow evenly spread up to the question. The
    filler has ``filler_characters`` characters, rarely a few less, and none where they make no sentence.

    Raises:
        UserError: no such kind, a depth outside 0 to 1, or a negative length.
    """
    if kind not in HIDING:
        raise UserError("no such kind of needle", value=kind, hint=f"kinds are {', '.join(NEEDLE_KINDS)}")
    if not 0 <= depth <= 1:
        raise UserError("the depth of a needle is from 0 to 1", value=depth)
    _require_length("filler_characters", filler_characters)
    part = 3 * (1 + NEEDLE_KINDS.index(kind))
    hidden = HIDING[kind](_random(seed, part).random)
    text, end = _hide(hidden, _filler(filler_characters, _random(seed, part + 1).random, hidden), depth)
    question, behind = around(hidden.topic, hidden.about)
    behind = behind.rstrip("\n")
    turn = to_traditional if script == "hant" else str
    return Needle(
        turn(text + question),
        turn(hidden.value + behind),
        tuple(turn(value + behind) for value in _candidates(hidden, _random(seed, part + 2).random)),
        kind,
        len(text) - end,
        max(hidden.likeliest, 1 / CANDIDATES),
    )


def copy_problem(
    segment_characters: int, distance_characters: int, seed: int, script: Script = "hans"
) -> tuple[str, str]:
    """A text that asks for a line of random characters again, and that line.

    ``distance_characters`` lie between the end of the segment and where its copy begins, rarely a few less:
    the marks around the two, which are 8, and filler.

    Raises:
        UserError: a segment without characters, or a negative distance.
    """
    if segment_characters < 1:
        raise UserError("a segment to copy has characters", value=segment_characters)
    _require_length("distance_characters", distance_characters)
    draw = _random(seed, 0).random
    segment = "".join([one(CHARACTERS, draw) for _ in range(segment_characters)])
    noted = write(Line("note", (number_word(1), segment)))
    asking = write(Line("recite", (number_word(1), "\0"))).partition("\0")[0]
    marks = len(asking) + len(noted) - noted.index(segment) - len(segment)
    text = noted + "".join(_filler(max(0, distance_characters - marks), _random(seed, 1).random)) + asking
    return (to_traditional(text), to_traditional(segment)) if script == "hant" else (text, segment)


def _require_length(name: str, value: int) -> None:
    if value < 0:
        raise UserError(f"{name} is not negative", value=value)


def _random(seed: int, part: int) -> Random:
    """Numbers of one part of a needle, and of no document or row: above all of their seeds and indices."""
    return Random(1 << 129 | (seed & (1 << 64) - 1) << 8 | part)


def _filler(characters: int, draw: Draw, hidden: Hidden | None = None) -> list[str]:
    """Scenes and stories, as often as in documents, and what the hidden fact has beside it."""
    weights = {kind: WEIGHTS[kind] for kind in ("scene", "story")}
    beside = hidden.beside if hidden is not None else None
    if beside is not None:
        weights["beside"] = 2 * sum(weights.values())
    lines, left = list[str](), characters
    tries = _TRIES
    while left >= _SCENES[0] and tries:
        kind = Drawn(draw).kind(weights if left > 2 * _SCENES[1] else {"scene": 1})
        text = write(beside(draw)) if beside is not None and kind == "beside" else _told(kind, draw)
        # what is left over has to be nothing, or what one scene can fill
        if len(text) == left or len(text) + _SCENES[0] + 5 <= left:
            lines.append(text)
            left -= len(text)
        elif left <= 2 * _SCENES[1]:
            tries -= 1
    return lines


def _told(kind: str, draw: Draw) -> str:
    return write(Line(kind, (grammar(kind).write(draw)[0],)))


def _hide(hidden: Hidden, filler: list[str], depth: float) -> tuple[str, int]:
    """The text with the hidden lines among the filler, and where the first of them ends."""
    ends = [0, *accumulate(map(len, filler))]
    start, count = depth * ends[-1], len(hidden.lines)
    places = [start + (ends[-1] - start) * k / count for k in range(count)]
    borders = [min(range(len(ends)), key=lambda at: abs(ends[at] - place)) for place in places]
    groups = [list(map(write, group)) for group in hidden.lines]
    pieces: list[str] = []
    for at in range(len(ends)):
        pieces += [
            text for group, border in zip(groups, borders, strict=True) if border == at for text in group
        ]
        pieces += filler[at : at + 1]
    before = groups[0][: hidden.lines[0].index(hidden.first) + 1]
    return "".join(pieces), ends[borders[0]] + len("".join(before))


def _candidates(hidden: Hidden, draw: Draw) -> tuple[str, ...]:
    chosen = some([value for value in hidden.others if value != hidden.value], CANDIDATES - 1, draw)
    chosen.insert(int(draw() * CANDIDATES), hidden.value)
    return tuple(chosen)
