"""Whether an answer says what is expected: a number by value, anything else as text.

::

    expected "12000"   12,000 · 1,2000 · １２０００ · 12000.0 · 1.2万 · 一万二 · 答案是12000个 · #### 12000
    not so             120000 · 不是12000 · 12000 or 13000 · 12000-13000 · 超过12000

What counts is the last number that is stated: behind ``####`` (GSM8K), in ``\\boxed{}`` (MATH), behind 答案是
or "answer is", else anywhere. Numbers that are denied, asked or only bounds are passed over, and so are the
two sides of a sum; of several offered at once (12 or 13) none is stated. Chinese numerals within sentences
count where no digits stand.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from congling.data.numerals import Number, half_width, numbers

_LONGEST = 4000  # characters of an answer that are looked at, at its end
_OUTER = " \t\r\n。．.,，、;；:：!！\"'“”‘’「」『』《》()（）[]【】*`~$"
_MARKUP = re.compile(
    r"\\[!,;:()\[\]]|\\(?:text|mathrm|mathbf|textbf|[dt]?frac(?=\{))|\$|\*\*|`|</?[A-Za-z]\w{0,20}>"
)
_FRACTION = re.compile(r"\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_MARKED = re.compile(r"#{3,}\s*([^\n]*)|\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_SAID = re.compile(
    r"(?:答案|结果|結果|答[：:]|\banswers?\b|\bresult\b|应该是|應該是|应是|应为|應為|改为|改成)"
    r"(?:[\s:=(\[{“\"]|应该|應該|应|應|就|便|也|是|为|為|等于|等於|一共|总共|共|有|is|was|equals|be|must|should|the)*$",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"(?:不是|并非|並非|不为|不為|不等于|不等於|而非|不会是|不會是|不可能是|≠|!=|不到|不足|没有|少于|多于|大于|小于|超过|超過"
    r"|至少|至多|最多|最少|高于|低于|(?<![-=])[<>≤≥]|\bnot|n't|\binstead of|\bthan|\bat least|\bat most"
    r"|\bover|\bunder|\bnever|\bexcept|\bneither|\bnor)\s*(?:equal to|be|the)?\s*[“\"(]?\s*$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"[几幾多余餘]|[^\d。．.;；,\n]{0,3}?(?:错|錯|不对|不對|不正确|吗|嗎|\?|以上|以下"
    r"|\s(?:is|was)\s(?:wrong|incorrect|not\b)|\sor (?:more|less|fewer))"
)
_OPERATOR = re.compile(
    r"\s*(?:[-+−×÷·*/^]|\\times|\\div|\\cdot|加|减|減|乘|乘以|除以|plus|minus|times|divided by)\s*"
)
_OFFERED = re.compile(
    r"\s*(?:[^\W\d_]{0,3}|[A-Za-z]+)\s*(?:或者?|还是|還是|到|至|[~～]|\bor\b|\bto\b|[–—])\s*|\s*[^\W\d_]?\s*(?:[、,]|和|与|\band\b)\s*|\s+",
    re.IGNORECASE,
)
_WORD_AFTER = re.compile(r"[起定样樣些共下直般边邊旁面方致种種切刻]|分(?![钟鐘之])|角形")
_MEASURES = (
    "公斤|千克|公里|千米|厘米|毫米|平方米|小时|小時|分钟|分鐘|[个個只隻条條本张張位名元块塊斤克吨米岁歲天次倍度棵朵头頭匹件双雙对對"
    "把颗顆支根盒袋瓶杯碗盘箱篮籃辆輛架间間层層页頁人秒]"
)
_MEASURE = re.compile(rf"\s?({_MEASURES})")
_ALONE = re.compile(rf"(?:=|等于|等於)?\s*[¥￥€£]?\s*#(?P<unit>{_MEASURES})?")


def same(said: str, expected: str) -> bool:
    """Whether an answer says what is expected.

    >>> same("所以一共有12,000个。", "12000"), same("12 or 13", "12"), same("「北京」。", "北京")
    (True, False, True)
    """
    expected = _marked(half_width(expected)) or expected
    if plain(said) == plain(expected):
        return True
    wanted = value(expected)
    return wanted is not None and _agrees(last_number(said), wanted)


def plain(text: str) -> str:
    """Text in half width, without white space and marks around it."""
    return _bare(half_width(text).replace("；", ","))


def value(text: str) -> Number | None:
    """The number that a text is, with a currency, a measure word or marks around it at most; else None."""
    bare = _bare(_readable(text))
    found = list(numbers(bare))
    if len(found) != 1:
        return None
    one = found[0]
    alone = _ALONE.fullmatch(f"{bare[: one.start]}#{bare[one.end :]}")
    return replace(one, unit=alone["unit"] or "") if alone else None


def last_number(text: str) -> Number | None:
    """The number that an answer states last; None where it states none, or several to choose from."""
    text = text.rpartition("</think>")[2][-_LONGEST:]
    marked = _marked(half_width(text))
    if marked is not None:
        return value(marked) or _last(_readable(marked))
    return value(text) or _last(_readable(text))


def _agrees(said: Number | None, wanted: Number) -> bool:
    if said is None or (said.unit and wanted.unit and said.unit != wanted.unit):
        return False
    values = {said.value} | ({said.value / 100} if said.percent else set())
    return bool(values & ({wanted.value} | ({wanted.value / 100} if wanted.percent else set[Fraction]())))


def _marked(text: str) -> str | None:
    """What stands behind the last #### or in the last \\boxed{}."""
    marked = _MARKED.findall(text)
    return "".join(marked[-1]) if marked else None


