"""Logits of which nothing is left that would spoil a character: what is drawn is text of whole ones.

A text is followed token by token; while a character is begun, only what goes on with it may be drawn, no end
of the text either, and otherwise nothing that could stand in none. A limit stays a limit: where the last
token allowed begins a character, its bytes are left out.
"""

# B batch, V vocabulary

import codecs
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from congling.infer.sampler import drawable
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.characters import WHOLE, after


class WholeCharacters:
    """Follows the texts of a batch and bars what cannot come next.

    Args:
        tokenizer: says which bytes tokens stand for.
        rows: V, of the model; those behind the vocabulary are barred as well.
        begun: for every text the bytes of a character that its prompt begins.
        device: of the logits.
    """

    def __init__(self, tokenizer: Tokenizer, rows: int, begun: Sequence[bytes], device: torch.device) -> None:
        self._table, self._device, self._rows = tokenizer.character_table, device, rows
        self._undrawable = np.array(tokenizer.undrawable(rows), np.int64)
        self._states = [max(WHOLE, after(WHOLE, data)) for data in begun]
        self._always = self._ids(WHOLE)
        self._masks: dict[int, Tensor] = {}

    def drawable(self, logits: Tensor) -> Tensor:
        """Logits (B, V) with minus infinity at what may not come next in each text."""
        if not any(self._states):  # nearly always: one set of ids for all
            return drawable(logits, self._always)
        masks = torch.stack([self._mask(state) for state in self._states])
        return logits.masked_fill(masks, -torch.inf)

    def append(self, chosen: Sequence[int]) -> None:
        """Take note of the id drawn for every text."""
        behind = self._table.behind
        self._states = [
            max(WHOLE, int(behind[state, index])) for state, index in zip(self._states, chosen, strict=True)
        ]

    def _ids(self, state: int) -> Tensor:
        """Ids (n,) that may not come in a state."""
        found = np.union1d(self._table.barred(state), self._undrawable)
        return torch.from_numpy(found.astype(np.int64)).to(self._device)

    def _mask(self, state: int) -> Tensor:
        """(V,), true where an id may not come."""
        if state not in self._masks:
            mask = torch.zeros(self._rows, dtype=torch.bool, device=self._device)
            self._masks[state] = mask.index_fill_(0, self._ids(state), True)
        return self._masks[state]


def begun(tokenizer: Tokenizer, ids: Sequence[int]) -> bytes:
    """The first bytes of a character that some ids end with; none where the last one is whole."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for index in ids[-8:]:  # a character has four bytes at most
        try:
            decoder.decode(tokenizer.token_bytes(index))
        except IndexError:
            decoder.reset()
    return decoder.getstate()[0]
