from itertools import islice

import pytest

from congling.data.smallworld import generate
from congling.data.smallworld.config import SmallWorldConfig
from congling.evals.rules import rule_report


def texts(count=20):
    return [document.text for document in islice(generate(SmallWorldConfig(size=100_000)), count)]


def test_the_world_itself_is_faultless():
    found = rule_report(texts())
    assert (found.score, found.grammar, found.facts) == (1.0, 1.0, 1.0)
    assert found.texts == 20 and found.to_json()["sums"] == 1.0


def test_a_cut_last_sentence_is_left_out():
    story = "冬天的一个上午，青青到码头去玩。不远处有人在弹棉花。青青手里拿着一把"
    assert rule_report([story]).grammar == 1.0


def test_other_text_scores_nothing():
    found = rule_report(["却说宝玉听了，忙笑道。", ""])
    assert found.score == 0.0 and found.couplets is None


def test_nothing_to_judge():
    with pytest.raises(ValueError, match="no texts"):
        rule_report([])
