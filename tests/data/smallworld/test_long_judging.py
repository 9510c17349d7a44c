"""The judge of long documents: nothing wrong with the world's own, and every kind of fault found."""

from collections import Counter

import pytest

from congling.data.document import Document
from congling.data.smallworld import check, problems
from congling.data.smallworld.config import SmallWorldConfig
from congling.data.smallworld.generator import Generator
from congling.data.smallworld.needles import NEEDLE_KINDS, NeedleKind, copy_problem, needle
from congling.data.smallworld.script import to_traditional
from congling.data.smallworld.wordings import Script
from congling.evals.rules import rule_report

SCRIPTS: tuple[Script, ...] = ("hans", "hant")
TOLD = """小武的风筝是472号。
小武的风筝上写着“松果”。
小武说了“米饭”。
中午，大川慢慢地来到渡口。四周很安静。
小武得了1个鸡蛋。
设甲子是128。
小武又说了“明月”。
记下第一句：天山村雨小去花林果五日月。
小武又得了1个鸡蛋。
设乙丑和甲子相同。
"""


def documents(count: int, characters: int, script: Script = "hans") -> list[Document]:
    config = SmallWorldConfig.model_validate(
        {"mix": {"long": 1}, "long_characters": characters, "seed": 23, "script": script}
    )
    generator = Generator(config)
    return [generator.document(index) for index in range(count)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_long_documents_are_faultless(script: Script) -> None:
    for document in documents(5, 2000, script):
        verdict = check(document.text)
        assert verdict.score == 1 and verdict.kind == "long", verdict
        assert verdict.facts == 1 and not verdict.reasons


COPIED, TURNED = "天山村雨小去花林果五日月", "天山村雨小去花林果五月日"
RIGHT_AND_WRONG = [
    ("问：小武的风筝是几号？\n答：小武的风筝是{}号。\n", "472", "427"),
    ("问：小武的风筝上写着什么？\n答：小武的风筝上写着“{}”。\n", "松果", "米饭"),
    ("问：小武说了什么？\n答：小武说了“{}”。\n", "米饭”“明月", "明月”“米饭"),
    ("问：小武说了什么？\n答：小武说了“{}”。\n", "米饭”“明月", "米饭"),
    ("问：小武得了几个鸡蛋？\n答：小武得了{}个鸡蛋。\n", "2", "3"),
    ("问：甲子是几？\n答：甲子是{}。\n", "128", "472"),
    ("问：{0}是几？\n答：{0}是128。\n", "乙丑", "丙寅"),
    ("再念第一句：{}。\n", COPIED, TURNED),
    ("再念第{}句：" + COPIED + "。\n", "一", "二"),
    ("跟我念：" + COPIED + "，{}。\n", COPIED, TURNED),
    ("记下第{}句：" + TURNED + "。\n", "二", "三"),
    ("{}的风筝是500号。\n", "大牛", "小武"),
    ("设{}是500。\n", "丙寅", "甲子"),
    ("设丙寅和{}相同。\n", "乙丑", "丁卯"),
    ("小武又说了“{}”。\n", "青草", "明月"),
    ("{}又说了“青草”。\n", "小武", "大牛"),
    ("{}说了“青草”。\n", "大牛", "小武"),
    ("小武得了1个{}。\n", "包子", "鸡蛋"),
    ("小武又得了1个{}。\n", "鸡蛋", "包子"),
]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(("line", "right", "wrong"), RIGHT_AND_WRONG)
def test_every_kind_of_fault_is_found(line: str, right: str, wrong: str, script: Script) -> None:
    turn = to_traditional if script == "hant" else str
    assert check(turn(TOLD + line.format(right))).score == 1
    verdict = check(turn(TOLD + line.format(wrong)))
    assert verdict.grammar == 1 and verdict.kind == "long"
    assert verdict.facts == pytest.approx(11 / 12) and verdict.reasons  # the scene states two things


@pytest.mark.parametrize(
    "line",
    [
        "小武的风筝是47号。\n",
        "小武的风筝上写着“天地”。\n",
        "小武的房子是472号。\n",
        "小武得了1只鸡蛋。\n",
        "问：小武的风筝是几号？\n答：小武的书包是472号。\n",
        "记下第二句：天山。\n",
        "记下第二句：天山村雨小去花林果五日鬼。\n",
        "設丙寅是128。\n",
    ],
)
def test_what_no_long_document_says_is_no_sentence_of_the_world(line: str) -> None:
    verdict = check(TOLD + line)
    assert verdict.grammar < 1 and verdict.facts == 1


def test_what_is_told_twice_lowers_the_share_of_what_is_new() -> None:
    assert check(TOLD).distinct == 1
    assert check(TOLD + "小武的风筝是472号。\n").distinct < 1
    assert check(TOLD + "小武又得了1个鸡蛋。\n").distinct == 1


def test_a_line_that_was_cut_short_at_the_end_is_left_out() -> None:
    whole = TOLD + "问：小武的风筝是几号？\n答：小武的风筝是472号。"
    assert check(whole).score == 1
    for end in range(len(TOLD), len(whole)):
        assert check(whole[:end]).grammar == 1, whole[len(TOLD) : end]
    assert rule_report([whole + "\n大牛"]).score == 1
    assert check(TOLD + "小武在飞。\n").grammar < 1


def test_stories_of_one_document_may_differ_and_must_agree_with_themselves() -> None:
    story = "中午，小满慢慢地来到河边。小满手里拿着一只红色的风筝。玩着玩着，风筝不见了。\n"
    other = story.replace("红", "蓝").replace("河边", "湖边")
    assert check(TOLD + story + other).score == 1
    assert check(TOLD + story.replace("玩着，风筝", "玩着，雨伞") + other).score < 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_problems_of_a_long_document_have_answers_and_distances(script: Script) -> None:
    kinds = Counter[str]()
    for document in documents(1, 1200, script):
        found = problems(document, script)
        assert len(found) > 6
        for problem in found:
            assert document.text.startswith(f"{problem.prompt}{problem.answer}\n")
            assert problem.right(problem.answer) and check(f"{problem.prompt}{problem.answer}\n").score == 1
            assert problem.distance is not None and 0 <= problem.distance < len(problem.prompt)
            assert len(set(problem.wrong)) == len(problem.wrong) == 3
            for wrong in problem.wrong:
                assert not problem.right(wrong)
                verdict = check(f"{problem.prompt}{wrong}\n")
                assert verdict.grammar == 1 and verdict.facts is not None and verdict.facts < 1
            kinds[problem.prompt[-1]] += 1
    assert len(kinds) >= 3


def test_the_distance_is_that_to_the_first_line_the_answer_needs() -> None:
    question = "问：乙丑是几？\n答：乙丑是128。\n"
    (problem,) = problems(Document(TOLD + question, "", {"kind": "long"}))
    assert problem.prompt == TOLD + "问：乙丑是几？\n答：乙丑是" and problem.answer == "128。"
    assert problem.distance == len(TOLD) - TOLD.index("小武又说了")


@pytest.mark.parametrize("kind", NEEDLE_KINDS)
def test_needles_are_judged_as_documents_are(kind: NeedleKind) -> None:
    for seed, script in enumerate(SCRIPTS):
        found = needle(kind, filler_characters=200, depth=0.5, seed=seed, script=script)
        assert check(f"{found.prompt}{found.answer}\n").score == 1
        for wrong in [answer for answer in found.candidates if answer != found.answer][:5]:
            verdict = check(f"{found.prompt}{wrong}\n")
            assert verdict.grammar == 1 and verdict.facts is not None and verdict.facts < 1
        prompt, answer = copy_problem(16, 100, seed, script)
        assert check(f"{prompt}{answer}。\n").score == 1
        assert check(f"{prompt}{answer[::-1]}。\n").score < 1


@pytest.mark.parametrize("line", ["设甲子是472。\n", "小武说了“米饭”。\n", "再念第一句：天\n", "问：\n答："])
def test_long_texts_of_lines_are_judged(line: str) -> None:
    assert check(line * 600).score < 0.02
