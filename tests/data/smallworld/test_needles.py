"""Needles: what their text says is what they ask, wherever it stands and however long the text."""

from collections import Counter
from typing import Any

import pytest

from congling.core.errors import UserError
from congling.data.smallworld.long.lines import LENGTHS, Line
from congling.data.smallworld.long.state import State
from congling.data.smallworld.long.writing import line_at
from congling.data.smallworld.needles import NEEDLE_KINDS, Needle, NeedleKind, copy_problem, needle
from congling.data.smallworld.script import to_traditional
from congling.data.smallworld.wordings import Script

SCRIPTS: tuple[Script, ...] = ("hans", "hant")


def read(text: str) -> tuple[State, list[tuple[Line, int]]]:
    """What a text tells, and its lines with where they end; every one has to be a line of long documents."""
    state, lines = State(), list[tuple[Line, int]]()
    while state.position < len(text):
        found = line_at(text, state.position)
        assert found is not None, text[state.position :][:40]
        state.tell(found[0], found[1] - state.position)
        lines.append(found)
    return state, lines


def asked(found: Needle) -> tuple[str, State, Line, list[tuple[Line, int]]]:
    """The text before the question, what it told, the question with its answer, and the lines before it."""
    text = found.prompt[: found.prompt.index("问：")]
    state, lines = read(text)
    last = line_at(f"{found.prompt}{found.answer}\n", len(text))
    assert last is not None
    return text, state, last[0], lines


@pytest.mark.parametrize("kind", NEEDLE_KINDS)
@pytest.mark.parametrize("filler", [0, 600, 3000])
def test_the_answer_follows_from_the_text(kind: NeedleKind, filler: int) -> None:
    for seed in range(4):
        found = needle(kind, filler_characters=filler, depth=seed / 3, seed=seed)
        text, state, question, lines = asked(found)
        fact = state.facts[question.kind.removeprefix("ask-")][question.words[:-1]]
        assert question.words[-1] == fact.answer
        assert found.distance == len(text) - fact.end and found.kind == kind
        told = [line for line, _ in lines if line.kind not in ("scene", "story")]
        assert len(told) == {"single": 1}.get(kind, len(told)) and (kind == "single" or len(told) > 1)
        if kind == "multi-key":
            assert {line.kind for line in told} == {question.kind.removeprefix("ask-")}
            shared = [line for line in told if set(line.words[:-1]) & set(question.words[:-1])]
            assert len(shared) == len(told) and (filler < 3000 or len(told) > 30)


@pytest.mark.parametrize("kind", NEEDLE_KINDS)
def test_depth_says_where_the_fact_stands(kind: NeedleKind) -> None:
    for seed in range(6):
        distances = [
            needle(kind, filler_characters=2000, depth=depth / 4, seed=seed).distance for depth in range(5)
        ]
        assert distances == sorted(distances, reverse=True)
        assert distances[0] >= 2000 and distances[-1] < 400
        assert abs(distances[0] - distances[2] - 1000) < 150


@pytest.mark.parametrize("kind", NEEDLE_KINDS)
def test_the_filler_has_the_characters_asked_for_and_the_needle_stays(kind: NeedleKind) -> None:
    bare = needle(kind, filler_characters=0, depth=0, seed=4)
    short = Counter[int]()
    for characters in range(100, 1000, 70):
        found = needle(kind, filler_characters=characters, depth=0.5, seed=4)
        assert found == needle(kind, filler_characters=characters, depth=0.5, seed=4)
        assert (found.answer, found.candidates) == (bare.answer, bare.candidates)
        short[characters - len(found.prompt) + len(bare.prompt)] += 1
    assert max(short) < 20 and min(short) == 0 and short[0] > 9
    assert needle(kind, filler_characters=100, depth=0.5, seed=5) != needle(
        kind, filler_characters=100, depth=0.5, seed=4
    )


def test_candidates_are_many_different_and_of_one_form() -> None:
    places = Counter[int]()
    for kind in NEEDLE_KINDS:
        for seed in range(10):
            found = needle(kind, filler_characters=0, depth=0, seed=seed)
            assert len(set(found.candidates)) == len(found.candidates) >= 50
            places[found.candidates.index(found.answer)] += 1
            forms = {_form(answer) for answer in found.candidates}
            assert len(forms) == (1 if kind != "counting" else 2)
            for answer in found.candidates:
                last = line_at(f"{found.prompt}{answer}\n", found.prompt.index("问："))
                assert last is not None and last[0].words[-1] in answer
    assert len(places) > 25


def _form(answer: str) -> str:
    """An answer with its digits, or its words within quotation marks, made alike."""
    return "".join("0" if c.isdigit() else c if c in "“”号。" else "字" for c in answer)


def test_the_chance_line_is_that_of_the_best_answer_that_knows_nothing() -> None:
    for kind in NEEDLE_KINDS:
        made = [needle(kind, filler_characters=60, depth=0.5, seed=seed) for seed in range(400)]
        likeliest = max(Counter(one.answer for one in made).values()) / len(made)
        assert likeliest <= made[0].chance + 0.06, kind  # three standard errors of 400 draws
    assert made[0].kind == "counting" and made[0].chance == 1 / 8 > likeliest - 0.06


def test_needles_in_traditional_characters() -> None:
    for kind in NEEDLE_KINDS:
        hans, hant = (
            needle(kind, filler_characters=500, depth=0.3, seed=1, script=script) for script in SCRIPTS
        )
        assert hant.prompt == to_traditional(hans.prompt) != hans.prompt
        assert hant.answer == to_traditional(hans.answer)
        assert hant.candidates == tuple(map(to_traditional, hans.candidates))
        assert hant.distance == hans.distance


@pytest.mark.parametrize("distance", [0, 60, 500, 4000])
@pytest.mark.parametrize("segment", [1, 16, 40])
def test_a_segment_is_asked_for_again(segment: int, distance: int) -> None:
    seen = set[str]()
    for seed in range(5):
        prompt, answer = copy_problem(segment, distance, seed)
        assert len(answer) == segment
        assert len(prompt) - prompt.index(answer) - segment == max(8, distance)
        if segment in LENGTHS:
            state, _ = read(f"{prompt}{answer}。\n")
            assert state.notes["一"].answer == answer and not state.unread
        assert copy_problem(segment, distance, seed, "hant") == (
            to_traditional(prompt),
            to_traditional(answer),
        )
        seen.add(answer)
    assert len(seen) > 1


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "haystack"},
        {"depth": 1.5},
        {"depth": float("nan")},
        {"filler_characters": -1},
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, object]) -> None:
    values = {"kind": "single", "filler_characters": 10, "depth": 0.5, "seed": 0, **given}
    ask: Any = needle
    with pytest.raises(UserError):
        ask(values.pop("kind"), **values)
    for segment, distance in ((0, 5), (3, -1)):
        with pytest.raises(UserError):
            copy_problem(segment, distance, 0)
