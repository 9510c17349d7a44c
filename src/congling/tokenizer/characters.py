"""Which tokens may come next so that a text is one of whole characters.

A character of three bytes may be spelt in three tokens, and pieces of byte-level vocabularies end in the
middle of one. UTF-8 allows only some bytes after each other, which is an automaton of eight states; a token
is a walk through it. What was begun is a state, and each token leads to another, or nowhere::

    whole ─ E4 → two to come ─ BB → one to come ─ 96 → whole        他
    whole ─ E4 → two to come ─ 41 → nowhere                         a stray E4, shown as U+FFFD
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from congling.tokenizer.base import Tokenizer

WHOLE = 0
"""The state in which no character is begun."""
_ONE, _TWO, _THREE, _E0, _ED, _F0, _F4, _STATES = range(1, 9)
_NOWHERE = -1
# First byte, last byte, state behind: RFC 3629, without long forms, surrogates and planes beyond the 16th.
_STEPS = {
    WHOLE: (
        (0x00, 0x7F, WHOLE), (0xC2, 0xDF, _ONE), (0xE0, 0xE0, _E0), (0xE1, 0xEC, _TWO), (0xED, 0xED, _ED),
        (0xEE, 0xEF, _TWO), (0xF0, 0xF0, _F0), (0xF1, 0xF3, _THREE), (0xF4, 0xF4, _F4),
    ),
    _ONE: ((0x80, 0xBF, WHOLE),),
    _TWO: ((0x80, 0xBF, _ONE),),
    _THREE: ((0x80, 0xBF, _TWO),),
    _E0: ((0xA0, 0xBF, _ONE),),
    _ED: ((0x80, 0x9F, _ONE),),
    _F0: ((0x90, 0xBF, _TWO),),
    _F4: ((0x80, 0x8F, _TWO),),
}  # fmt: skip


def _bytes_table() -> list[list[int]]:
    table = [[_NOWHERE] * 256 for _ in range(_STATES)]
    for state, steps in _STEPS.items():
        for first, last, behind in steps:
            table[state][first : last + 1] = [behind] * (last + 1 - first)
    return table


_BYTES = _bytes_table()


def after(state: int, data: bytes) -> int:
    """The state behind some bytes; -1 where they cannot stand there.

    >>> after(WHOLE, "他".encode()), after(after(WHOLE, b"\\xe4"), b"A")
    (0, -1)
    """
    for byte in data:
        if (state := _BYTES[state][byte]) == _NOWHERE:
            break
    return state


class CharacterTable:
    """Of every state and token the state behind it.

    Attributes:
        behind: (states, V) int8, -1 where a token may not come: its bytes cannot stand there, or they begin
            what no token of the vocabulary can end.
        spells: whether any token stands for a part of a character; where none does, nothing can go wrong.
    """

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self.behind = np.full((_STATES, tokenizer.vocab_size), _NOWHERE, np.int8)
        self.spells = False
        for index in range(tokenizer.vocab_size):
            try:
                data = tokenizer.token_bytes(index)
            except IndexError:  # a hole, which nothing may draw
                continue
            if is_whole(data):
                self.behind[WHOLE, index] = WHOLE
            else:
                self.spells = True
                self.behind[:, index] = [after(state, data) for state in range(_STATES)]
        self._close_dead_ends()

    def _close_dead_ends(self) -> None:
        """Bar what leads to a state that no token leads out of, as in vocabularies without some bytes."""
        ends = {WHOLE}
        while True:
            leads = np.isin(self.behind, list(ends)).any(axis=1)
            more = ends | set(np.flatnonzero(leads).tolist())
            if more == ends:
                break
            ends = more
        self.behind[~np.isin(self.behind, list(ends))] = _NOWHERE

    def barred(self, state: int) -> np.ndarray:
        """Ids that may not come in a state, ascending."""
        return np.flatnonzero(self.behind[state] == _NOWHERE)


def is_whole(data: bytes) -> bool:
    """Whether bytes are whole characters."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
