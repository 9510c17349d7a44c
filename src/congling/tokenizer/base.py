"""What every tokenizer is: text to ids and back without loss, special ids no text can reach, a chat template.

All kinds share the first ids, so that files which fix them (llama2.c: 1 begins and ends a text, 2 ends a
turn, byte ``b`` is ``3 + b``) can be written from a ``bpe`` or ``character`` tokenizer as it is::

    0 <|im_start|>   1 <|endoftext|>   2 <|im_end|>   3 … 258 the bytes 0x00 … 0xFF   259 … pieces of text

``unigram`` has sentencepiece's order: 0 ``<unk>``, 1 ``<|endoftext|>``, 2 ``<|im_end|>``, 3 ``<|im_start|>``,
bytes or pieces from 4.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

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


class Tokenizer(ABC):
    """Text to ids and back.

    ``decode(encode(text)) == text`` for every string of valid Unicode. Special tokens are never the result
    of encoding text: ``"<|im_end|>"`` in a document is ten ordinary characters. Whoever needs the special id
    takes it from ``special``.
    """

    kind: ClassVar[str]
    special: Mapping[str, int]
    """Ids of the special tokens by their text."""
    chat_template: str
    """Jinja source that turns messages into one string with special tokens in it."""
    fingerprint: str
    """Hash of the tokenizer's directory: what shards and checkpoints are checked against."""

    def __init__(
        self, special: Mapping[str, int], chat_template: str = CHATML, fingerprint: str = ""
    ) -> None:
        self.special, self.chat_template, self.fingerprint = dict(special), chat_template, fingerprint
        self._special_bytes = {index: text.encode() for text, index in self.special.items()}

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""

    @property
    def eos_id(self) -> int:
        """Id of ``<|endoftext|>``: follows every document."""
        return self.special[END_OF_TEXT]

    @property
    def bos_id(self) -> int:
        """Id a text begins with: the same, since in training it stands before every document."""
        return self.eos_id

    @property
    def pad_id(self) -> int:
        """Id that fills rows up: the same; such places have weight 0."""
        return self.eos_id

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of a text; special tokens are neither added nor recognised."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts, on all cores where the implementation can."""
        return [self.encode(text) for text in texts]

    @abstractmethod
    def piece(self, index: int) -> bytes:
        """UTF-8 bytes of an ordinary id; may be a part of a character.

        Raises:
            IndexError: there is no such id.
        """

    @abstractmethod
    def is_byte(self, index: int) -> bool:
        """Whether the id stands for a part of a character, not for whole ones."""

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
        return b"".join(self.token_bytes(index) for index in kept).decode("utf-8", errors="replace")