def _bare(text: str) -> str:
    """The text without marks around it; a point before digits stays."""
    return text.rstrip(_OUTER).lstrip(_OUTER.replace(".", ""))


def _readable(text: str) -> str:
    return _FRACTION.sub(r"\1/\2", _MARKUP.sub("", half_width(text)))


def _last(text: str) -> Number | None:
    found = [one for one in numbers(text) if not _part_of_word(one, text)]
    if any(not one.word for at, one in enumerate(found) if not _operand(found, at, text)):
        found = [one for one in found if not one.word or _stated(one, text)]
    usable = [
        at for at, one in enumerate(found) if not _passed_over(one, text) and not _operand(found, at, text)
    ]
    last = next((at for at in reversed(usable) if _stated(found[at], text)), usable[-1] if usable else None)
    if last is None or _offered(found, last, text):
        return None
    unit = _MEASURE.match(text, found[last].end)
    return replace(found[last], unit=unit[1] if unit else "")


def _stated(one: Number, text: str) -> bool:
    return _SAID.search(text[max(0, one.start - 24) : one.start]) is not None


def _part_of_word(one: Number, text: str) -> bool:
    """Whether Chinese numerals belong to a word: 一起, 第三, 十分高兴."""
    before = text[max(0, one.start - 1) : one.start]
    return one.word and (
        before in tuple("第周期唯统同另某每之几幾数數") or bool(_WORD_AFTER.match(text, one.end))
    )


def _passed_over(one: Number, text: str) -> bool:
    """Whether a number is denied, asked, a bound, or the number of a step."""
    before, after = text[max(0, one.start - 16) : one.start], text[one.end : one.end + 16]
    line = text[text.rfind("\n", 0, one.start) + 1 : one.start].strip()
    step = line in ("", "-", "*", "(") and re.match(r"[.)、:]\s*[^\s\d.]", after)
    return bool(step or _DENIED.search(before) or _DENIED_AFTER.match(after))


def _gaps(found: Sequence[Number], at: int, text: str) -> list[tuple[Number, str]]:
    """The numbers beside one, and what stands between."""
    pairs = zip(found[max(0, at - 1) : at + 1], found[max(0, at - 1) + 1 : at + 2], strict=False)
    return [(left if right is found[at] else right, text[left.end : right.start]) for left, right in pairs]


def _operand(found: Sequence[Number], at: int, text: str) -> bool:
    return any(_OPERATOR.fullmatch(gap) for _, gap in _gaps(found, at, text))


def _offered(found: Sequence[Number], at: int, text: str) -> bool:
    return any(
        other.value != found[at].value and "\n" not in gap and _OFFERED.fullmatch(gap)
        for other, gap in _gaps(found, at, text)
    )
