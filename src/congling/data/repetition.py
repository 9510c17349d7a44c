"""How much of a text stood in it before: pieces of characters, and whole sentences."""

import re
from collections import Counter

GRAM = 8
"""Characters of the pieces whose return is counted: a sentence seldom says eight in the same order twice."""
_END = re.compile("(?<=[。！？])(?![”」])")


def repeated_share(text: str, gram: int = GRAM) -> float:
    """Share of the pieces of ``gram`` characters that stood in the text before; 0 for a short text.

    >>> round(repeated_share("天地玄黄宇宙洪荒" * 5), 2)
    0.76
    """
    pieces = [text[i : i + gram] for i in range(len(text) - gram + 1)]
    return 1 - len(set(pieces)) / len(pieces) if pieces else 0.0


def sentences(text: str) -> list[str]:
    """The sentences of a text, line by line, without white space around them; a mark within quotation marks
    ends none.

    >>> sentences("天黑了。“走吧！”阿明说。")
    ['天黑了。', '“走吧！”阿明说。']
    """
    found = (part.strip() for line in text.splitlines() for part in _END.split(line))
    return [sentence for sentence in found if sentence]


def distinct_share(told: list[str], times: int = 1) -> float:
    """Share of sentences that is left when each counts ``times`` at most; 1 where there are none."""
    kept = sum(min(count, times) for count in Counter(told).values())
    return kept / len(told) if told else 1.0
