import pytest
from hypothesis import given
from hypothesis import strategies as st

from congling.data.smallworld import check
from congling.data.smallworld.config import KINDS, Kind, SmallWorldConfig
from congling.data.smallworld.generator import Generator

STORY = (
    "中午，小满慢慢地来到河边。小满手里拿着一只红色的风筝。玩着玩着，风筝不见了。小满急得快要哭了。"
    "大牛走过来，和她一起找。最后，大牛在草丛里找到了风筝。大牛把风筝还给小满，两个人都笑了。"
)


@pytest.mark.parametrize("script", ["hans", "hant"])
@pytest.mark.parametrize("kind", tuple(kind for kind in KINDS if kind != "long"))
def test_documents_of_the_world_are_faultless(kind: Kind, script: str) -> None:
    config = SmallWorldConfig.model_validate({"mix": {kind: 1}, "script": script, "seed": 21})
    generator = Generator(config)
    verdicts = [check(generator.document(index).text) for index in range(150)]
    assert [verdict for verdict in verdicts if verdict.score < 1] == []
    expected = {"questions": "story"}.get(kind, kind)
    assert all(verdict.kind == expected for verdict in verdicts)


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        ("风筝是什么颜色的", "红色", "蓝色"),
        ("最后风筝在谁手里", "在小满手里", "在大牛手里"),
        ("谁找到了风筝", "大牛", "小满"),
        ("风筝是在哪里找到的", "在草丛里", "在墙角"),
        ("小满是什么时候去的", "是中午去的", "是傍晚去的"),
    ],
)
def test_answers_must_follow_from_the_story(question: str, right: str, wrong: str) -> None:
    assert check(f"{STORY}\n问：{question}？\n答：{right}。").score == 1
    verdict = check(f"{STORY}\n问：{question}？\n答：{wrong}。")
    assert verdict.facts is not None and verdict.facts < 1 and verdict.reasons
    assert verdict.grammar == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("大牛把风筝还给小满", "小满把风筝还给大牛"),
        ("和她一起找", "和他一起找"),
        ("一只红色的风筝", "一把红色的风筝"),
        ("玩着玩着，风筝", "玩着玩着，雨伞"),
    ],
)
def test_stories_must_agree_with_themselves(old: str, new: str) -> None:
    assert check(STORY).score == 1 and old in STORY
    verdict = check(STORY.replace(old, new))
    assert verdict.facts is not None and verdict.facts < 1


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("12+7=19\n", "12+7=18\n"),
        ("三加五等于八。\n", "三加五等于九。\n"),
        ("56÷7=8\n", "56÷7=9\n"),
        ("小满有八个包子，吃了两个，还剩六个。\n", "小满有八个包子，吃了两个，还剩五个。\n"),
        ("三十五減十五等於二十。\n", "三十五減十五等於三十。\n"),
    ],
)
def test_sums_must_be_right(right: str, wrong: str) -> None:
    assert check(right).sums == 1 and check(right).score == 1
    assert check(wrong).sums == 0 and check(wrong).grammar == 1


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("白鸥飞翠岭，黄鹤入青山。", None),
        ("白鸥飞翠岭，黄鹤青山。", "length"),
        ("白鸥飞翠岭，黄鹤入青楼。", "category"),
        ("白鸥飞翠岭，白鹤入青山。", "itself"),
        ("云对雨，红花对绿。", "length"),
    ],
)
def test_sides_of_a_couplet_must_match(line: str, fault: str | None) -> None:
    verdict = check(line + "\n")
    if fault is None:
        assert verdict.couplets == 1 and verdict.score == 1
    else:
        assert verdict.couplets is not None and verdict.couplets < 1
        assert any(fault in reason for reason in verdict.reasons)


def test_a_wrong_definition_is_noticed() -> None:
    right = "【白鹭】鸟的一种，羽毛雪白，常在水边活动，爱吃小鱼。\n"
    assert check(right).score == 1
    verdict = check(right.replace("鸟的", "昆虫的"))
    assert verdict.grammar == 1 and verdict.score < 1


def test_grammar_is_the_share_of_recognised_text() -> None:
    assert check("").score == 0
    assert check("The cat sat on the mat.").grammar == 0
    mixed = check("四周很安静。四周安静很。")
    assert mixed.grammar == pytest.approx(0.5)
    assert "四周安静很" in mixed.reasons[0]


@given(st.text(max_size=300))
def test_any_text_is_judged(text: str) -> None:
    verdict = check(text)
    assert 0 <= verdict.score <= 1


PIECES = ["小满", "，", "。", "问：", "？\n答：", "对", "12", "+", "=", "三十", "等于", "她", STORY[:30]]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_shards_of_the_world_are_judged(text: str) -> None:
    verdict = check(text)
    assert 0 <= verdict.score <= 1
    assert all(part is None or 0 <= part <= 1 for part in (verdict.facts, verdict.couplets, verdict.sums))


@pytest.mark.parametrize("piece", ["小满", "1", "三", "一", "云对", "\n", "「", "【白"])
def test_long_texts_take_linear_time(piece: str) -> None:
    assert check(piece * 20_000).score <= 1
