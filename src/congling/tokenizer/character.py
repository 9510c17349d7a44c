"""A token a character; characters outside the vocabulary are spelt in bytes, so that nothing is lost."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from congling.core import files
from congling.core.errors import UserError
from congling.core.text import write_text
from congling.tokenizer.base import CHATML, FIRST_BYTE, FIRST_PIECE, SPECIAL, Roles, Tokenizer

FILE = "tokenizer.json"


class CharacterTokenizer(Tokenizer):
    """Character level: the smallest vocabulary, the easiest to look at, the longest sequences.

    ``tokenizer.json`` holds ``{"kind": "character", "characters": "的了一…"}``: the character at place ``i``
    has id ``259 + i``, after the special tokens and the 256 bytes.
    """

    kind = "character"

    def __init__(
        self,
        characters: str,
        special: Mapping[str, int] = SPECIAL,
        chat_template: str = CHATML,
        fingerprint: str = "",
        roles: Roles | None = None,
    ) -> None:
        super().__init__(special, chat_template, fingerprint, roles)
        self.characters = characters
        self._ids = np.full(0x110000, -1, np.int32)
        self._ids[_code_points(characters)] = FIRST_PIECE + np.arange(len(characters))

    @classmethod
    def load(
        cls, folder: Path, special: Mapping[str, int], chat_template: str, fingerprint: str, roles: Roles
    ) -> "CharacterTokenizer":
        """Read ``tokenizer.json``.

        Raises:
            UserError: the file is missing or damaged.
        """
        file = folder / FILE
        try:
            characters = json.loads(files.text(file))["characters"]
            distinct = len(set(characters)) == len(characters)
            characters.encode()
        except OSError as error:
            raise UserError("cannot read the tokenizer", where=file, value=error.strerror) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UserError("this is no character tokenizer", where=file) from None
        if not distinct:
            raise UserError("a character has two ids", where=file)
        return cls(characters, special, chat_template, fingerprint, roles)

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        content = {"kind": self.kind, "characters": self.characters}
        write_text(folder / FILE, json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""
        return FIRST_PIECE + len(self.characters)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, found for all characters at once."""
        ids = self._ids[_code_points(text)]
        if (ids >= 0).all():
            return ids.tolist()
        found: list[int] = []
        for character, index in zip(text, ids.tolist(), strict=True):
            found += [index] if index >= 0 else [FIRST_BYTE + byte for byte in character.encode()]
        return found

    def piece(self, index: int) -> bytes:
        """UTF-8 bytes of an ordinary id."""
        if FIRST_BYTE <= index < FIRST_PIECE:
            return bytes([index - FIRST_BYTE])
        if index < FIRST_BYTE:
            raise IndexError(index)
        return self.characters[index - FIRST_PIECE].encode()

    def is_byte(self, index: int) -> bool:
        """Whether the id is one of the fallback bytes."""
        return FIRST_BYTE <= index < FIRST_PIECE


def train(characters: Mapping[str, int], *, vocab_size: int) -> CharacterTokenizer:
    """Take the most frequent characters that fit; ``characters`` counts those of the sample."""
    ranked = sorted(characters, key=lambda character: (-characters[character], character))
    return CharacterTokenizer("".join(ranked[: max(0, vocab_size - FIRST_PIECE)]))


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
