"""What a plot is: its sentences, and the questions they answer."""

from typing import NamedTuple

from congling.data.smallworld.grammar import Source


class Plot(NamedTuple):
    """What happens in a story, as a grammar.

    ``who`` is the hero, ``friend`` another child; ``{who.he}`` is used only where the hero was the last
    subject. What follows `` | `` in a sentence is its meaning, in the notation of ``facts.py``.
    """

    body: Source
    questions: tuple[str, ...]
    """Patterns of question and answer."""


def ask(question: str, answer: str, fact: str) -> str:
    """A pattern of question and answer; ``fact`` says what has to be true for the answer to be right."""
    return f"\n问：{question}？\n答：{answer}。 | {fact}"


PLACE = ask("{who}去了哪里", "去了{place}", "goes who ? place")
TIME = ask("{who}是什么时候去的", "是{time}去的", "when who ? time")
