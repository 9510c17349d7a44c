"""Unigram tokenizers by sentencepiece, with byte fallback and nothing changed in the text.

The model file is plain sentencepiece. llama.cpp runs unigram vocabularies (its ``t5`` kind) without byte
fallback: where an export must tokenise every text alike, take ``bpe``.
"""

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import sentencepiece

from congling.core import files
from congling.core.errors import UserError
from congling.core.interrupt import interruptible
from congling.core.progress import stage
from congling.tokenizer.advice import often
from congling.tokenizer.base import CHATML, END_OF_TEXT, IM_END, IM_START, Roles, Tokenizer
from congling.tokenizer.imported import sentencepiece_file
from congling.tokenizer.imported.sentencepiece_file import SentencePieceModel
from congling.tokenizer.split import CLOSING, SENTENCE_MARKS

FILE = "tokenizer.model"
SPECIAL = {END_OF_TEXT: 1, IM_END: 2, IM_START: 3}
_FIXED = 4 + 256 + 1  # special tokens with <unk>, bytes, newline
_SPACE = (
    "▁"  # sentencepiece writes a space so; the character itself needs care, or it would come back as a space
)
_BORDER = "\x1f"  # the delimiter no learnt piece may span; an ASCII separator that text does not use
_END = re.compile(rf"([{re.escape(SENTENCE_MARKS)}]+[{re.escape(CLOSING)}]*)")
_LONGEST_SENTENCE = 4000  # characters handed to the trainer at a time; its own limit is in bytes


class UnigramTokenizer(Tokenizer):
    """Unigram language model over pieces (Kudo 2018), run by sentencepiece."""

    kind = "unigram"

    def __init__(
        self,
        model: bytes,
        special: Mapping[str, int] = SPECIAL,
        chat_template: str = CHATML,
        fingerprint: str = "",
        roles: Roles | None = None,
    ) -> None:
        super().__init__(special, chat_template, fingerprint, roles)
        self.model = model
        self._inner = sentencepiece.SentencePieceProcessor(model_proto=model)
        self._byte_ids = [int(self._inner.PieceToId(f"<0x{byte:02X}>")) for byte in range(256)]
        self._bytes = {index: bytes([byte]) for byte, index in enumerate(self._byte_ids)}
        self._space_ids = [self._byte_ids[byte] for byte in _SPACE.encode()]
        # Learnt from text without spaces, there may be no piece for one: it is then spelt in bytes as well.
        self._spells_spaces = _SPACE not in {
            piece.text for piece in sentencepiece_file.read(model, FILE).pieces
        }

    @classmethod
    def load(
        cls, folder: Path, special: Mapping[str, int], chat_template: str, fingerprint: str, roles: Roles
    ) -> "UnigramTokenizer":
        """Read ``tokenizer.model``.

        Raises:
            UserError: the file is missing or no sentencepiece model with byte fallback.
        """
        file = folder / FILE
        try:
            data = files.content(file)
        except OSError as error:
            raise UserError("cannot read the tokenizer", where=file, value=error.strerror) from None
        model = sentencepiece_file.read(data, file)
        if not model.byte_fallback:
            raise UserError("this model has no byte fallback, so text could be lost", where=file)
        try:
            return cls(model.serialised(), special, chat_template, fingerprint, roles)
        except RuntimeError as error:
            raise UserError("this is no sentencepiece model", where=file, value=str(error)) from None

    @property
    def parsed(self) -> SentencePieceModel:
        """The model's pieces and settings."""
        return sentencepiece_file.read(self.model, FILE)

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.model``."""
        (folder / FILE).write_bytes(self.model)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""
        return int(self._inner.GetPieceSize())

    def encode(self, text: str) -> list[int]:
        """Ids of a text; special tokens are neither added nor recognised."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts, on all cores."""
        parts = [text.split(_SPACE) for text in texts]
        ids = iter(self._inner.EncodeAsIds([part for text in parts for part in text]))
        return [self._joined([next(ids) for _ in text]) for text in parts]

    def _joined(self, parts: list[list[int]]) -> list[int]:
        """Put the bytes of the character ``▁`` back between the parts it was cut out of."""
        if self._spells_spaces:
            parts = [self._with_spaces(part) for part in parts]
        joined = list(parts[0])
        for part in parts[1:]:
            joined += self._space_ids + part
        return joined

    def _with_spaces(self, ids: list[int]) -> list[int]:
        """The byte of a space for the three of ``▁``, which sentencepiece has put in its place."""
        found: list[int] = []
        for index in ids:
            found.append(index)
            if found[-3:] == self._space_ids:
                found[-3:] = [self._byte_ids[0x20]]
        return found

    def piece(self, index: int) -> bytes:
        """UTF-8 bytes of an ordinary id."""
        if not 0 <= index < self.vocab_size:
            raise IndexError(index)
        found = self._bytes.get(index)
        return str(self._inner.IdToPiece(index)).replace(_SPACE, " ").encode() if found is None else found

    def is_byte(self, index: int) -> bool:
        """Whether the id is one of the fallback bytes."""
        return index in self._bytes


