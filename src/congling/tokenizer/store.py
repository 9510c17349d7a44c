"""Tokenizer directories.

::

    tokenizer/
    ├── tokenizer.json        bpe, hf: format of Hugging Face tokenizers; character: our own
    ├── tokenizer.model       unigram, sentencepiece: sentencepiece
    ├── congling.json         kind, vocabulary size, special ids, roles, chat template, name of the split
    ├── report.json           what the vocabulary does to its corpus
    └── MANIFEST.json
"""

import json
from pathlib import Path
from typing import Any

from congling.core import artifact, files, pointers
from congling.core.errors import UserError
from congling.core.text import write_text
from congling.tokenizer.base import END_OF_TEXT, IM_END, IM_START, Roles, Tokenizer, own_roles
from congling.tokenizer.bpe import BytePairTokenizer
from congling.tokenizer.character import CharacterTokenizer
from congling.tokenizer.chat.guard import guarded
from congling.tokenizer.imported.hf_json import HuggingFaceTokenizer
from congling.tokenizer.imported.sentencepiece import SentencePieceTokenizer
from congling.tokenizer.split import PRE_TOKENIZER
from congling.tokenizer.unigram import UnigramTokenizer

FILE = "congling.json"
OWN = (BytePairTokenizer, UnigramTokenizer, CharacterTokenizer)
"""The kinds that are learnt here."""
KINDS: dict[str, type[Tokenizer]] = {
    kind.kind: kind for kind in (*OWN, SentencePieceTokenizer, HuggingFaceTokenizer)
}


def locate(path: Path) -> Path:
    """The tokenizer directory that a path means: itself, that of a checkpoint, or of a run's checkpoint.

    Raises:
        UserError: there is none.
    """
    for place in (path, path / "run"):
        if pointers.pointed(place):
            found = pointers.handed_on(place) or next(iter(pointers.checkpoints(place)), None)
            if found is not None:
                return found / "tokenizer"
    if (path / FILE).is_file():
        return path
    if (path / "tokenizer").is_dir():
        return path / "tokenizer"
    hint = "name a tokenizer directory, a checkpoint or a run"
    raise UserError("there is no tokenizer here", value=str(path), hint=hint)


def load(path: Path | str) -> Tokenizer:
    """Open a tokenizer directory, checking its files.

    Raises:
        UserError: it is missing, damaged or inconsistent.
    """
    found = artifact.opened(path, "tokenizer", verify=True)
    file = found.path / FILE
    try:
        content = json.loads(files.text(file))
        kind = KINDS[content["kind"]]
        special = {str(text): int(index) for text, index in content["special"].items()}
        template, size = str(content["chat_template"]), int(content["vocab_size"])
        own = {END_OF_TEXT, IM_START, IM_END} <= special.keys()
        # What was learnt here has the roles of its kind; the directories of early versions do not name all.
        roles = own_roles(special) if own and kind in OWN else Roles.from_json(content["roles"])
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise UserError(
            f"the description of the tokenizer is damaged ({type(error).__name__})", where=file
        ) from None
    tokenizer = kind.load(found.path, special, template, found.fingerprint, roles)
    if tokenizer.vocab_size != size or (kind in OWN and not own):
        raise UserError(
            "the tokenizer does not fit its description", where=file, value=f"{tokenizer.vocab_size} ids"
        )
    if any(not 0 <= index < size for index in {*special.values(), *roles.ids()}):
        raise UserError("a special token has an id outside the vocabulary", where=file)
    return guarded(tokenizer)


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer's files into a directory that ``artifact.writing`` then seals."""
    tokenizer.save(folder)
    content: dict[str, Any] = {
        "kind": tokenizer.kind,
        "vocab_size": tokenizer.vocab_size,
        "special": dict(tokenizer.special),
        "roles": tokenizer.roles.as_json(),
        "chat_template": tokenizer.chat_template,
    }
    if tokenizer.kind == "bpe":
        content["pre_tokenizer"] = PRE_TOKENIZER
    write_text(folder / FILE, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def write(tokenizer: Tokenizer, out: Path | str, *, overwrite: bool = False) -> Tokenizer:
    """Write a tokenizer directory, chat template included, and open what was written.

    Raises:
        UserError: something is at ``out`` already and is not to be replaced.
    """
    with artifact.writing(out, "tokenizer", overwrite=overwrite) as folder:
        save(tokenizer, folder)
    return load(out)
