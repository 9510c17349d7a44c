"""The lines of a long document: how each is written, and read again from its text.

::

    小武的风筝是472号。            code        小武的风筝上写着“松果”。      word
    小武说了“贝壳”。               say         小武又说了“明月”。            more
    小武得了1个鸡蛋。              get         小武又得了1个鸡蛋。           again
    设甲子是472。                  set         设乙丑和甲子相同。            same
    记下第一句：天山村雨…。        note        再念第一句：天山村雨…。       recite
    跟我念：天山村…，天山村…。     chant       问：乙丑是几？/答：乙丑是472。  ask-set, ask-code …
    清晨，小荷慢慢地来到河边。…    scene, story: as the grammars of the world write them

A line ends with its line break and holds no other but that before 答: so a text falls into its lines in one
way only. All of this is Simplified; ``script.py`` turns a finished text.
"""

import re
from functools import cache
from typing import NamedTuple

from congling.data.smallworld.lexicon import categories
from congling.data.smallworld.package_data import table

_WRITTEN = table("long")
CHARACTERS: tuple[str, ...] = tuple("".join(_WRITTEN["characters"].split()))
"""What the lines to be copied are made of."""
WORDS: tuple[str, ...] = tuple(_WRITTEN["words"].split())
VARIABLES: tuple[str, ...] = tuple(
    stem + branch for stem in _WRITTEN["stems"].split() for branch in _WRITTEN["branches"].split()
)
PEOPLE: tuple[str, ...] = tuple(entry[0] for entry in categories("hans")["person"].entries)
THINGS: tuple[str, ...] = tuple(entry[0] for entry in categories("hans")["thing"].entries)
SNACKS: dict[str, str] = dict(categories("hans")["snack"].entries)
"""What people get, with its measure word."""
CODES = range(100, 1000)
LENGTHS = range(12, 25)
"""Characters of a line to be copied."""


class Line(NamedTuple):
    """One line: its kind, and what its gaps hold; of a scene or a story, the whole text."""

    kind: str
    words: tuple[str, ...]


_QUESTIONS = {
    "code": "问：{0}的{1}是几号？\n答：{0}的{1}是{2}号。\n",
    "word": "问：{0}的{1}上写着什么？\n答：{0}的{1}上写着“{2}”。\n",
    "say": "问：{0}说了什么？\n答：{0}说了“{1}”。\n",
    "get": "问：{0}得了几{m}{1}？\n答：{0}得了{2}{m}{1}。\n",
    "set": "问：{0}是几？\n答：{0}是{1}。\n",
}
TOPICS: tuple[str, ...] = tuple(_QUESTIONS)
"""What can be asked for."""
_FORMS = {
    "code": "{0}的{1}是{2}号。\n",
    "word": "{0}的{1}上写着“{2}”。\n",
    "say": "{0}说了“{1}”。\n",
    "more": "{0}又说了“{1}”。\n",
    "get": "{0}得了1{m}{1}。\n",
    "again": "{0}又得了1{m}{1}。\n",
    "set": "设{0}是{1}。\n",
    "same": "设{0}和{1}相同。\n",
    "note": "记下第{0}句：{1}。\n",
    "recite": "再念第{0}句：{1}。\n",
    "chant": "跟我念：{0}，{1}。\n",
    **{f"ask-{topic}": form for topic, form in _QUESTIONS.items()},
}
_PERSON, _THING, _SNACK, _VARIABLE = (
    "|".join(sorted(words)) for words in (PEOPLE, THINGS, SNACKS, VARIABLES)
)
_QUOTED, _NUMBER, _ORDINAL, _COPY = (
    "[^“”\n]{1,16}",
    "[0-9]{1,4}",
    "[一二三四五六七八九十百零]{1,7}",
    "[^，。\n]{1,64}",
)
_GAPS = {
    "code": (_PERSON, _THING, _NUMBER),
    "word": (_PERSON, _THING, _QUOTED),
    "say": (_PERSON, _QUOTED),
    "more": (_PERSON, _QUOTED),
    "get": (_PERSON, _SNACK),
    "again": (_PERSON, _SNACK),
    "set": (_VARIABLE, _NUMBER),
    "same": (_VARIABLE, _VARIABLE),
    "note": (_ORDINAL, _COPY),
    "recite": (_ORDINAL, _COPY),
    "chant": (_COPY, _COPY),
    "ask-code": (_PERSON, _THING, _NUMBER),
    "ask-word": (_PERSON, _THING, _QUOTED),
    "ask-say": (_PERSON, f"{_QUOTED}(?:”“{_QUOTED}){{0,15}}"),
    "ask-get": (_PERSON, _SNACK, _NUMBER),
    "ask-set": (_VARIABLE, _NUMBER),
}


def write(line: Line) -> str:
    """The text of a line, its line break included."""
    kind, words = line
    form = _FORMS.get(kind)
    if form is None:
        return words[0] + "\n"
    return form.format(*words, m=SNACKS.get(words[1], "")) if "{m}" in form else form.format(*words)


def around(topic: str, about: tuple[str, ...]) -> tuple[str, str]:
    """A question up to where what is asked for begins, and what stands behind that.

    >>> around("set", ("甲子",))
    ('问：甲子是几？\\n答：甲子是', '。\\n')
    """
    before, _, behind = write(Line(f"ask-{topic}", (*about, "\0"))).partition("\0")
    return before, behind


def read(text: str, position: int = 0) -> tuple[Line, int] | None:
    """The line at ``position`` and where it ends; None where none of these stands there whole.

    Scenes and stories are not read here: their grammars tell them from other text.
    """
    for kind, pattern in _patterns().get(text[position : position + 1], ()):
        if found := pattern.match(text, position):
            line = Line(kind, found.groups())
            # a question answered about something else, or another measure word, is no line
            return (line, found.end()) if write(line) == found[0] else None
    return None


def begins(text: str, position: int) -> bool:
    """Whether a line that ``read`` reads may begin at ``position``, by its first character."""
    return text[position : position + 1] in _patterns()


@cache
def _patterns() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """One for each kind, by what a line begins with.

    A gap named again may hold anything here, as ``read`` compares the whole.
    """
    made: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    people = sorted({person[0] for person in PEOPLE})
    for kind, form in _FORMS.items():
        gaps, seen, pattern = _GAPS[kind], set[str](), ""
        for part in re.split(r"(\{\w\})", form):
            if not part.startswith("{"):
                pattern += re.escape(part)
            elif part == "{m}":
                pattern += "."
            else:
                gap = gaps[int(part[1])]
                pattern += f"(?:{gap})" if part in seen else f"({gap})"
                seen.add(part)
        for first in people if form.startswith("{") else form[0]:
            made.setdefault(first, []).append((kind, re.compile(pattern)))
    return made
