"""Proof that the world's grammar is unambiguous: two different ways to choose never write the same text.

It is enough that (1) no form of a category is the beginning of another form, (2) a number is never followed
by a character that could belong to it, and (3) at every choice the patterns that may come next differ in
the text they begin with, whatever is drawn. Then a reader who sees the text from the left always knows
which choice was made.
"""

from collections.abc import Iterator
from itertools import pairwise

from congling.data.smallworld.grammar import Grammar, Node, Pattern, Slot
from congling.data.smallworld.lexicon import Category
from congling.data.smallworld.reading import DIGITS, NUMERALS

_END: tuple[str | Slot, ...] = ("\0",)  # stands for the end of the document, which has to be told apart too


def ambiguities(grammar: Grammar) -> Iterator[str]:
    """Yield every place where the proof fails; nothing means that the grammar is unambiguous."""
    yield from _sequence(grammar.nodes, [_END])


def _sequence(nodes: tuple[Node, ...], follow: list[tuple[str | Slot, ...]]) -> Iterator[str]:
    for index, node in enumerate(nodes):
        after = _first(nodes[index + 1 :], follow)
        if isinstance(node, Pattern):
            yield from _numbers_end(node, after)
            yield from _forms_end(node)
            continue
        firsts = [_first(alternative, after) for alternative in node.alternatives]
        for k, left in enumerate(firsts):
            for right in firsts[k + 1 :]:
                yield from (f"{_show(a)} or {_show(b)}" for a in left for b in right if not _differ(a, b))
        for alternative in node.alternatives:
            yield from _sequence(alternative, after)


def _first(nodes: tuple[Node, ...], follow: list[tuple[str | Slot, ...]]) -> list[tuple[str | Slot, ...]]:
    """The patterns a sequence can begin with, or what follows it where it can be empty."""
    if not nodes:
        return follow
    if isinstance(nodes[0], Pattern):
        return [nodes[0].tokens]
    rest = _first(nodes[1:], follow)
    return [tokens for alternative in nodes[0].alternatives for tokens in _first(alternative, rest)]


def _differ(left: tuple[str | Slot, ...], right: tuple[str | Slot, ...]) -> bool:
    """Whether texts of two patterns always differ before either ends."""
    a, b = list(left), list(right)
    while a and b:
        x, y = a.pop(0), b.pop(0)
        if isinstance(x, str) and isinstance(y, str):
            if x.startswith(y):
                a[:0] = [x[len(y) :]] if len(x) > len(y) else []
            elif y.startswith(x):
                b[:0] = [y[len(x) :]]
            else:
                return True
        elif isinstance(x, Slot) and isinstance(y, Slot):
            if x.category.numeric or y.category.numeric:
                if x.category.numeric != y.category.numeric:
                    return _apart(x, y)
                continue  # both read as long a run as they can
            same = x.category is y.category and x.attribute == y.attribute
            if not same:
                return _apart(x, y)
            if x.bound and y.bound and x.variable != y.variable and x.category.identifies(x.attribute):
                return True  # two variables of one category never hold the same entry
        else:
            return _apart(x, y)
    return False


def _apart(x: str | Slot, y: str | Slot) -> bool:
    """Whether no text of one is the beginning of a text of the other."""
    return not any(p.startswith(q) or q.startswith(p) for p in _texts(x) for q in _texts(y))


def _texts(token: str | Slot) -> tuple[str, ...]:
    if isinstance(token, str):
        return (token,)
    if token.category.numeric:
        return tuple(NUMERALS | DIGITS)
    return tuple(token.category.forms[token.attribute])


def _numbers_end(pattern: Pattern, after: list[tuple[str | Slot, ...]]) -> Iterator[str]:
    for index, token in enumerate(pattern.tokens):
        if isinstance(token, Slot) and token.category.numeric:
            rest = pattern.tokens[index + 1 :]
            texts = [text for tokens in ([rest] if rest else after) for text in _texts(tokens[0])]
            kind = DIGITS if token.category.attributes[token.attribute] == "digits" else NUMERALS
            if any(text[0] in kind for text in texts):
                yield f"a number runs on in {_show(pattern.tokens)}"


def _forms_end(pattern: Pattern) -> Iterator[str]:
    for token in pattern.tokens:
        if not isinstance(token, Slot) or token.category.numeric:
            continue
        if not _prefix_free(token.category, token.attribute):
            yield f"one form of {token.category.name!r} is the beginning of another"


def _prefix_free(category: Category, attribute: int) -> bool:
    forms = sorted(category.forms[attribute])
    return not any(later.startswith(form) for form, later in pairwise(forms))


def _show(tokens: tuple[str | Slot, ...]) -> str:
    return "".join(token if isinstance(token, str) else f"{{{token.variable}}}" for token in tokens)
