"""Answers compared with what is expected: phrasings of the right number, and of others."""

import time

import pytest

from congling.data.final_answer import last_number, same, value
from congling.data.smallworld import judge
from congling.data.smallworld.questions import Problem

RIGHT = {
    "12": [
        "12",
        "12.",
        "12。",
        "１２",
        "12.0",
        " 12\n",
        "十二",
        "十二。",
        "十二个",
        "12个",
        "12元",
        "$12",
        "$12$",
        "**12**",
        "=12",
        "12 apples",
        "答案是12个",
        "答案是12个苹果。",
        "答案：12",
        "答案为：\n12",
        "答案：十二只兔子",
        "一共十二个。",
        "一共有12个，比9多3个。答案：12",
        "#### 12",
        "3+9=12\n#### 12",
        "\\boxed{12}",
        "so $\\boxed{12}$ apples, 3 each",
        "3+9=12",
        "12 = 3+9",
        "3加9等于十二",
        "不是13，是12",
        "是12，不是13",
        "应该是13。不对，应该是12",
        "第一步：3+9。第二步：12",
        "1. 3 + 9\n2. 所以是12",
        "<think>13?</think>12",
        "一共是十二只，一起走",
        "12%",
        "答案是12。验算：12-5=7",
        "The answer is 12.",
        "answer: 12 (not 13)",
        "<answer>12</answer>",
        "=> 12",
        "大约12",
        "共12个（3×4）",
        "是 12 吗？是 12。",
        "因此，小明还剩下 12 元。",
        "24/2",
    ],
    "12000": [
        "12,000",
        "1,2000",
        "１２，０００",
        "12，000",
        "12 000",
        "12\\,000",
        "1.2万",
        "一万二千",
        "一万二",
        "1万2千",
        "1.2e4",
    ],
    "12,000": ["12000"],
    "-3": ["-3", "答案是-3", "负三", "−3", "负3", "minus 3"],
    "3": ["3.0", "３．０", "三", "\\boxed{3\\text{ cm}}"],
    "3.0": ["3"],
    "0.5": ["1/2", "50%", "\\frac{1}{2}", "二分之一", "零点五", ".5"],
    "50%": ["百分之五十", "0.5", "50"],
    "48/2=24, 24+48=72\n#### 72": ["The total is 72 clips.", "72"],
    "250": ["二百五"],
    "12个": ["12", "十二个"],
    "北京": ["北京。", "「北京」", " 北京 "],
    "A": ["Ａ", "A."],
}
WRONG = {
    "12": [
        "12 or 13",
        "13 or 12",
        "12或13",
        "12个或13个",
        "12、13",
        "12和13",
        "12到13",
        "12-13",
        "12~13",
        "12 13",
        "10 11 12",
        "不是12",
        "答案不是12",
        "isn't 12",
        "12错了",
        "12 is wrong",
        "12吗？",
        "12？",
        "超过12",
        "至少12个",
        "more than 12",
        "12以上",
        "120",
        "1212",
        "112",
        "1.2",
        "12.5",
        "-12",
        "12,000",
        "12万",
        "十三",
        "一百一十二",
        "第12题",
        "x12",
        "12:30",
        "3+9",
        "12+13",
        "24/12",
        "是12，不对，应该是13",
        "#### 13",
        "12\n#### 13",
        "\\boxed{13} 12",
        "",
        "苹果",
    ],
    "10": ["十几个", "几十个", "十分高兴"],
    "3": ["三四个", "三角形", "-3", "5-3", "三四"],
    "-3": ["3"],
    "1": ["一起去", "万一", "唯一"],
    "12000": ["12", "12,00", "1.2"],
    "12个": ["12元", "13个", "十三"],
    "北京": ["不是北京", "北京？", "南京"],
    "三角形": ["3"],
}


def _pairs(table):
    return [(expected, said) for expected, phrasings in table.items() for said in phrasings]


@pytest.mark.parametrize(("expected", "said"), _pairs(RIGHT))
def test_right_however_it_is_said(expected, said):
    assert same(said, expected)


@pytest.mark.parametrize(("expected", "said"), _pairs(WRONG))
def test_what_is_wrong_stays_wrong(expected, said):
    assert not same(said, expected)


def test_the_small_world_judges_sums_by_value():
    asked = Problem("arithmetic", "3加9等于", "十二。", ())
    assert all(map(asked.right, ("十二", "12", "１２。", "十二个"))) and not asked.right("十三。")
    row = {"kind": "arithmetic", "answer": "12", "prompt": "3+9="}
    assert [judge.reward(row, said) for said in ("答案是12个", "13", "12 or 13", "多少")] == [1, 0.1, 0, 0]


def test_answers_without_end_are_read_quickly():
    began = time.monotonic()
    for piece in ("1 ", "12,", "一", "#### ", "答案是", "1/", "\\boxed{", "9", "\n1. "):
        last_number(piece * 20_000)
        value(piece * 2000)
    assert time.monotonic() - began < 20
