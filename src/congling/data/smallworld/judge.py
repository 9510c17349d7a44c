"""Judging what a model answered to a task of the small world, by rule alone.

``right`` is exact and what accuracy is counted with; ``reward`` is the same at 1 and graded below it, for
reinforcement, where a group of answers that are all wrong would otherwise teach nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from congling.core.errors import UserError
from congling.data.final_answer import last_number, plain, same
from congling.data.repetition import repeated_share, sentences
from congling.data.smallworld.checking import check
from congling.data.smallworld.couplet_form import couplet_fault
from congling.data.smallworld.wordings import TASKS, TaskKind, unwrap

LONGEST = 2_000
"""Characters of an answer that are looked at; what is longer is never right."""
SENTENCES = 4, 10
"""Fewest and most different sentences of a rest of a story, of which the world's own have 4 to 9: an empty
one contradicts nothing, and an endless one never comes to its end."""
GRAM, REPEATED = 4, (0.1, 0.5)
"""Characters of a piece; the share of them that may return within a story, up to 0.08 in the world's own, and
the share at which nothing is earned. Sentences that differ in a name are one pattern over and over."""


def right(kind: str, prompt: str, completion: str, answer: str) -> bool:
    """Whether a completion answers a prompt of this kind.

    Sums are compared by the value last stated, in digits or in words; questions by the answer, but for marks
    and white space around it and the width of letters (``final_answer``); a couplet is any lower line that
    matches; a story any rest of :data:`SENTENCES` different sentences, in which every one is one of the
    world's and none contradicts another.

    Raises:
        UserError: there is no such kind.
    """
    return _graded(kind, prompt, completion, answer) == 1


def reward(row: Mapping[str, Any], completion: str) -> float:
    """From 0 to 1 for a completion of a row of prompts or instructions (``rows.py``).

    ======================  ===========================================================================
    a sum                   1 the number, 0.1 another number or one over and over, else 0
    a question              1 the answer, else half the share of it that agrees at both ends
    a couplet               1 if it matches, else 0.8 of the share of places that do, 0 at another length
    a story                 the score of ``check``, less for few, many or repeated sentences or pieces
    ======================  ===========================================================================

    Raises:
        UserError: the row is none of these.
    """
    kind, answer = row.get("kind"), row.get("answer")
    if not isinstance(kind, str) or not isinstance(answer, str):
        raise UserError("a row to judge needs its kind and its answer", value=sorted(row))
    return _graded(kind, prompt_of(row), completion, answer)


def prompt_of(row: Mapping[str, Any]) -> str:
    """The question of a row: its last turn of a user, or its ``prompt`` where that is text.

    Raises:
        UserError: there is none.
    """
    asked = row.get("messages", row.get("prompt"))
    if isinstance(asked, str):
        return asked
    turns: Sequence[Any] = asked if isinstance(asked, list) else ()
    for turn in reversed(turns):
        if isinstance(turn, Mapping) and turn.get("role") == "user" and isinstance(turn.get("content"), str):
            return turn["content"]
    raise UserError("a row to judge needs a question: messages, or a prompt", value=sorted(row))


def grammatical(text: str) -> float:
    """Share of the characters that stand in a sentence of the world, from 0 to 1; 1 for a sound document.

    A bare answer to a question is no sentence of the world; give the story, the question and the answer as
    the corpus writes them, or a whole story.
    """
    return check(text).grammar


def _graded(kind: str, prompt: str, completion: str, answer: str) -> float:
    if kind not in TASKS:
        raise UserError("no such kind of task", value=kind, hint=f"kinds are {', '.join(TASKS)}")
    said = completion.strip()
    if not said or len(said) > LONGEST:
        return 0.0
    if kind == "arithmetic":
        return _sum(said, answer)
    if kind == "questions":
        return _question(said, answer)
    if kind == "couplets":
        return _couplet(_unwrapped("couplets", prompt), said)
    return _story(_unwrapped("story", prompt), said)


def _unwrapped(kind: TaskKind, prompt: str) -> str:
    """The upper line or the opening; a prompt in words of somebody's own is taken from its last colon on."""
    found = unwrap(kind, prompt)
    if found is not None:
        return found["upper" if kind == "couplets" else "opening"]
    return prompt.strip().rpartition("：")[2].rstrip("，。？") if kind == "couplets" else prompt.strip()


def _sum(said: str, answer: str) -> float:
    if last_number(said) is None:
        return 0.0
    return 1.0 if same(said, answer) and repeated_share(said, GRAM) < REPEATED[1] else 0.1


def _question(said: str, answer: str) -> float:
    said, answer = plain(said), plain(answer)
    if said == answer:
        return 1.0
    length = min(len(said), len(answer))
    before = next((k for k in range(length) if said[k] != answer[k]), length)
    behind = next((k for k in range(length - before) if said[-1 - k] != answer[-1 - k]), length - before)
    return 0.5 * (before + behind) / max(len(said), len(answer), 1)


def _couplet(upper: str, said: str) -> float:
    lower = said.removesuffix("。")
    if len(lower) != len(upper):
        return 0.0
    faults = sum(couplet_fault(*pair) is not None for pair in zip(upper, lower, strict=True))
    return 1.0 if not faults else 0.8 * (1 - faults / len(upper))


def _story(opening: str, said: str) -> float:
    first, _, more = said.partition("\n")
    fewest, most = SENTENCES
    told = [one for one in sentences(first) if any(map(str.isalnum, one))]  # marks alone are no sentence
    different = len(set(told) - {opening.strip()})
    whole, ended = min(1.0, different / fewest), min(1.0, most / max(1, len(told)))
    free, barren = REPEATED
    fresh = min(1.0, max(0.0, (barren - repeated_share(first, GRAM)) / (barren - free)))
    alone = len(first) / (len(first) + len(more.strip()))
    verdict = check(opening + first)
    if verdict.kind not in ("story", "questions"):
        return 0.0
    grammar = min(1.0, check(first).grammar / verdict.grammar)  # the opening, which was given, earns nothing
    return verdict.score * grammar * whole * ended * fresh * alone
