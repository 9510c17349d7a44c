"""Which option an answer decides for, in the ways people and models put it."""

import pytest

from congling.evals.letters import first_letter

PHRASINGS = {
    "A": [
        "A",
        "a",
        "Ａ",
        "(A)",
        "（Ａ）",
        "A.",
        "a)",
        "A。因为水往低处流。",
        "A、河流",
        "选A",
        "我选Ａ。",
        "答案：A",
        "The answer is A.",
        "The correct answer is (a).",
        "A is correct because ice floats.",
        "Option A is right.",
        "只有A正确，其余都不对。",
        "A项符合题意。",
        "B、C、D错误，故选A。",
        "Answer: A dog has four legs, so A.",
        "题目问的是首都，答案是A 北京。",
    ],
    "B": [
        "Answer: B",
        "answer: b",
        "Answer - B",
        "ANSWER IS B",
        "A错误，选B",
        "不选A，选B。",
        "Not A. B.",
        "排除A，剩下B。",
        "B. 上海",
        "B，因为A不对。",
        "B\n解析：A说的是春天。",
        "【答案】B",
        "答案：\nB",
        "故选：B",
        "故選B。",
        "應選B。",
        "答案應該是Ｂ。",
        "正確的是B",
        "正确答案为B项",
        r"\boxed{B}",
        r"所以 $\boxed{\text{B}}$。",
        "**B**",
        "**答案：B**",
        "I would go with B.",
        "It's B, not A.",
        "The answer is not A but B.",
        "A is wrong, B is right.",
        "选A……不对，应该选B。",
        "答案是A？再想想，A漏了单位，所以答案是B。",
        "First I thought the answer is C, but it must be B.",
        "不是A，而是B。",
        "A不正确，B正确，C不正确。",
        '{"answer": "B"}',
        "<think>选A还是选C？</think>B",
        "#### B",
        "A和C都错了，选B。",
        "Neither A nor C; B.",
        "It can't be A or D, so B.",
        "B選項正確",
        "ans. b",
        "下列说法错误的是B",
        "不正确的是B，A、C、D的说法都对。",
        "很多人误选A，其实答案是B。",
    ],
    "C": [
        "根据DNA的结构，选C",
        "根據DNA的結構，選C",
        "CPU是处理器，所以选C。",
        "HTTP and DNS are protocols; the answer is C.",
        "维生素A对眼睛好，故选C。",
        "B超用的是超声波，答案是C。",
        "Vitamin A and vitamin B are listed, choose C.",
        "A股今天下跌，应选C。",
        "正確答案是（Ｃ）",
        "答案選Ｃ",
        "選項C是對的",
        "A、B、D均错误，C正确。",
        "A不符合題意，B也錯，選C。",
        "A cat is an animal. The answer is C.",
        "I pick c",
        "C才是正确的",
        "C is the best option",
        "应选（C）",
        "排除A、B、D，选C",
    ],
    "D": [
        "D",
        "选d",
        "答案是Ｄ。",
        "由此可知D项正确",
        "ABC都不对，选D",
        "None of A, B or C fits, so the answer is D.",
        "Rule out A, rule out B. D",
        "不选A、B，也不选C，选D",
        "综上所述，本题选D。",
        "綜上，本題選D",
        "最终答案：D",
    ],
    "": [
        "不知道",
        "",
        "DNA",
        "CPU的结构",
        "I do not know.",
        "AC",
        "选AC",
        "答案是A和C",
        "A or B",
        "A错误。",
        "不选A。",
        "A dog barks.",
        "Bad question",
        "维生素C",
        "答案是E",
        "A. 北京\nB. 上海\nC. 广州\nD. 深圳",
        "多选：A、B、D",
        "以上都不对",
        "Vitamin D",
        "the answer is a secret",
    ],
}


@pytest.mark.parametrize(
    ("text", "letter"), [(text, letter) for letter, texts in PHRASINGS.items() for text in texts]
)
def test_the_letter_an_answer_decides_for(text: str, letter: str) -> None:
    found = first_letter(text, 4)
    assert (None if found is None else "ABCD"[found]) == (letter or None)


def test_letters_beyond_the_options_are_none() -> None:
    assert first_letter("C", 2) is None
    assert first_letter("E", 5) == 4


def test_long_answers_take_linear_time() -> None:
    for text in ("选" * 50_000, "A、" * 25_000, "答案是" * 20_000, "A is " * 20_000, "not " * 20_000 + "A"):
        first_letter(text, 4)
