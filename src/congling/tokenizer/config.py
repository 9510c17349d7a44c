"""Which tokenizer to train."""

from typing import Literal

from pydantic import Field

from congling.core.config import Config
from congling.core.units import Amount

SMALLEST_VOCABULARY = 320  # 256 bytes, the special tokens, and a few pieces


class TokenizerConfig(Config):
    """Settings of the ``tokenizer`` stage, written ``tokenizer.vocab_size=4096`` on the command line."""

    kind: Literal["bpe", "unigram", "character"] = "bpe"
    """``bpe``: byte-level BPE. ``unigram``: sentencepiece. ``character``: a token for each character."""
    vocab_size: int | None = Field(default=None, ge=SMALLEST_VOCABULARY, le=2**20)
    """Number of ids at most; None takes what ``advice.advise_vocab`` says of the corpus."""
    digits: int = Field(default=1, ge=1, le=3)
    """Digits a token may hold: with 1 every number is spelt, which small models add and compare best."""
    longest_token: int = Field(default=16, ge=1, le=64)
    """Characters a token may hold: enough for a long word; longer ones are memorised phrases."""
    sample: Amount = Field(default=48_000_000, ge=10_000)
    """Bytes of text the vocabulary is learnt from; see ``sampling`` for the memory this takes."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Chooses the sample."""
