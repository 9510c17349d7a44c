"""How large a vocabulary a corpus can feed.

``vocabulary = 259 + characters seen often + their common beginnings + longer pieces``, where

* 259 are the bytes and the special tokens;
* a character that occurs ``OFTEN`` times or more is worth a token: rarer ones could not train an embedding
  row;
* one token is needed for each distinct beginning of such characters in bytes, about one for every 16
  (byte-level BPE);
* longer pieces number ``11 * characters ** 0.4``, and at most one for every 32 characters of text.

The power law was set on 红楼梦: its 0.53 million training characters give 4,600-4,900 ids, a size found good
for models of 5-10 million parameters there, at about 1.3 characters a token; a larger one shortens
sequences by a few per cent but moves the parameters, and the time of every step, from the layers to the
embedding and output tables. A hundred times the text gives about six times the pieces. A text of 1,600
characters is left near character level.
"""

from dataclasses import dataclass

OFTEN = 8
LARGEST = 32_768
FIXED = 259
SMALLEST = 320


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
        frequent: number of those that occur at least ``OFTEN`` times; None estimates it.
        kind: of the tokenizer.
    """
    if kind == "character":
        size = FIXED + distinct
        reason = f"A character tokenizer takes all {distinct:,} characters, 256 bytes and 3 special tokens."
        return Advice(size, (reason,))
    if frequent is None:
        frequent = min(distinct, round(0.6 * distinct), max(1, characters // OFTEN))
    beginnings = frequent // 16
    pieces = min(round(11 * characters**0.4), characters // 32)
    size = min(LARGEST, FIXED + frequent + beginnings + pieces)
    size = max(SMALLEST, size // 32 * 32)
    share = size * 256 / 1e6
    reasons = [
        f"{frequent:,} of {distinct:,} characters occur {OFTEN} times or more, enough to train a row.",
        f"{characters:,} characters of text feed about {pieces:,} pieces of several characters.",
        f"Each id is a row of the embedding: at width 256 these take {share:.1f} M parameters.",
    ]
    if characters < 20_000:
        reasons.append("The corpus is tiny: longer pieces would be seen once or twice, so few are taken.")
    if size == LARGEST:
        reasons.append(f"More than {LARGEST:,} ids would go mostly to the embedding of a small model.")
    return Advice(size, tuple(reasons))
