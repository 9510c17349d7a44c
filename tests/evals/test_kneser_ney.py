from itertools import islice

import numpy as np
import pytest

from congling.data.counts import codes
from congling.data.smallworld import generate
from congling.data.smallworld.config import SmallWorldConfig
from congling.evals import kneser_ney
from congling.evals.kneser_ney import KneserNey


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("before", ["", "天", "天地天", "龘龘龘龘"])
def test_the_shares_of_all_symbols_sum_to_one(order: int, before: str):
    model = KneserNey(["天地天地玄", "天玄黄", "地地地天地"], order)
    last = model.symbol_keys(codes(before))[-1]
    keys = (last & ~np.uint64(0xFFF)) | np.arange(4096, dtype=np.uint64)
    assert model.shares(keys).sum() == pytest.approx(1)


def test_two_characters_by_hand():
    # n-grams: ^天 天地 地天 天地 地$; D = n1 / (n1 + 2 n2) = 3 / 5 over {^天: 1, 天地: 2, 地天: 1, 地$: 1}
    # below, before how many different characters: 天 2, 地 1, $ 1; D = 2 / 4 over {天: 2, 地: 1, $: 1}
    model = KneserNey(["天地天地"], 2)
    sky, earth, end = ((2 - 0.5) / 4, (1 - 0.5) / 4, (1 - 0.5) / 4)
    rest = 0.5 * 3 / 4 / 4096
    share = ((1 - 0.6) / 1 + 0.6 * (sky + rest)) * ((2 - 0.6) / 2 + 0.6 / 2 * (earth + rest))
    share *= (1 - 0.6) / 2 + 0.6 * 2 / 2 * (end + rest)
    assert model.bits("天地") == pytest.approx(-np.log2(share))


def test_a_higher_order_is_nearer_to_the_text():
    texts = [document.text for document in islice(generate(SmallWorldConfig(size=60_000)), 120)]
    models = [KneserNey(texts[:100], order) for order in (1, 2, 3, 5)]
    costs = [sum(map(model.bits, texts[100:])) for model in models]
    assert costs == sorted(costs, reverse=True) and costs[-1] < 0.6 * costs[0]


def test_a_character_never_seen_costs_about_a_code_point():
    model = KneserNey(["天地玄黄" * 10], 3)
    assert 18 < model.bits("天地龘") - model.bits("天地") < 45


def test_rare_characters_are_told_apart():
    letters = [chr(0x4E00 + i) for i in range(6000)]
    model = KneserNey(["".join(letters), "".join(letters[:4094])], 2)
    assert model.bits(letters[5000]) < model.bits(chr(0x4E00 + 9000)) - 10


def test_a_full_table_reads_no_further():
    texts = ("".join(chr(0x4E00 + (i * k) % 999) for i in range(1_100_000)) for k in range(1, 50))
    model = KneserNey(texts, 2, largest=1000)
    assert model.characters == 1_100_000  # the first chunk


@pytest.mark.parametrize(("texts", "order"), [([], 3), ([""], 3), (["天"], 0), (["天"], 6)])
def test_nothing_to_learn_from(texts: list[str], order: int):
    with pytest.raises(ValueError, match="order|no text"):
        KneserNey(texts, order)


@pytest.mark.parametrize("largest", [400, 3000, 10**6])
def test_one_reading_gives_the_same_models_as_one_for_each_order(
    largest: int, monkeypatch: pytest.MonkeyPatch
):
    """Also where the tables of higher orders are full before those of lower ones."""
    monkeypatch.setattr(kneser_ney, "_PENDING", 2000)
    texts = [document.text for document in islice(generate(SmallWorldConfig(size=60_000)), 120)]
    together = list(KneserNey.all_orders(iter(texts), largest=largest))
    assert [model.order for model in together] == [1, 2, 3, 4, 5]
    for model in together:
        alone = KneserNey(texts, model.order, largest=largest)
        assert model.characters == alone.characters
        assert [model.bits(text) for text in texts[:40]] == [alone.bits(text) for text in texts[:40]]
    if largest != 400:  # with 400 all are full at once, with a million none
        assert (largest == 10**6) == (len({model.characters for model in together}) == 1)
