"""What every tokenizer is: text to ids and back, special ids no text can reach, roles, a chat template.

The kinds learnt here (``bpe``, ``unigram``, ``character``) lose nothing; those that came from elsewhere
(``sentencepiece``, ``hf``) keep the habits of their files and say whether they are ``lossless``.

All kinds learnt here but ``unigram`` share the first ids, so that files which fix them (llama2.c: 1 begins
and ends a text, 2 ends a turn, byte ``b`` is ``3 + b``) can be written from them as they are::

    0 <|im_start|>   1 <|endoftext|>   2 <|im_end|>   3 … 258 the bytes 0x00 … 0xFF   259 … pieces of text

``unigram`` has sentencepiece's order: 0 ``<unk>``, 1 ``<|endoftext|>``, 2 ``<|im_end|>``, 3 ``<|im_start|>``,
bytes or pieces from 4.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from congling.tokenizer.characters import CharacterTable

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
SPECIAL = {IM_START: 0, END_OF_TEXT: 1, IM_END: 2}
FIRST_BYTE = 3
FIRST_PIECE = FIRST_BYTE + 256

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Jinja source of the ChatML format, understood by transformers, llama.cpp and vLLM alike."""


@dataclass(frozen=True)
class Roles:
    """Which ids begin, end and fill texts."""

    bos: int | None
    """Begins a text; None where the vocabulary has no such token, and the end of the last text serves."""
    eos: int
    """Ends a document."""
    pad: int
    """Fills rows up; such places have weight 0."""
    stops: frozenset[int]
    """Ids that end an answer: the end of a text, of a turn."""
    prefix: tuple[int, ...] = ()
    """What the target program puts before every text by itself: nearly always the bos id, or nothing."""

    def as_json(self) -> dict[str, Any]:
        """As ``congling.json`` holds them."""
        return {
            "bos": self.bos,
            "eos": self.eos,
            "pad": self.pad,
            "stops": sorted(self.stops),
            "prefix": list(self.prefix),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Roles":
        """Read them; ValueError, TypeError or KeyError where they are no ids."""
        bos = None if content["bos"] is None else int(content["bos"])
        stops = frozenset(int(index) for index in content["stops"])
        prefix = tuple(int(index) for index in content["prefix"])
        return cls(bos, int(content["eos"]), int(content["pad"]), stops, prefix)

    def ids(self) -> set[int]:
        """All ids that have a role."""
        single = {self.eos, self.pad} | (set() if self.bos is None else {self.bos})
        return single | self.stops | set(self.prefix)


@dataclass(frozen=True)
class TokenAttributes:
    """How transformers finds an added token in a text, beside its letters."""

    lstrip: bool = False
    """It takes the white space before it."""
    rstrip: bool = False
    """It takes the white space behind it."""
    single_word: bool = False
    """It is none within a word."""
    normalized: bool = False
    """It is looked for after the text was normalised."""


def own_roles(special: Mapping[str, int]) -> Roles:
    """Roles in vocabularies learnt here: the end of a text stands before every document too."""
    end = special[END_OF_TEXT]
    return Roles(end, end, end, frozenset({end, special[IM_END]}), (end,))


def is_text(text: str) -> bool:
    """Whether a string can be written: those from JSON and GGUF may hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Tokenizer(ABC):
    """Text to ids and back.

    ``decode(encode(text)) == text`` for every string of valid Unicode where ``lossless``. Special tokens are
    never the result of encoding text: ``"<|im_end|>"`` in a document is ten ordinary characters. Whoever
    needs the special id takes it from ``special``.
    """

    kind: ClassVar[str]
    lossless: bool = True
    """Whether every text survives; not so with a normaliser, or without byte fallback."""
    cuttable: bool = True
    """Whether a text may be encoded in parts (see ``split.safe_chunks``); not where a space is put first."""
    space_prefix: bool = False
    """Whether encoding puts a space before the text, which ``decode`` then takes off."""
    space_after_special: bool = True
    """Whether that space is put after special tokens too, or (``prepend_scheme`` first) only at the start."""
    roles: Roles
    special: Mapping[str, int]
    """Ids of the special tokens by their text."""
    inner_marks: Mapping[str, int] = {}
    """Tokens that the chat template writes within answers, as ``<think>``: texts cannot reach them either,
    but they end nothing and are shown."""
    token_attributes: Mapping[str, TokenAttributes] = {}
    """Attributes of added tokens that have any, by their text: not every program can keep them."""
    chat_template: str
    """Jinja source that turns messages into one string with special tokens in it."""
    fingerprint: str
    """Hash of the tokenizer's directory: what shards and checkpoints are checked against."""

    def __init__(
        self,
        special: Mapping[str, int],
        chat_template: str = CHATML,
        fingerprint: str = "",
        roles: Roles | None = None,
    ) -> None:
        self.special, self.chat_template, self.fingerprint = dict(special), chat_template, fingerprint
        self.roles = roles or own_roles(special)
        self._special_bytes = {index: text.encode() for text, index in self.special.items()}

    @classmethod
    @abstractmethod
    def load(
        cls, folder: Path, special: Mapping[str, int], chat_template: str, fingerprint: str, roles: Roles
    ) -> "Tokenizer":
        """Read the kind's own file in a tokenizer directory.

        Raises:
            UserError: the file is missing, damaged or of another kind.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the kind's own file."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""

    @property
    def eos_id(self) -> int:
        """Id that follows every document."""
        return self.roles.eos

    @property
    def bos_id(self) -> int:
        """Id a text begins with; where there is none, the one that ended the text before."""
        return self.roles.eos if self.roles.bos is None else self.roles.bos

    @property
    def pad_id(self) -> int:
        """Id that fills rows up; such places have weight 0."""
        return self.roles.pad

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        return self.roles.stops

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """Ids a prompt begins with; empty where the model was trained without."""
        return self.roles.prefix

    @property
    def adds_bos(self) -> bool:
        """Whether a program that runs the model must put the bos id before a prompt."""
        return self.roles.bos is not None and self.roles.bos in self.roles.prefix

    @property
    def template_texts(self) -> dict[str, str]:
        """Texts of special tokens under the names chat templates know: ``bos_token``, ``eos_token``, …"""
        texts = {index: text for text, index in self.special.items()}
        named = {"bos_token": self.roles.bos, "eos_token": self.roles.eos, "pad_token": self.roles.pad}
        return {name: texts[index] for name, index in named.items() if index in texts}

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of a text; special tokens are neither added nor recognised."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts, on all cores where the implementation can."""
        return [self.encode(text) for text in texts]

    def encode_rest(self, text: str) -> list[int]:
        """Ids of a text that goes on after other ids: differs where encoding puts a space first."""
        return self.encode(text)

    @property
    def open_marks(self) -> Mapping[str, int]:
        """Added tokens that texts can reach."""
        return {}

    def guarded(self, special: Mapping[str, int], inner: Mapping[str, int]) -> "Tokenizer":
        """The same vocabulary, of which texts reach neither these special tokens nor these inner marks."""
        assert not special and not inner, "this kind has no marks that texts reach"
        return self

    @abstractmethod
    def piece(self, index: int) -> bytes:
        """UTF-8 bytes of an ordinary id; may be a part of a character.

        Raises:
            IndexError: there is no such id.
        """

    @abstractmethod
    def is_byte(self, index: int) -> bool:
        """Whether the id stands for a part of a character, not for whole ones."""

    def undrawable(self, rows: int) -> list[int]:
        """Ids of a model with ``rows`` rows of logits that stand for no token, and so must never be drawn.

        Those behind the vocabulary, which was padded to a round number, and holes in it: ids without bytes
        that have no role either. Tokens that are merely never used have a text, and are drawn like others.
        """
        return [*self._holes, *range(self.vocab_size, rows)]

    @cached_property
    def _holes(self) -> tuple[int, ...]:
        roles = self.roles.ids()
        return tuple(i for i in range(self.vocab_size) if i not in roles and not self._stands_for_bytes(i))

    @cached_property
    def character_table(self) -> CharacterTable:
        """Which tokens may follow each other in a text of whole characters."""
        return CharacterTable(self)

    def _stands_for_bytes(self, index: int) -> bool:
        try:
            return bool(self.token_bytes(index))
        except IndexError:
            return False

    def token_bytes(self, index: int) -> bytes:
        """UTF-8 bytes of any id, a special one giving its text.

        Raises:
            IndexError: there is no such id.
        """
        found = self._special_bytes.get(index)
        return self.piece(index) if found is None else found

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Text of some ids; bytes that form no character become U+FFFD.

        Raises:
            IndexError: an id is not in the vocabulary.
        """
        kept = (index for index in map(int, ids) if not (skip_special and index in self._special_bytes))
        text = b"".join(self.token_bytes(index) for index in kept).decode("utf-8", errors="replace")
        return text.removeprefix(" ") if self.space_prefix else text
