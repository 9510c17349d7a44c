"""Sums in digits and in words, and small problems about the people of the world."""

from congling.data.smallworld.grammar import Source, numbered

ALIASES = {
    **{"a": "hundred", "b": "hundred", "c": "ten", "d": "ten", "e": "digit", "f": "digit", "g": "few"},
    **{"who": "person", "friend": "person"},
}

# A difference or quotient is drawn by its result, so that every choice stays uniform and nothing is negative.
DIGITS: Source = [
    (
        "{a.digits}+{b.digits}={a+b.digits}",
        "{a+b.digits}-{a.digits}={b.digits}",
        "{e.digits}×{f.digits}={e*f.digits}",
        "{e*f.digits}÷{e.digits}={f.digits}",
    ),
    "\n",
]
WORDS: Source = [
    (
        "{c}加{d}等于{c+d}",
        "{c+d}减{c}等于{d}",
        "{e}乘{f}等于{e*f}",
        "{e*f}除以{e}等于{f}",
    ),
    "。\n",
]
PROBLEM: Source = (
    [
        "{who}有{many.count}{snack.measure}{snack}，",
        (
            "吃了{few.count}{snack.measure}，还剩{many-few.count}{snack.measure}。\n",
            "送给{friend}{few.count}{snack.measure}，还剩{many-few.count}{snack.measure}。\n",
            "又买了{few.count}{snack.measure}，现在有{many+few.count}{snack.measure}。\n",
        ),
    ],
    [
        "{who}和{friend}一起",
        (
            "摘{fruit}，{who}摘了{many.count}{fruit.measure}，{friend}摘了{few.count}{fruit.measure}，"
            "一共{many+few.count}{fruit.measure}。\n",
            "数{tree}，河东有{many.count}棵，河西有{few.count}棵，一共{many+few.count}棵。\n",
        ),
    ],
    "每篮有{many.count}{fruit.measure}{fruit}，{who}提了{g.count}篮，一共{many*g.count}{fruit.measure}。\n",
)
LINE: Source = (DIGITS, WORDS, PROBLEM)
ARITHMETIC: Source = [*(numbered(LINE, k) for k in range(1, 5)), ([numbered(LINE, 5), numbered(LINE, 6)], "")]
