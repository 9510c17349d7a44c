"""What damage is measured on: one held-out text, and models that read the same tokens of it.

::

    --data shards     their test split, else validation
    --data texts      tokenized here, without those the base was trained on
    nothing           the shards beside the base's run
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch

from congling.core.errors import UserError
from congling.core.progress import track
from congling.data import script
from congling.data.counts import codes
from congling.data.shards import open_shards
from congling.data.statistics import SYMBOLS
from congling.data.token_split import TokenSplit
from congling.evals.bench import Bench
from congling.infer.checkpoints import Loaded
from congling.interop.gguf.file import GGUFFile
from congling.interop.stored_bits import part_of
from congling.methods.evaluation import beside
from congling.model.config import ModelConfig
from congling.model.transformer import Transformer
from congling.quant.config import FACT
from congling.report.record import mapping
from congling.tokenizer.base import Tokenizer

MOST_CHARACTERS = 4_000_000
"""Of texts that are read from files; windows are spread over them."""


def held_out_text(base: Loaded, data: Sequence[str]) -> tuple[TokenSplit, str]:
    """The text in the base's tokens, and what it is called.

    Raises:
        UserError: there is none, it cannot be read, or shards were made with another tokenizer.
    """
    shards = [Path(one) for one in data if (Path(one) / "shards.json").is_file()]
    if not data and (found := beside(base.checkpoint.path, "shards")) is not None:
        shards = [found]
    if shards:
        if len(data) > 1:
            raise UserError("of shards one directory is read", value=" ".join(data), hint="name one")
        opened = open_shards(shards[0], tokenizer=base.tokenizer, verify=True)
        place = shards[0].resolve()
        return opened[opened.scored], f"the {opened.scored} split of {place.parent.name}/{place.name}"
    if not data:
        hint = "name a text, or shards made with its tokenizer: --data FILE"
        raise UserError("no shards beside the base", value=str(base.checkpoint.path), hint=hint)
    return _tokenized(base, data), ", ".join(Path(one).name for one in data)


def _tokenized(base: Loaded, files: Sequence[str]) -> TokenSplit:
    bench = Bench(base, files=files, documents=beside(base.checkpoint.path, "documents"))
    tokenizer, ids, sizes = base.tokenizer, list[np.ndarray](), list[tuple[int, int]]()
    for document in track(bench.unseen(), "tokenizing"):
        ids.append(np.array([*tokenizer.encode(document.text), tokenizer.eos_id], np.int64))
        sizes.append((len(document.text), len(document.text.encode())))
        if sum(characters for characters, _ in sizes) >= MOST_CHARACTERS:
            break
    if not ids:
        raise bench.no_text()
    ends = np.fromiter(accumulate(map(len, ids)), np.int64, len(ids))
    characters, count = np.array(sizes, np.int64).T
    return TokenSplit(np.concatenate(ids), ends, characters, count, tokenizer.eos_id, tokenizer.vocab_size)


def require_same_vocabulary(base: Loaded, quantised: Loaded) -> None:
    """Compare what the ids of two models stand for.

    Raises:
        UserError: they stand for different texts, so that the models' probabilities do not compare.
    """
    where, hint = str(quantised.checkpoint.path), "name the model that this one was made from"
    sizes = base.model.config.vocab_size, quantised.model.config.vocab_size
    if sizes[0] != sizes[1]:
        what = f"the vocabularies differ, {sizes[0]:,} and {sizes[1]:,} ids"
        raise UserError(what, value=where, hint=hint)
    ours, theirs = _ordinary(base.tokenizer), _ordinary(quantised.tokenizer)
    odd = next((i for i, text in ours.items() if theirs.get(i, text) != text), None)
    if odd is not None or not ours.keys() & theirs.keys():
        what = "the tokenizers differ"
        if odd is not None:
            one, other = (text[odd].decode("utf-8", "replace") for text in (ours, theirs))
            what += f": id {odd} is {one!r} and {other!r}"
        raise UserError(what, value=where, hint=hint)


def _ordinary(tokenizer: Tokenizer) -> dict[int, bytes]:
    """What ids stand for, but for special ones, whose names differ from program to program."""
    special, found = set(tokenizer.special.values()), dict[int, bytes]()
    for index in range(tokenizer.vocab_size):
        if index not in special:
            try:
                found[index] = tokenizer.piece(index)
            except IndexError:
                continue
    return found


def weights_by_part(config: ModelConfig) -> dict[str, int]:
    """How many weights the parts of a model have."""
    with torch.device("meta"):
        skeleton = Transformer(config)
    found: dict[str, int] = {}
    for name, tensor in skeleton.state_dict().items():
        found[part_of(name)] = found.get(part_of(name), 0) + tensor.numel()
    return found


_MATRIX = {
    "importance matrix": "quantize.imatrix.file",
    "text": "quantize.imatrix.dataset",
    "chunks": "quantize.imatrix.chunks_count",
}
"""What llama.cpp's quantiser writes of an importance matrix."""
_LONGEST = 200
_SAMPLE = 50_000
"""Tokens by which the script of the held-out text is guessed."""


def script_of(split: TokenSplit, tokenizer: Tokenizer) -> str:
    """A guess of the script of a text: hans, hant, latin, mixed or other."""
    text = tokenizer.decode(split.tokens[:_SAMPLE].tolist(), skip_special=True)
    return str(script.describe(np.bincount(codes(text), minlength=SYMBOLS))["guess"])


def made_with(loaded: Loaded, written_in: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """How a model was quantised and on what text, as its file says, and what is wrong with that.

    Args:
        loaded: the model.
        written_in: script of the text that it is measured on.
    """
    path = loaded.checkpoint.path
    if path.is_file():
        file = GGUFFile.open(path)
        types = sorted({one.type for one in file.tensors.values() if len(one.shape) > 1})
        values = {name: file.value(key) for name, key in _MATRIX.items()}
        told = {"types": ", ".join(types)} | {key: one for key, one in values.items() if one is not None}
        return _shown(told), ()
    made = mapping(loaded.checkpoint.facts.get(FACT))
    warnings = [str(note)[:_LONGEST] for note in _list(made.get("notes"))]
    if (language := made.get("script")) not in (None, written_in):
        warnings.append(f"calibrated on a text that is {language}, measured on one that is {written_in}")
    told = {name: one for name, one in made.items() if name not in ("notes", "shares", "fingerprint")}
    return _shown(told), tuple(dict.fromkeys(warnings))


def _shown(values: Mapping[str, Any]) -> dict[str, str]:
    return {str(name)[:_LONGEST]: str(value)[:_LONGEST] for name, value in list(values.items())[:20]}


def _list(value: object) -> list[Any]:
    return value[:20] if isinstance(value, list) else []
