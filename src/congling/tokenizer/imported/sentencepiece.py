"""Any sentencepiece model from elsewhere: unigram or BPE, with its own normaliser, spaces and fallback.

Ids equal those of sentencepiece itself. What the file does to a text it does here too: most put a space
before it, many fold widths and runs of spaces, and those without byte fallback have one id for all
characters they do not know. ``▁`` in a text is a space to every one of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import sentencepiece

from congling.core import files
from congling.core.errors import UserError
from congling.tokenizer.base import Roles, Tokenizer
from congling.tokenizer.chat.turns import PLAIN, stops
from congling.tokenizer.imported import sentencepiece_file
from congling.tokenizer.imported.sentencepiece_file import PieceType, SentencePieceModel
from congling.tokenizer.imported.unreachable import spelt_as_mark

FILE = "tokenizer.model"
_SPACE = "▁"


class SentencePieceTokenizer(Tokenizer):
    """A model file and the special tokens added beside it."""

    kind = "sentencepiece"
    cuttable = False

    def __init__(
        self,
        model: SentencePieceModel,
        special: Mapping[str, int] | None = None,
        chat_template: str = PLAIN,
        fingerprint: str = "",
        roles: Roles | None = None,
    ) -> None:
        special = controls(model) if special is None else special
        super().__init__(special, chat_template, fingerprint, roles or model_roles(model, special))
        self.model = model
        self.lossless = model.byte_fallback and not (model.characters or model.remove_spaces)
        self.space_prefix = model.space_first and not model.space_last
        self._inner = _processor(model)

    @classmethod
    def load(
        cls, folder: Path, special: Mapping[str, int], chat_template: str, fingerprint: str, roles: Roles
    ) -> SentencePieceTokenizer:
        """Read ``tokenizer.model``.

        Raises:
            UserError: the file is missing or no sound sentencepiece model.
        """
        return cls(read_model(folder / FILE), special, chat_template, fingerprint, roles)

    @property
    def open_marks(self) -> Mapping[str, int]:
        """User-defined pieces, ordinary ones that have a role or are spelt as marks: texts can reach them."""
        roles = self.roles.ids()
        return {
            piece.text: index
            for index, piece in enumerate(self.model.pieces)
            if piece.type == PieceType.USER_DEFINED
            or (piece.type == PieceType.NORMAL and (index in roles or spelt_as_mark(piece.text)))
        }

    def guarded(self, special: Mapping[str, int], inner: Mapping[str, int]) -> SentencePieceTokenizer:
        """The same vocabulary, in which these tokens are control pieces."""
        model = _controlled(self.model, special.values())
        known = {**self.special, **special}
        made = type(self)(model, known, self.chat_template, self.fingerprint, self.roles)
        made.inner_marks = {**self.inner_marks, **inner}
        made._inner = _processor(_controlled(model, made.inner_marks.values()))
        return made

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.model``."""
        (folder / FILE).write_bytes(self.model.serialised())

    @cached_property
    def vocab_size(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride] - counted once
        """Number of ids, special ones included."""
        return max(len(self.model.pieces), 1 + max(self.special.values(), default=0))

    def encode(self, text: str) -> list[int]:
        """Ids of a text; special tokens are neither added nor recognised."""
        return self._inner.EncodeAsIds(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts, on all cores."""
        return self._inner.EncodeAsIds(list(texts))

    def encode_rest(self, text: str) -> list[int]:
        """Ids of a text that goes on after other ids: no space is put first."""
        return self._continuing.EncodeAsIds(text)

    def piece(self, index: int) -> bytes:
        """UTF-8 bytes of an ordinary id; none for one that only fills the vocabulary up."""
        if not 0 <= index < self.vocab_size:
            raise IndexError(index)
        if index >= len(self.model.pieces):
            return b""
        piece = self.model.pieces[index]
        return piece.text.replace(_SPACE, " ").encode() if piece.byte is None else bytes([piece.byte])

    def is_byte(self, index: int) -> bool:
        """Whether the id is one of the fallback bytes."""
        return index < len(self.model.pieces) and self.model.pieces[index].type == PieceType.BYTE

    @cached_property
    def _continuing(self) -> sentencepiece.SentencePieceProcessor:
        if not self.model.space_first:
            return self._inner
        model = _controlled(self.model, self.inner_marks.values())
        return _processor(replace(model, space_first=False))


def read_model(file: Path) -> SentencePieceModel:
    """Read a ``.model`` file.

    Raises:
        UserError: it is missing or no sound sentencepiece model.
    """
    try:
        data = files.content(file)
    except OSError as error:
        raise UserError("cannot read the tokenizer", where=file, value=error.strerror) from None
    return sentencepiece_file.read(data, file)


def controls(model: SentencePieceModel) -> dict[str, int]:
    """The pieces no text can reach: control pieces and the one for the unknown."""
    kinds = (PieceType.CONTROL, PieceType.UNKNOWN)
    return {piece.text: index for index, piece in enumerate(model.pieces) if piece.type in kinds}


def model_roles(model: SentencePieceModel, special: Mapping[str, int]) -> Roles:
    """Roles the model file names; where it names no end of a text, its beginning or the unknown serves."""
    bos = model.bos if model.bos >= 0 else None
    eos = model.eos if model.eos >= 0 else model.unknown if bos is None else bos
    pad = model.pad if model.pad >= 0 else eos
    prefix = () if bos is None else (bos,)
    return Roles(bos, eos, pad, stops(special) | {eos}, prefix)


def _controlled(model: SentencePieceModel, indices: Collection[int]) -> SentencePieceModel:
    """The model in which these pieces are control pieces, as far as they were for texts."""
    plain = (PieceType.NORMAL, PieceType.USER_DEFINED)
    pieces = [
        replace(piece, type=PieceType.CONTROL) if index in indices and piece.type in plain else piece
        for index, piece in enumerate(model.pieces)
    ]
    return replace(model, pieces=pieces)


def _processor(model: SentencePieceModel) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model.serialised())
    except RuntimeError as error:
        raise UserError("sentencepiece refuses this model", value=str(error).strip()) from None
