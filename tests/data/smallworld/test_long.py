"""Long documents: the information read back, probabilities that add up, lines that are told apart."""

from collections import Counter
from itertools import pairwise, product
from math import log2
from random import Random

import pytest

from congling.data.smallworld import entropy_floor
from congling.data.smallworld.config import SmallWorldConfig
from congling.data.smallworld.generator import Generator
from congling.data.smallworld.long.choosing import Drawn, Given, ImpossibleError, grammar
from congling.data.smallworld.long.lines import (
    CHARACTERS,
    CODES,
    PEOPLE,
    SNACKS,
    THINGS,
    TOPICS,
    VARIABLES,
    WORDS,
    Line,
    read,
    write,
)
from congling.data.smallworld.long.state import WEIGHTS, State
from congling.data.smallworld.long.writing import information, line_at
from congling.data.smallworld.proof import ambiguities
from congling.data.smallworld.script import to_simplified, to_traditional


def config(characters: int = 2000, script: str = "hans") -> SmallWorldConfig:
    return SmallWorldConfig.model_validate(
        {"mix": {"long": 1}, "long_characters": characters, "script": script, "seed": 17}
    )


def told(characters: int, seed: int = 1) -> tuple[State, list[Line]]:
    """What a document of this length has told, and its lines."""
    state, choose, lines = State(), Drawn(Random(seed).random), list[Line]()
    while state.position < characters:
        lines.append(state.next(choose))
        state.tell(lines[-1], len(write(lines[-1])))
    return state, lines


@pytest.mark.parametrize("script", ["hans", "hant"])
@pytest.mark.parametrize("characters", [200, 4000])
def test_reading_back_gives_the_information(characters: int, script: str) -> None:
    generator = Generator(config(characters, script))
    for index in range(5):
        document = generator.document(index)
        text = to_simplified(document.text) if script == "hant" else document.text
        assert characters <= len(text) < characters + 400
        assert information(text, characters) == pytest.approx(document.meta["bits"])
        assert information(text, len(text) + 1) is None
        assert information(text[:-1], characters) is None
        assert information(text + "四周很安静。\n", characters) is None


def test_both_scripts_tell_the_same() -> None:
    hans, hant = (Generator(config(script=script)).document(3) for script in ("hans", "hant"))
    assert hant.text == to_traditional(hans.text) != hans.text
    assert to_simplified(hant.text) == hans.text
    assert to_simplified("设") == "\0"
    assert hans.meta == hant.meta


def test_a_longer_document_begins_with_the_shorter() -> None:
    short, long = (Generator(config(characters)).document(0).text for characters in (1000, 3000))
    assert long.startswith(short)


def test_lines_are_read_as_they_were_written_whatever_follows() -> None:
    kinds = Counter[str]()
    for seed in range(4):
        _, lines = told(4000, seed)
        for line, after in pairwise(lines):
            text = write(line)
            assert line_at(text + write(after), 0) == (line, len(text))
            assert (read(text) is None) == (line.kind in ("scene", "story"))
            kinds[line.kind] += 1
    assert kinds.keys() == (WEIGHTS.keys() - {"ask"}) | {f"ask-{topic}" for topic in TOPICS}


def test_words_and_scenes_are_told_apart_by_what_they_begin_with() -> None:
    assert list(ambiguities(grammar("scene"))) == []
    for words in (WORDS, PEOPLE, THINGS, tuple(SNACKS), VARIABLES, CHARACTERS):
        assert len(set(words)) == len(words)
        assert not any(a != b and b.startswith(a) for a, b in product(words, words))
    assert len(WORDS) >= 50 and len(CODES) >= 50 and len(CHARACTERS) >= 100


def test_the_probabilities_of_what_may_come_next_add_up() -> None:
    state, _ = told(2500, seed=0)
    weights = state.weights()
    assert weights == WEIGHTS  # every kind may come here
    codes = [str(code) for code in CODES[:10]]
    possible = {
        "say": (Line("say", words) for words in product(PEOPLE, WORDS)),
        "more": (Line("more", words) for words in product(PEOPLE, WORDS)),
        "get": (Line("get", words) for words in product(PEOPLE, SNACKS)),
        "again": (Line("again", words) for words in product(PEOPLE, SNACKS)),
        "set": (Line("set", words) for words in product(VARIABLES, codes)),
        "same": (Line("same", words) for words in product(VARIABLES, VARIABLES)),
        "word": (Line("word", words) for words in product(PEOPLE, THINGS, WORDS[:1])),
        "recite": (Line("recite", (*note.about, note.answer)) for note in state.notes.values()),
        "ask": (
            Line(f"ask-{topic}", (*about, fact.answer))
            for topic, facts in state.facts.items()
            for about, fact in facts.items()
        ),
    }
    some = {"word": len(WORDS), "set": len(CODES) / len(codes)}  # where one value stands for many
    for kind, lines in possible.items():
        share = sum(chance(state, line) for line in lines) * some.get(kind, 1)
        assert share == pytest.approx(weights[kind] / sum(weights.values())), kind


def chance(state: State, line: Line) -> float:
    choose = Given(line)
    try:
        return 2**-choose.bits if state.next(choose) == line else 0.0
    except ImpossibleError:
        return 0.0


def test_what_is_drawn_is_drawn_as_often_as_its_information_says() -> None:
    state, _ = told(900, seed=3)
    random, seen, draws = Random(3), Counter[Line](), 6_000
    for _ in range(draws):
        choose = Drawn(random.random)
        line = state.next(choose)
        if line.kind.startswith("ask-") or line.kind in ("recite", "again"):
            seen[line] += 1
            assert chance(state, line) == pytest.approx(2**-choose.bits)
    assert len(seen) >= 10
    for line, count in seen.items():
        share = chance(state, line)
        assert abs(count / draws - share) < 5 * (share / draws) ** 0.5


def test_facts_are_asked_for_near_and_far() -> None:
    doublings = Counter[int]()
    for seed in range(12):
        state = State()
        for line in told(4000, seed)[1]:
            if line.kind.startswith("ask-"):
                fact = state.facts[line.kind[4:]][line.words[:-1]]
                assert fact.answer == line.words[-1]
                doublings[((state.position - fact.end) // 16).bit_length()] += 1
            state.tell(line, len(write(line)))
    total = doublings.total()
    assert total > 300
    assert all(doublings[doubling] > 0.04 * total for doubling in range(8))  # up to 2,048 characters
    assert max(doublings.values()) < 0.3 * total


def test_the_floor_of_long_documents_is_that_of_their_information() -> None:
    made = [Generator(config(300)).document(index) for index in range(40)]
    floor = entropy_floor(config(300), documents=40)
    bits = sum(document.meta["bits"] for document in made)
    assert floor.bits_per_character == pytest.approx(bits / sum(len(document.text) for document in made))
    assert floor.by_kind["long"].documents == 40


def test_keys_run_out_and_the_document_goes_on() -> None:
    state = State()
    for name in VARIABLES:
        line = Line("set", (name, "100"))
        state.tell(line, len(write(line)))
    assert {"set", "same"} & state.weights().keys() == set()
    assert "ask" in state.weights() and log2(sum(state.weights().values())) > 0
