"""How tasks of the small world are put to a model: several wordings of each, the last of them held out.

A model tuned on the seen wordings and asked in the unseen one shows whether it learnt the task or the
phrase; asked in a seen wording with another seed, whether it learnt the task or its rows.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Literal

TaskKind = Literal["questions", "couplets", "arithmetic", "story"]
TASKS: tuple[TaskKind, ...] = ("questions", "couplets", "arithmetic", "story")
Script = Literal["hans", "hant"]

WORDINGS: Mapping[Script, Mapping[TaskKind, tuple[str, ...]]] = {
    "hans": {
        "questions": (
            "{story}\n{question}",
            "{story}\n请回答：{question}",
            "读一读这个故事：{story}\n{question}",
            "{story}\n听完了故事，你来说说：{question}",
        ),
        "couplets": ("对下联：{upper}", "上联：{upper}，下联是什么？", "{upper}，", "请你对一对：{upper}"),
        "arithmetic": ("{sum}{equals}", "{said}等于多少？", "算一算：{sum}", "{said}得多少？"),
        "story": ("讲一个故事，开头是：{opening}", "接着讲：{opening}", "{opening}", "后来呢？{opening}"),
    },
    "hant": {
        "questions": (
            "{story}\n{question}",
            "{story}\n請回答：{question}",
            "讀一讀這個故事：{story}\n{question}",
            "{story}\n聽完了故事，你來說說：{question}",
        ),
        "couplets": ("對下聯：{upper}", "上聯：{upper}，下聯是什麼？", "{upper}，", "請你對一對：{upper}"),
        "arithmetic": ("{sum}{equals}", "{said}等於多少？", "算一算：{sum}", "{said}得多少？"),
        "story": ("講一個故事，開頭是：{opening}", "接著講：{opening}", "{opening}", "後來呢？{opening}"),
    },
}
"""Wordings by script and kind; the last one of each is seen by nobody who trains on ``seen`` wordings."""

_SHAPES = {
    "story": "(?P<story>[^\n]+)",
    "question": "(?P<question>[^\n：]+)",
    "upper": "(?P<upper>[^\\s，。：“”「」？]{1,30})",
    "opening": "(?P<opening>[^\n：？]+(?:：[^\n]*)?)",
}


def unwrap(kind: TaskKind, text: str) -> Mapping[str, str] | None:
    """What a wording was put around, by name (``upper``, ``opening`` …); None where no wording fits.

    >>> unwrap("couplets", "对下联：白鹭飞青岭")
    {'upper': '白鹭飞青岭'}
    """
    for pattern in _patterns(kind):
        if found := pattern.fullmatch(text.strip()):
            return found.groupdict()
    return None


@cache
def _patterns(kind: TaskKind) -> tuple[re.Pattern[str], ...]:
    """One for every wording, those with most text of their own first: a bare ``{opening}`` fits anything."""
    texts = {wording for script in WORDINGS.values() for wording in script[kind]}
    return tuple(map(_pattern, sorted(texts, key=len, reverse=True)))


def _pattern(wording: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", wording)
    return re.compile(
        "".join(_SHAPES.get(part, ".+") if k % 2 else re.escape(part) for k, part in enumerate(parts))
    )
