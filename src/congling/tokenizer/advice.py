"""How large a vocabulary a corpus can feed.

``vocabulary = 259 + characters seen often + their common beginnings + longer pieces``, where

* 259 are the bytes and the special tokens;
* a character seen often is worth a token: a rarer one could not train its row of the embedding. Often is
  ``OFTEN`` times, and less below half a million characters, down to once: a small text is learnt by heart
  anyway, and sooner when each character is one token;
* one token is needed for each distinct beginning of such characters in bytes, 300 at most in Chinese;
* longer pieces number ``10 * characters ** 0.4``, and at most one for every 32 characters of text.

The power law was set on 红楼梦: its 0.53 million training characters give 4,832 ids and 1.31 characters a
token on held-out chapters, a size found good for models of 5-10 million parameters there. A larger
vocabulary shortens sequences by a few per cent (8,192 ids: 1.40) but moves the parameters, and the time
of every step, from the layers to the embedding and output tables. A hundred times the text gives about
six times the pieces. A text of 1,600 characters stays near character level.
"""

from dataclasses import dataclass
from math import exp

OFTEN = 8
LARGEST = 32_768
FIXED = 259
SMALLEST = 320


def often(characters: int) -> int:
    """Occurrences that make a character worth a token, in a corpus of so many characters."""
    return max(1, min(OFTEN, characters // 60_000))


@dataclass(frozen=True)
class Advice:
    """A vocabulary size, and why."""

    vocab_size: int
    reasons: tuple[str, ...]
    """Whole sentences, for people."""


def advise_vocab(characters: int, distinct: int, frequent: int | None = None, *, kind: str = "bpe") -> Advice:
    """Advise a vocabulary size.

    Args:
        characters: of the training text.
        distinct: number of different characters in it.
        frequent: number of those that occur at least ``often(characters)`` times; None estimates it.
        kind: of the tokenizer.
    """
    if kind == "character":
        size = FIXED + distinct
        reason = f"A character tokenizer takes all {distinct:,} characters, 256 bytes and 3 special tokens."
        return Advice(size, (reason,))
    if frequent is None:
        frequent = distinct if often(characters) == 1 else round(0.6 * distinct)
    beginnings = round(300 * (1 - exp(-frequent / 500)))
    pieces = min(round(10 * characters**0.4), characters // 32)
    size = min(LARGEST, FIXED + frequent + beginnings + pieces)
    size = max(SMALLEST, size // 32 * 32)
    share = size * 256 / 1e6
    times = f"{often(characters)} times" if often(characters) > 1 else "once"
    reasons = [
        f"{frequent:,} of {distinct:,} characters occur {times} or more and get an id each.",
        f"{characters:,} characters of text feed about {pieces:,} pieces of several characters.",
        f"Each id is a row of the embedding: at width 256 these take {share:.1f} M parameters.",
    ]
    if characters < 20_000:
        reasons.append("The corpus is tiny: longer pieces would be seen once or twice, so few are taken.")
    if size == LARGEST:
        reasons.append(f"More than {LARGEST:,} ids would go mostly to the embedding of a small model.")
    return Advice(size, tuple(reasons))
