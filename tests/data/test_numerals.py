"""Numbers in texts, by value."""

from fractions import Fraction

import pytest

from congling.data.numerals import chinese, half_width, numbers
from congling.data.smallworld.lexicon import number_word


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("12,000", [12_000]),
        ("1,2000", [12_000]),
        ("12,0000", [120_000]),
        ("1,234,567.89", ["1234567.89"]),
        ("12 000", [12_000]),
        ("12’000", [12_000]),
        ("1,23", [1, 23]),
        ("选12，345个", [12, 345]),
        ("１２，０００", [12_000]),
        ("5-3", [5, 3]),
        ("是-3", [-3]),
        ("−3", [-3]),
        ("负三", [-3]),
        (".5", ["0.5"]),
        ("3/4", ["3/4"]),
        ("3/0", []),
        ("1.2万", [12_000]),
        ("1万2千", [12_000]),
        ("3亿5000万", [350_000_000]),
        ("3千克", [3]),
        ("5百", [500]),
        ("1.2e4", [12_000]),
        ("1.2×10⁴", [12_000]),
        ("四分之三", ["3/4"]),
        ("三点一四", ["3.14"]),
        ("12:30", []),
        ("第3步", []),
        ("H2O x2 m²", []),
        ("1.2.3", []),
        ("12cm", [12]),
        ("9" * 100, []),
        ("万一", []),
    ],
)
def test_numbers_of_a_text(text, values):
    assert [one.value for one in numbers(half_width(text))] == [Fraction(value) for value in values]


@pytest.mark.parametrize(
    "word", ["十十", "三四", "千万", "百", "零", "一百二十三十", "十百", "万一", "三百零", "一二"]
)
def test_what_is_no_numeral(word):
    assert chinese(word) == (0 if word == "零" else None)


def test_numerals_of_the_small_world_have_their_value():
    assert [chinese(number_word(value)) for value in range(1000)] == list(range(1000))


def test_larger_numerals():
    assert chinese("九千九百九十九万九千九百九十九") == 99_999_999
    assert [chinese(word) for word in ("一千零一", "一万零五十", "三亿", "两百", "一万二", "二〇二四")] == [
        1001,
        10_050,
        300_000_000,
        200,
        12_000,
        2024,
    ]
