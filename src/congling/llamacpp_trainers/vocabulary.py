"""The vocabulary a model from scratch is given: from a GGUF file, a tokenizer directory or a .model file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from congling.core import files
from congling.core.errors import UserError
from congling.interop.gguf import vocabulary as gguf_vocabulary
from congling.interop.gguf.file import Field, GGUFFile
from congling.interop.gguf.writer import MAGIC
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.imported import read

NONE = 2**32 - 1
"""How the former programs wrote that a special token does not exist."""
_FIRST = ("model", "tokens", "scores", "token_type", "merges")
_IDS = ("bos_token_id", "eos_token_id", "unknown_token_id", "seperator_token_id", "padding_token_id")
_DEFAULTS = {"llama": (1, 2, 0, NONE, NONE), "gpt2": (11, 11, NONE, NONE, NONE)}
"""What the former programs took where a vocabulary does not name them, by its model."""
_PREFIX = "tokenizer.ggml."


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, and the keys that carry it in a GGUF file."""

    tokenizer: Tokenizer
    fields: Mapping[str, Field]

    @property
    def kind(self) -> str:
        """What llama.cpp calls it: ``llama``, ``gpt2`` or ``t5``."""
        return self.fields[_PREFIX + "model"].value


def opened(path: Path | str) -> Vocabulary:
    """Read the vocabulary that ``path`` holds.

    Raises:
        UserError: there is nothing, or nothing that can stand in a GGUF file.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            "no such vocabulary",
            value=str(path),
            hint="--vocab-model takes a GGUF file, a tokenizer directory or a sentencepiece .model",
        )
    if path.is_file():
        with files.opened(path) as stream:
            if stream.read(len(MAGIC)) == MAGIC:
                return of_file(GGUFFile.open(path))
    tokenizer = read.read(path)
    return Vocabulary(tokenizer, _ordered(gguf_vocabulary.fields(tokenizer)))


def of_file(file: GGUFFile) -> Vocabulary:
    """The vocabulary in an open GGUF file, its keys as they are there."""
    kept = {key: value for key, value in file.fields.items() if key.startswith("tokenizer.")}
    if _PREFIX + "tokens" not in kept:
        raise UserError("the file holds no vocabulary", value=str(file.path))
    return Vocabulary(gguf_vocabulary.tokenizer_from(kept, file.path), _ordered(kept))


def _ordered(fields: Mapping[str, Field]) -> dict[str, Field]:
    """The keys in the former programs' order, missing special tokens spelt out, then the rest."""
    found = {_PREFIX + name: fields[_PREFIX + name] for name in _FIRST if _PREFIX + name in fields}
    defaults = dict(zip(_IDS, _DEFAULTS.get(fields[_PREFIX + "model"].value, (NONE,) * 5), strict=True))
    ids = {_PREFIX + name: fields.get(_PREFIX + name, Field("u32", defaults[name])) for name in _IDS}
    return found | ids | {key: value for key, value in fields.items() if key not in found and key not in ids}
