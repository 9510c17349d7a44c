"""Byte-level BPE, learnt on characters and written out over bytes.

Pieces are merged from characters, never from halves of two neighbours, and every character frequent enough
is one token; the result is a byte-level BPE in the format of GPT-2 and Qwen, which ``tokenizers``,
``transformers`` and llama.cpp read as it is. Each kept character is built from its bytes by merges that
come before all others::

    E4 + BB → E4BB      E4BB + 96 → 他      他 + 们 → 他们

A character that is not kept costs two or three tokens and is never lost.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from congling.core.errors import UserError
from congling.core.interrupt import interruptible
from congling.core.progress import stage
from congling.core.text import write_text
from congling.tokenizer import split
from congling.tokenizer.base import CHATML, FIRST_BYTE, FIRST_PIECE, SPECIAL, Roles
from congling.tokenizer.library import FILE, LibraryTokenizer, read_text

Merge = tuple[bytes, bytes]
_THRESHOLDS = (1, 3, 8, 16, 32, 64, 2**62)  # occurrences that make a character a token; the last keeps none
_TRIAL_CHARACTERS = 300_000  # text on which the number of characters to keep is tried out


class BytePairTokenizer(LibraryTokenizer):
    """Byte-level BPE run by the ``tokenizers`` library."""

    kind = "bpe"

    def __init__(
        self,
        inner: tokenizers.Tokenizer,
        special: Mapping[str, int],
        chat_template: str = CHATML,
        fingerprint: str = "",
        roles: Roles | None = None,
    ) -> None:
        super().__init__(special, chat_template, fingerprint, roles)
        self._inner = inner
        self._inner.encode_special_tokens = True  # "<|im_end|>" in a text is text
        symbols = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
        vocabulary = inner.get_vocab(with_added_tokens=False)
        self._pieces = [b""] * inner.get_vocab_size()
        for token, index in vocabulary.items():
            if index not in self._special_bytes:
                self._pieces[index] = bytes(symbols[symbol] for symbol in token)

    @classmethod
    def load(
        cls, folder: Path, special: Mapping[str, int], chat_template: str, fingerprint: str, roles: Roles
    ) -> "BytePairTokenizer":
        """Read ``tokenizer.json``: its merges are taken, everything else must follow from them.

        Raises:
            UserError: the file is missing, or no byte-level BPE of ours.
        """
        file = folder / FILE
        try:
            model = json.loads(read_text(file))["model"]
            inner = _following(model["merges"], model["vocab"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError("this is no byte-level BPE of congling", where=file, value=str(error)) from None
        return cls(inner, special, chat_template, fingerprint, roles)

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        write_text(folder / FILE, self._inner.to_str(pretty=True))

    @property
    def content(self) -> dict[str, Any]:
        """``tokenizer.json`` as a dictionary."""
        return json.loads(self._inner.to_str())

    @property
    def merges(self) -> list[tuple[str, str]]:
        """Pairs of pieces in byte symbols, the first learnt first."""
        return [(left, right) for left, right in self.content["model"]["merges"]]


def from_merges(
    merges: Iterable[Sequence[str]], vocabulary: Mapping[str, int], chat_template: str = CHATML
) -> BytePairTokenizer:
    """A tokenizer from merges in byte symbols, which must give exactly this vocabulary.

    Raises:
        ValueError: they give another one, so the vocabulary was not learnt here.
    """
    try:
        return BytePairTokenizer(_following(merges, vocabulary), SPECIAL, chat_template)
    except KeyError as error:
        raise ValueError(f"no byte symbol: {error}") from None


def _following(merges: Iterable[Sequence[str]], vocabulary: Mapping[str, int]) -> tokenizers.Tokenizer:
    inner = _assemble(_merges_of(merges))
    if inner.get_vocab(with_added_tokens=False) != vocabulary:
        raise ValueError("the vocabulary does not follow from the merges")
    return inner


def byte_symbols() -> list[str]:
    """The character that stands for each of the 256 bytes in a byte-level vocabulary (GPT-2's table)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = iter(range(0x100, 0x200))
    return [chr(byte if byte in plain else next(shifted)) for byte in range(256)]


@stage("learning a vocabulary")
def train(
    texts: Iterable[str], *, vocab_size: int, characters: Mapping[str, int], digits: int, longest_token: int
) -> BytePairTokenizer:
    """Learn a byte-level BPE.

    ``characters`` counts the characters of the sample. How many of them become tokens, and how much of the
    vocabulary is left to longer pieces, is tried out: of several thresholds the one that encodes the
    beginning of the sample in the fewest tokens wins. The vocabulary ends up smaller than ``vocab_size``
    when the text offers no more pairs.
    """
    trial: list[str] = []
    merges = _learn(_keeping(texts, trial), vocab_size, len(characters), digits, longest_token)
    best: tuple[int, tokenizers.Tokenizer] | None = None
    ranked = sorted(characters, key=lambda symbol: (-characters[symbol], symbol))
    for threshold in _THRESHOLDS:
        kept = [symbol for symbol in ranked if characters[symbol] >= threshold]
        candidate = _assemble(_byte_merges(kept, merges, vocab_size - FIRST_PIECE))
        cost = sum(len(found) for found in candidate.encode_batch_fast(trial, add_special_tokens=False))
        if best is None or cost < best[0]:
            best = cost, candidate
    assert best is not None
    return BytePairTokenizer(best[1], SPECIAL)


def _keeping(texts: Iterable[str], trial: list[str]) -> Iterator[str]:
    """Pass texts on, keeping the first ones for the trial."""
    held = 0
    for text in texts:
        if held < _TRIAL_CHARACTERS:
            trial += split.safe_chunks(text[: _TRIAL_CHARACTERS - held], 2**12)
            held += len(text)
        yield text


def _learn(
    texts: Iterable[str], vocab_size: int, distinct: int, digits: int, longest_token: int
) -> list[tuple[str, str]]:
    """Merges over characters, the most frequent pair first."""
    learner = tokenizers.Tokenizer(models.BPE())
    learner.pre_tokenizer = _splitter(split.learning(digits))
    trainer = trainers.BpeTrainer(
        vocab_size=distinct + vocab_size,
        min_frequency=2,
        max_token_length=longest_token,
        show_progress=False,  # ours says it in the same words as everything else
    )
    interruptible(learner.train_from_iterator, texts, trainer)
    return [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]


def _byte_merges(kept: Sequence[str], merges: Iterable[tuple[str, str]], room: int) -> list[Merge]:
    """Merges over bytes: first those of the kept characters, then longer pieces, ``room`` tokens at most."""
    table: list[Merge] = []
    known = {bytes([byte]) for byte in range(256)}
    for symbol in kept:
        encoded = symbol.encode()
        chain = [
            (encoded[:end], encoded[end : end + 1])
            for end in range(1, len(encoded))
            if encoded[: end + 1] not in known
        ]
        if len(table) + len(chain) > room:
            continue
        table += chain
        known.update(left + right for left, right in chain)
    for pair in merges:
        left, right = pair[0].encode(), pair[1].encode()
        if len(table) >= room:
            break
        if left in known and right in known and left + right not in known:
            table.append((left, right))
            known.add(left + right)
    return table


def _merges_of(pairs: Iterable[Sequence[str]]) -> list[Merge]:
    """Merges over bytes from the pairs of a file; ValueError or KeyError where they make no vocabulary."""
    values = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    known = {bytes([byte]) for byte in range(256)}
    table: list[Merge] = []
    for pair in pairs:
        left, right = (bytes(values[symbol] for symbol in part) for part in pair)
        if not {left, right} <= known or left + right in known:
            raise ValueError("a merge joins unknown pieces, or makes one that exists")
        known.add(left + right)
        table.append((left, right))
    return table


def _assemble(merges: Sequence[Merge]) -> tokenizers.Tokenizer:
    """A ``tokenizers`` tokenizer: special tokens, bytes, then one token a merge."""
    symbols = byte_symbols()

    def shown(piece: bytes) -> str:
        return "".join(symbols[byte] for byte in piece)

    vocabulary = {**SPECIAL, **{symbol: FIRST_BYTE + byte for byte, symbol in enumerate(symbols)}}
    vocabulary |= {shown(left + right): FIRST_PIECE + rank for rank, (left, right) in enumerate(merges)}
    inner = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=[(shown(left), shown(right)) for left, right in merges])
    )
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([_splitter(split.ENCODING), bytes_of])
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return inner


def _splitter(expressions: Iterable[str]) -> Any:
    splits = [pre_tokenizers.Split(Regex(expression), behavior="isolated") for expression in expressions]
    return pre_tokenizers.Sequence(splits)
