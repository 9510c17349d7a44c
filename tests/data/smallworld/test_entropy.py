"""The floor, three ways: a proof over the grammar, a small grammar written out in full, reading back."""

from collections import Counter
from itertools import product
from math import log2
from random import Random

import pytest

from congling.data.smallworld import entropy_floor
from congling.data.smallworld.compiler import compile_grammar
from congling.data.smallworld.config import Kind, SmallWorldConfig
from congling.data.smallworld.generator import Generator
from congling.data.smallworld.grammar import Grammar, Source
from congling.data.smallworld.lexicon import Category, categories
from congling.data.smallworld.proof import ambiguities
from congling.data.smallworld.reading import information
from congling.data.smallworld.world import world

GRAMMARS = tuple(world("hans").grammars)
PEOPLE = Category("person", ("name", "he"), (("小满", "她"), ("大牛", "他"), ("阿松", "他")))
SMALL: Source = [
    ("{who}笑了，", "{who}和{friend}笑了，", ["今天是{few}号，", ("晴。", "")]),
    ("天黑了。", "天亮了。", ""),
]


def small(source: Source) -> Grammar:
    words = {**categories("hans"), "person": PEOPLE}
    return compile_grammar(source, words, {"who": "person", "friend": "person"})


@pytest.mark.parametrize("script", ["hans", "hant"])
@pytest.mark.parametrize("kind", GRAMMARS)
def test_the_world_is_unambiguous(script: str, kind: Kind) -> None:
    assert list(ambiguities(world("hant" if script == "hant" else "hans").grammars[kind])) == []


@pytest.mark.parametrize(
    "source",
    [
        ("天黑了。", "天黑了。再见。"),
        ["天黑了。", ("再见。", ""), "再见。"],
        ("{person}笑了。", "小满哭了。"),
        ["{few}", "三只"],
        ("{time}好。", "早上好。"),
    ],
)
def test_the_proof_finds_ambiguity(source: Source) -> None:
    assert list(ambiguities(small(source)))


def test_probabilities_of_a_small_grammar_written_out_in_full() -> None:
    names = [entry[0] for entry in PEOPLE.entries]
    starts = [(f"{name}笑了，", log2(3) + log2(3)) for name in names]
    starts += [(f"{a}和{b}笑了，", 2 * log2(3) + log2(2)) for a, b in product(names, names) if a != b]
    starts += [(f"今天是{few}号，{more}", log2(3) + 2 + 1) for few, more in product("二三四五", ["晴。", ""])]
    expected = {
        start + end: bits + log2(3) for (start, bits), end in product(starts, ["天黑了。", "天亮了。", ""])
    }
    assert sum(2**-bits for bits in expected.values()) == pytest.approx(1)
    random, seen = Random(1), Counter()
    for _ in range(20_000):
        text, bits = small_grammar.write(random.random)
        assert bits == pytest.approx(expected[text])
        seen[text] += 1
    assert seen.keys() == expected.keys()
    for text, bits in expected.items():
        share = 2**-bits
        assert abs(seen[text] / 20_000 - share) < 5 * (share / 20_000) ** 0.5


small_grammar = small(SMALL)


@pytest.mark.parametrize("kind", GRAMMARS)
@pytest.mark.parametrize("script", ["hans", "hant"])
def test_reading_back_gives_the_probability(kind: Kind, script: str) -> None:
    config = SmallWorldConfig.model_validate({"mix": {kind: 1}, "script": script, "seed": 11})
    generator = Generator(config)
    for index in range(300):
        document = generator.document(index)
        read = information(document.text, generator.world, kind)
        assert read == pytest.approx(document.meta["bits"])
        others = [information(document.text, generator.world, other) for other in GRAMMARS if other != kind]
        assert others == [None] * len(others)
        assert information(document.text + "。", generator.world, kind) is None


def test_floor_of_one_kind_is_the_mean_of_its_documents() -> None:
    config = SmallWorldConfig(mix={"arithmetic": 1})
    generator = Generator(config)
    documents = [generator.document(index) for index in range(50)]
    floor = entropy_floor(config, documents=50)
    bits = sum(information(document.text, generator.world, "arithmetic") or 0 for document in documents)
    assert floor.bits_per_character == pytest.approx(bits / sum(len(document.text) for document in documents))
    assert floor.by_kind["arithmetic"].documents == floor.documents == 50


def test_the_choice_of_the_kind_counts() -> None:
    generator = Generator(SmallWorldConfig(mix={"story": 3, "arithmetic": 1}))
    for index in range(20):
        document = generator.document(index)
        kind = document.meta["kind"]
        share = 0.75 if kind == "story" else 0.25
        read = information(document.text, generator.world, kind)
        assert read is not None
        assert document.meta["bits"] == pytest.approx(read - log2(share))


def test_standard_error_shrinks_and_covers() -> None:
    config = SmallWorldConfig(seed=2)
    small_sample, large_sample = entropy_floor(config, 200), entropy_floor(config, 3200)
    assert large_sample.standard_error == pytest.approx(small_sample.standard_error / 4, rel=0.3)
    difference = abs(small_sample.bits_per_character - large_sample.bits_per_character)
    assert difference < 4 * small_sample.standard_error


def test_grammars_that_hide_a_choice_are_refused() -> None:
    with pytest.raises(ValueError, match="does not show"):
        small("{who.he}笑了。")
    with pytest.raises(ValueError, match="only sometimes"):
        small([("{who}来了。", "下雨了。"), "{who}走了。"])
    with pytest.raises(ValueError, match="no such"):
        small("{unknown}来了。")
