"""A foreign ``tokenizer.json``: byte-level BPE (GPT-2, Qwen, Llama 3) or sentencepiece's kinds (Llama 2,
Mistral) as the ``tokenizers`` library runs them.

Tokens are turned into bytes by the file's own rules: GPT-2's table of byte symbols, or ``▁`` for a space and
``<0xHH>`` for a byte.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from congling.core.errors import UserError
from congling.core.text import write_text
from congling.tokenizer.base import Roles, TokenAttributes
from congling.tokenizer.bpe import byte_symbols
from congling.tokenizer.imported.unreachable import spelt_as_mark, unreachable
from congling.tokenizer.library import (
    FILE,
    LONGEST_TOKEN,
    LibraryTokenizer,
    ids_of,
    panics_as_errors,
    read_text,
)

_MOST_HOLES = 2**16  # ids between the first and the last that belong to no token
_BYTE = re.compile("<0x([0-9A-F]{2})>")
_REMOVING = {"Whitespace", "WhitespaceSplit", "BertPreTokenizer", "CharDelimiterSplit"}
"""Pre-tokenizers that leave out what they cut at."""
_STEPS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_MOST_STEPS = 500  # objects and lists in these; each step of a sequence is built and run one after the other
_PROBE = "a 你好，12\n\n<0x0A>"
Node = dict[str, Any]


class HuggingFaceTokenizer(LibraryTokenizer):
    """A ``tokenizer.json`` from elsewhere, kept as it is."""

    kind = "hf"
    cuttable = False

    def __init__(
        self,
        text: str,
        special: Mapping[str, int] | None,
        chat_template: str,
        fingerprint: str,
        roles: Roles,
    ) -> None:
        self.content = _content(text)
        whole = _inner(text)
        self.added = whole.get_added_tokens_decoder()
        """Tokens beside the model's own vocabulary by id; those that are not special are found in texts."""
        found = {token.content: index for index, token in self.added.items() if token.special}
        super().__init__(found if special is None else special, chat_template, fingerprint, roles)
        self._text = text
        self._tokens = whole.get_vocab(with_added_tokens=True)
        self._inner = self._of_texts(self.content)
        self.token_attributes = {
            token.content: TokenAttributes(token.lstrip, token.rstrip, token.single_word, token.normalized)
            for token in self.added.values()
            if token.lstrip or token.rstrip or token.single_word or token.normalized
        }
        decoder = [node["type"] for node in nodes(self.content.get("decoder"))]
        self.byte_level = "ByteLevel" in decoder
        falls_back = bool(self.content["model"].get("byte_fallback"))
        self.lossless = (self.byte_level or falls_back) and not self._loses()
        schemes = _schemes(self.content)
        self.space_prefix, self.space_after_special = bool(schemes), schemes != {"first"}
        self._pieces = self._bytes_of_tokens()

    @classmethod
    def load(
        cls, folder: Path, special: Mapping[str, int], chat_template: str, fingerprint: str, roles: Roles
    ) -> HuggingFaceTokenizer:
        """Read ``tokenizer.json``.

        Raises:
            UserError: the file is missing, damaged or of a kind that cannot be run here.
        """
        return cls.parsed(read_text(folder / FILE), folder / FILE, special, chat_template, fingerprint, roles)

    @classmethod
    def parsed(
        cls,
        text: str,
        where: Path,
        special: Mapping[str, int] | None,
        chat_template: str,
        fingerprint: str,
        roles: Roles,
    ) -> HuggingFaceTokenizer:
        """Make one from the file's text; special tokens are those the text names, unless given.

        Raises:
            UserError: the text is damaged or describes a kind that cannot be run here.
        """
        try:
            return cls(text, special, chat_template, fingerprint, roles)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                "this is no tokenizer.json that can be run here", where=where, value=str(error)
            ) from None

    @property
    def text(self) -> str:
        """The file's text, as it was read."""
        return self._text

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``, as it was read."""
        write_text(folder / FILE, self._text)

    @property
    def open_marks(self) -> Mapping[str, int]:
        """Added tokens that texts can reach, and pieces of the vocabulary itself that are spelt as marks."""
        closed = {*self.special.values(), *self.inner_marks.values()}
        found = {text: index for text, index in self._tokens.items() if spelt_as_mark(text)}
        found |= {token.content: index for index, token in self.added.items()}
        return {text: index for text, index in found.items() if index not in closed}

    def guarded(self, special: Mapping[str, int], inner: Mapping[str, int]) -> HuggingFaceTokenizer:
        """The same vocabulary, of which texts reach neither these special tokens nor these inner marks."""
        made = copy.copy(self)
        made.special = {**self.special, **special}
        made.inner_marks = {**self.inner_marks, **inner}
        made._special_bytes = {index: text.encode() for text, index in made.special.items()}
        vars(made).pop("_continuing", None)
        made._inner = made._of_texts(self.content)
        return made

    def encode_rest(self, text: str) -> list[int]:
        """Ids of a text that goes on after other ids: no space is put first."""
        return ids_of(self._continuing, text)

    def is_byte(self, index: int) -> bool:
        """Whether the id stands for a part of a character."""
        if super().is_byte(index):
            return True
        return not self.byte_level and index in self._byte_ids

    @cached_property
    def _byte_ids(self) -> set[int]:
        return {index for token, index in self._tokens.items() if _BYTE.fullmatch(token)}

    def _of_texts(self, content: Node) -> tokenizers.Tokenizer:
        """The library's tokenizer for texts, in which no special token and no inner mark is found."""
        return _inner(json.dumps(unreachable(content, {**self.special, **self.inner_marks})))

    def _loses(self) -> bool:
        """Whether a step before the vocabulary, or an added token, takes something from a text."""
        changes = any(not _keeps(node) for node in nodes(self.content.get("normalizer")))
        cuts = list(nodes(self.content.get("pre_tokenizer")))
        removes = any(node["type"] in _REMOVING or node.get("behavior") == "Removed" for node in cuts)
        takes = any(token.lstrip or token.rstrip for token in self.added.values() if not token.special)
        return changes or removes or takes

    def _bytes_of_tokens(self) -> list[bytes]:
        vocabulary = self._tokens
        size = 1 + max(vocabulary.values(), default=-1)
        if not vocabulary or size - len(vocabulary) > _MOST_HOLES:
            raise ValueError(f"{len(vocabulary)} tokens, but ids up to {size - 1}")
        symbols = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
        pieces = [b""] * size
        for token, index in vocabulary.items():
            if index in self.added:
                pieces[index] = token.encode()
            elif self.byte_level and all(symbol in symbols for symbol in token):
                pieces[index] = bytes(symbols[symbol] for symbol in token)
            else:
                byte = None if self.byte_level else _BYTE.fullmatch(token)
                pieces[index] = bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()
        return pieces

    @cached_property
    def _continuing(self) -> tokenizers.Tokenizer:
        return self._of_texts(_without_space(self.content)) if self.space_prefix else self._inner


