"""Numbers in a text, by value: 12, 12,000, 12,0000, 1.2万, -3, 3/4, 1.2×10^4, 50%, 十二, 二百五, 百分之五十.

Full-width digits are read like others. A digit within a word or a label (x2, H2O, 第3步, 12:30, 1.2.3) is no
number. Values are fractions, so that nothing is rounded.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

_LONGEST = 60  # characters; what is longer is no number that anybody compares
_DIGITS = {
    digit: value
    for value, digits in enumerate(
        ("零〇○", "一壹", "二两兩贰", "三叁", "四肆", "五伍", "六陆", "七柒", "八捌", "九玖")
    )
    for digit in digits
}
_UNITS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_GROUPS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_RUN = f"[{''.join((*_DIGITS, *_UNITS, *_GROUPS))}]+"
_SIGN = r"(?P<sign>(?:(?<![A-Za-z\d)\]])[-−]|负|負|\bminus )?)"
_NUMBER = re.compile(
    rf"{_SIGN}(?<![A-Za-z\d_^第])(?<!\d[.:])"
    r"(?P<number>(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:['’_\xa0\u2009\u202f ]\d{3})+|\d{1,4}(?:,\d{4})+|\d+)(?!\d)"
    r"(?:\.\d+)?|\.\d+)(?!\d)(?!\.\d)(?!:\d)"
    r"(?P<scale>(?:\s?(?:[百万萬亿億]|千(?![克米瓦卡]))+)?)"
    r"(?P<rest>(?:(?<=[百千万萬亿億])\d+[百千万萬]?)*)"
    r"(?:e(?P<exponent>[+-]?\d{1,3})(?![A-Za-z\d])|\s?(?:[×*]|\\times)\s?10\s?\^\s?\{?(?P<power>-?\d{1,3})\}?)?"
    r"(?:\s?/\s?(?P<under>\d+)(?![\d/]))?(?P<percent>\s?%)?"
    rf"|(?P<negative>[负負])?(?:(?P<below>{_RUN})分之)?(?P<word>{_RUN})(?:点(?P<decimals>[零〇一二三四五六七八九]+))?",
    re.IGNORECASE,
)
_HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " ", 0x2044: "/"}
_SUPERSCRIPTS = str.maketrans({digit: f"^{value}" for value, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")})


@dataclass(frozen=True)
class Number:
    """A number that stands in a text."""

    value: Fraction
    """Of 50 % it is 50."""
    start: int
    end: int
    percent: bool = False
    word: bool = False
    """Whether it is written in Chinese numerals, which are parts of many words."""
    unit: str = ""
    """The measure word behind it, where somebody looked."""


def half_width(text: str) -> str:
    """The text with full-width letters, digits and marks in half width; its length may change.

    >>> half_width("１２，０００ｍ²，约")
    '12,000m^2；约'
    """
    # Between full-width digits a comma groups; elsewhere it parts clauses, which a half-width one need not.
    text = re.sub(r"(?<=[０-９])，(?=[０-９]{3})|(?<=\d)，(?=000(?!\d))", ",", text).replace("，", "；")
    return text.translate(_HALF_WIDTH).translate(_SUPERSCRIPTS)


def numbers(text: str) -> Iterator[Number]:
    """All numbers of a text in half width, in order."""
    for found in _NUMBER.finditer(text):
        if len(found[0]) > _LONGEST:
            continue
        if found["word"] is None:
            value = _arabic(found)
            if value is not None:
                yield Number(value, found.start(), found.end(), percent=bool(found["percent"]))
            continue
        value = _word(found)
        if value is not None:
            yield Number(value, found.start(), found.end(), found["below"] == "百", word=True)


def chinese(word: str) -> int | None:
    """The value of a Chinese numeral; None where it is none, such as 三四 (three or four) and 万一.

    >>> chinese("一百零五"), chinese("二百五"), chinese("三万二千"), chinese("二〇二四"), chinese("十十")
    (105, 250, 32000, 2024, None)
    """
    if all(one in _DIGITS for one in word):
        plain = len(word) == 1 or len(word) > 2 or set(word) & set("零〇○")
        return int("".join(str(_DIGITS[one]) for one in word)) if plain else None
    for group in ("亿億", "万萬"):
        place = max(map(word.rfind, group))
        if place >= 0:
            return _joined(word[:place], word[place + 1 :], _GROUPS[word[place]])
    return _section(word)


def _joined(before: str, after: str, group: int) -> int | None:
    """A numeral around its 亿 or 万."""
    left = chinese(before) if before else None
    if left is None or left == 0:
        return None
    if len(after) == 1 and after in _DIGITS:
        return left * group + _DIGITS[after] * group // 10
    right = chinese(after.lstrip("零〇")) if after.strip("零〇") else 0
    return None if right is None or right >= group else left * group + right


def _section(word: str) -> int | None:
    """A numeral below ten thousand, with units."""
    value, last, digit, zero = 0, 10_000, None, False
    for place, one in enumerate(word):
        if one in _UNITS:
            unit = _UNITS[one]
            if digit is None and unit == 10 and place == 0:
                digit = 1
            if not digit or unit >= last:
                return None
            value, last, digit, zero = value + digit * unit, unit, None, False
        elif _DIGITS[one] == 0:
            if digit is not None or zero or value == 0:
                return None
            zero = True
        elif digit is not None:
            return None
        else:
            digit = _DIGITS[one]
    if digit is None:
        return None if zero else value
    return value + digit * (last // 10 if last > 10 and not zero else 1)


def _arabic(found: re.Match[str]) -> Fraction | None:
    value = Fraction(re.sub(r"[^\d.]", "", found["number"]))
    for unit in found["scale"].strip():
        value *= (_UNITS | _GROUPS)[unit]
    for digits, unit in re.findall(r"(\d+)(\D?)", found["rest"]):
        value += int(digits) * (_UNITS | _GROUPS).get(unit, 1)
    power = found["exponent"] or found["power"]
    if power is not None:
        value *= Fraction(10) ** int(power)
    if found["under"] is not None:
        if not int(found["under"]):
            return None
        value /= int(found["under"])
    return -value if found["sign"] else value


def _word(found: re.Match[str]) -> Fraction | None:
    below, value = found["below"], chinese(found["word"])
    under = 100 if below == "百" else None if below is None else chinese(below)
    if value is None or (below is not None and not under):
        return None
    exact = Fraction(value)
    if found["decimals"] is not None:
        digits = "".join(str(_DIGITS[one]) for one in found["decimals"])
        exact += Fraction(int(digits), 10 ** len(digits))
    if under is not None and below != "百":
        exact /= under
    return -exact if found["negative"] else exact
