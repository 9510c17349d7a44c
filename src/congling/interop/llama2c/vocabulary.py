"""The vocabulary of run.c: ``tokenizer.bin``, and text to ids by the steps that run.c takes.

::

    u32 longest piece │ for every id: f32 score, u32 length, bytes

There is no count: it comes from the model file. Pieces are C strings compared byte by byte.
"""

import heapq
import itertools
import math
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from congling.core import files
from congling.core.errors import UserError
from congling.tokenizer.base import FIRST_BYTE

BOS, EOS = 1, 2
"""Fixed in run.c: a text begins and ends with the first, a turn of a chat ends with the second."""
BYTE_PIECE = re.compile(rb"<0x([0-9A-Fa-f]{2})>")
_RECORD = struct.Struct("<fI")
_LONGEST = 2**16
_WORST = -1e10  # run.c merges only above this score
_SPACE_BYTE = FIRST_BYTE + 0x20


class Vocabulary:
    """Pieces and scores by id.

    Attributes:
        pieces: bytes of every id, as the file holds them (byte pieces as ``<0xHH>``).
        scores: float32 (V,).
    """

    def __init__(self, pieces: Sequence[bytes], scores: Sequence[float] | np.ndarray) -> None:
        self.pieces = list(pieces)
        self.scores = np.asarray(scores, np.float32)
        self._ids: dict[bytes, int] = {}
        for index, piece in enumerate(self.pieces):
            self._ids.setdefault(piece, index)

    @classmethod
    def read(cls, path: Path | str, size: int) -> Self:
        """Read the pieces of a model with ``size`` ids.

        Raises:
            UserError: the file cannot be read, is cut short, too long for the model, or has scores that are
                not numbers.
        """
        path = Path(path)
        try:
            raw = files.content(path)
        except OSError as error:
            raise UserError("cannot read the vocabulary", value=str(path), hint=error.strerror) from None
        pieces: list[bytes] = []
        scores: list[float] = []
        at = 4
        while len(pieces) < size:
            if at + _RECORD.size > len(raw):
                raise UserError(
                    f"the vocabulary ends before the model's {size} ids", where=path, value=len(pieces)
                )
            score, length = _RECORD.unpack_from(raw, at)
            at += _RECORD.size
            if length > _LONGEST or at + length > len(raw) or not math.isfinite(score):
                what = "a piece is longer than the file, or its score is no number"
                raise UserError(what, where=path, value=f"id {len(pieces)}: {length} bytes, score {score}")
            pieces.append(raw[at : at + length])
            scores.append(score)
            at += length
        if at != len(raw):
            raise UserError(
                f"the vocabulary goes on after the model's {size} ids",
                where=path,
                hint="it belongs to a model with more ids",
            )
        return cls(pieces, scores)

    def packed(self) -> bytes:
        """The file."""
        records = (
            _RECORD.pack(score, len(piece)) + piece
            for score, piece in zip(self.scores.tolist(), self.pieces, strict=True)
        )
        return struct.pack("<I", max(map(len, self.pieces))) + b"".join(records)

    def encode(self, text: str, *, dummy_space: bool = True) -> list[int]:
        """Ids of a text without BOS; ``dummy_space`` puts a space before it, as run.c always does.

        Characters in the vocabulary, bytes for the others, then the best-scored pair that forms a piece is
        joined (the leftmost of equals), until none is left. Unlike BPE elsewhere, nothing splits the text
        before.
        """
        if not text:
            return []
        first = [self._ids.get(b" ", _SPACE_BYTE)] if dummy_space else []
        return self._merged(
            first + list(itertools.chain.from_iterable(map(self._character, text.split("\0")[0])))
        )

    def text_of(self, index: int) -> bytes:
        """What an id stands for: its piece, or the byte of ``<0xHH>``."""
        found = BYTE_PIECE.fullmatch(self.pieces[index])
        return bytes.fromhex(found[1].decode()) if found else self.pieces[index]

    def _character(self, character: str) -> list[int]:
        raw = character.encode()
        found = self._ids.get(raw)
        return [FIRST_BYTE + byte for byte in raw] if found is None else [found]

    def _merged(self, ids: list[int]) -> list[int]:
        """Join pairs best first, with a heap instead of run.c's scan of all pairs; the result is the same."""
        end = len(ids)
        following, preceding = list(range(1, end + 1)), list(range(-1, end - 1))
        alive = [True] * end
        heap: list[tuple[float, int, int, int, int]] = []

        def offer(left: int) -> None:
            right = following[left]
            if right >= end:
                return
            found = self._ids.get(self.pieces[ids[left]] + self.pieces[ids[right]])
            if found is not None and self.scores[found] > _WORST:
                heapq.heappush(heap, (-float(self.scores[found]), left, ids[left], ids[right], found))

        for place in range(end):
            offer(place)
        while heap:
            _, left, first, second, joined = heapq.heappop(heap)
            right = following[left]
            if not alive[left] or right >= end or (ids[left], ids[right]) != (first, second):
                continue
            ids[left], alive[right] = joined, False
            following[left] = following[right]
            if following[left] < end:
                preceding[following[left]] = left
            offer(left)
            if preceding[left] >= 0:
                offer(preceding[left])
        return [index for index, kept in zip(ids, alive, strict=True) if kept]