def nodes(part: Any) -> Iterator[Node]:
    """The steps of a normaliser, pre-tokenizer or decoder, sequences taken apart."""
    if not isinstance(part, dict):
        return
    if part.get("type") == "Sequence":
        for key in ("normalizers", "pretokenizers", "decoders"):
            for inner in part.get(key) or ():
                yield from nodes(inner)
    else:
        yield part


def _content(text: str) -> Node:
    content = json.loads(text)
    kind = content["model"].get("type", "BPE")
    if kind not in ("BPE", "Unigram"):
        raise ValueError(f"a vocabulary of the kind {kind}; BPE and Unigram can be run")
    steps = sum(1 for part in _STEPS for _ in _parts(content.get(part)))
    if steps > _MOST_STEPS:
        raise ValueError(f"{steps} steps of normalising and splitting, where others have a dozen")
    if any(len(token) > LONGEST_TOKEN for token in _tokens(content)):
        raise ValueError(f"a token of more than {LONGEST_TOKEN} characters")
    if content["model"].get("dropout"):
        raise ValueError("it splits texts at random (dropout)")
    decoder = {node["type"] for node in nodes(content.get("decoder"))}
    if not decoder & {"ByteLevel", "ByteFallback", "Metaspace", "Replace", "Fuse"}:
        raise ValueError("its decoder does not say how tokens become text")
    return content


def _parts(part: Any) -> Iterator[Any]:
    """All objects and lists within a part of the file."""
    waiting = [part]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (dict, list)):
            yield one
            waiting += one.values() if isinstance(one, dict) else one


def _tokens(content: Node) -> Iterator[str]:
    """All tokens that a file names."""
    vocabulary = content["model"].get("vocab", ())
    listed = [*vocabulary, *(one.get("content", "") for one in content.get("added_tokens") or ())]
    return (str(one[0] if isinstance(one, list) and one else one) for one in listed)


def _inner(text: str) -> tokenizers.Tokenizer:
    """The library's tokenizer; its panics are no ``Exception``s and become ValueError too."""
    with panics_as_errors():
        inner = tokenizers.Tokenizer.from_str(text)
        inner.no_truncation()
        inner.no_padding()
        inner.encode_special_tokens = True  # "<|im_end|>" in a text is text
        inner.encode(_PROBE, add_special_tokens=False)
    return inner


def _keeps(node: Node) -> bool:
    """Whether a normaliser loses nothing: one that puts a space first, or writes spaces as ``▁``."""
    spaces = node.get("pattern") == {"String": " "} and node.get("content") == "▁"
    return node["type"] == "Prepend" or (node["type"] == "Replace" and spaces)


def _schemes(content: Node) -> set[str]:
    """Where spaces are put: ``first``, or ``always``, which is after special tokens too."""
    steps = [*nodes(content.get("normalizer")), *nodes(content.get("pre_tokenizer"))]
    found = {str(node.get("prepend_scheme", "always")) for node in steps if node["type"] == "Metaspace"}
    plain = (node["type"] == "Prepend" or node.get("add_prefix_space") is True for node in steps)
    return (found - {"never"}) | ({"always"} if any(plain) else set())


def _without_space(part: Any) -> Any:
    """A copy of a ``tokenizer.json`` in which nothing puts a space before a text."""
    if isinstance(part, list):
        kept = [node for node in part if not (isinstance(node, dict) and node.get("type") == "Prepend")]
        return [_without_space(node) for node in kept]
    if not isinstance(part, dict):
        return part
    changed = {"Metaspace": {"prepend_scheme": "never"}, "ByteLevel": {"add_prefix_space": False}}
    return {
        key: None
        if isinstance(value, dict) and value.get("type") == "Prepend"
        else value
        if key in ("vocab", "merges")
        else _without_space(value)
        for key, value in (part | changed.get(str(part.get("type")), {})).items()
    }
