"""Which two shorter tokens a token can be split into, for subword regularisation."""

import numpy as np

from congling.tokenizer.base import Tokenizer


def token_parts(tokenizer: Tokenizer) -> np.ndarray:
    """(V, 2) int64: the two pieces that spell each id, -1 where there are none.

    Only pieces of several whole characters have parts, and both parts are whole characters too. Of several
    ways the one whose rarer part was learnt first is taken: ids grow with rarity in every kind of
    vocabulary, so for byte-pair pieces this is nearly always the last merge.
    """
    special = set(tokenizer.special.values())
    texts = {
        index: text
        for index in range(tokenizer.vocab_size)
        if index not in special and (text := _text(tokenizer, index))
    }
    ids = {text: index for index, text in reversed(texts.items())}
    found = np.full((tokenizer.vocab_size, 2), -1, np.int64)
    for index, text in texts.items():
        ways = [(text[:i], text[i:]) for i in range(1, len(text))]
        known = [(ids[left], ids[right]) for left, right in ways if left in ids and right in ids]
        if known:
            found[index] = min(known, key=max)
    return found


def _text(tokenizer: Tokenizer, index: int) -> str:
    """Text of a piece, empty when it is no sequence of whole characters."""
    try:
        return tokenizer.token_bytes(index).decode()
    except UnicodeDecodeError:
        return ""
