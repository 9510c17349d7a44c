"""Sums in digits and in words, and small word problems about the people of the world."""

from congling.data.smallworld.grammar import Source, numbered

ALIASES = {"a": "hundred", "b": "hundred", "c": "ten", "d": "ten", "e": "digit", "f": "digit", "g": "digit"}

# A difference or quotient is drawn by its result, so that every choice stays uniform and nothing is negative.
SUM: Source = (
    "{a.digits}+{b.digits}={a+b.digits}",
    "{c}加{d}等于{c+d}",
)
ARITHMETIC: Source = [numbered(SUM, 1), "\n", numbered(SUM, 2)]