@stage("learning a vocabulary")
def train(
    texts: Iterable[str], *, vocab_size: int, characters: Mapping[str, int], longest_token: int
) -> UnigramTokenizer:
    """Learn a unigram vocabulary.

    ``characters`` counts the characters of the corpus. Those seen often become pieces, as far as three
    quarters of the vocabulary go; the others are spelt in bytes. Numbers are spelt digit by digit. A
    vocabulary beyond what the text offers is reduced to the most it does.

    Raises:
        UserError: sentencepiece cannot learn from this text at all.
    """
    least = often(sum(characters.values()))
    ranked = sorted(characters, key=lambda character: (-characters[character], character))
    room = 3 * (vocab_size - _FIXED) // 4
    kept = {character for character in ranked[:room] if characters[character] >= least} | {"\n"}
    dropped = str.maketrans({character: _BORDER for character in characters if character not in kept})
    sentences = [sentence for text in texts for sentence in _sentences(text.translate(dropped))]
    if not sentences:
        raise UserError("there is no text to learn a tokenizer from")
    size = vocab_size
    for _ in range(3):
        model = io.BytesIO()
        try:
            interruptible(_run, sentences, model, size, longest_token)
        except RuntimeError as error:
            largest = re.search(r"value <= (\d+)", str(error))
            if largest is None or int(largest[1]) >= size:
                raise UserError(
                    "sentencepiece cannot learn this vocabulary", value=str(error).strip().split("\n")[-1]
                ) from None
            size = int(largest[1])
            continue
        return UnigramTokenizer(model.getvalue())
    raise UserError(
        "the text is too small for a unigram vocabulary",
        value=vocab_size,
        hint="use tokenizer.kind=character",
    )


def _sentences(text: str) -> Iterator[str]:
    """Lines with borders around sentence marks, cut to what the trainer accepts."""
    for line in text.replace("\0", _BORDER).split("\n"):
        for start in range(0, len(line), _LONGEST_SENTENCE):
            part = line[start : start + _LONGEST_SENTENCE]
            if part.strip(_BORDER):
                yield _END.sub(rf"{_BORDER}\1{_BORDER}", part)


def _run(sentences: list[str], model: io.BytesIO, size: int, longest_token: int) -> None:
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="unigram",
        vocab_size=size,
        character_coverage=1.0,
        byte_fallback=True,
        split_digits=True,
        max_sentencepiece_length=longest_token,
        max_sentence_length=8 * _LONGEST_SENTENCE,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        pretokenization_delimiter=_BORDER,
        user_defined_symbols=["\n"],
        control_symbols=[IM_START],
        unk_id=0,
        bos_id=1,
        bos_piece=END_OF_TEXT,
        eos_id=2,
        eos_piece=IM_END,
        pad_id=-1,
        num_threads=1,  # more would sum in another order: another vocabulary
        minloglevel=2,
    )
