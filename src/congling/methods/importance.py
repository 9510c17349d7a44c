"""What ``convert --calibrate`` names: a text, shards, or an importance matrix that is there already."""

# N rows of text, T tokens of a row

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from congling.core import files
from congling.core.errors import UserError
from congling.data.clean import clean
from congling.data.config import DataConfig
from congling.data.problems import ReadingLog
from congling.data.shards import open_shards
from congling.data.sources.reading import read
from congling.interop.assembly import transformer
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import imatrix
from congling.interop.gguf.calibrated import Calibration, Rounding, collect
from congling.interop.gguf.imatrix import ImportanceMatrix, InputSquares
from congling.interop.gguf.sources import sources
from congling.interop.gguf.writer import MAGIC
from congling.interop.gguf_architecture import gguf_architecture
from congling.methods.calibration_rows import conversation_examples

ROWS, ROW_TOKENS = 128, 512
"""Of the calibration text, evenly spread over it; a row is as long as llama-imatrix's, or as the context."""
_FEWEST = 16  # tokens
_TOKENS_PER_INPUT = 4
"""Below, a Hessian has directions that the text never took."""
_MOST_CHARACTERS = 2**22


def calibration(path: Path, model: ForeignModel, rounding: Rounding) -> tuple[Calibration, list[str]]:
    """What weighs the rounding of a model's tensors, and what is to be said of it.

    Raises:
        UserError: nothing there that can be read, a text of a few tokens, shards of another tokenizer, a
            damaged matrix, or a matrix alone where GPTQ needs the text.
    """
    if not _is_gguf(path):
        matrix, rows, note = _observed(path, model)
        if rounding != "gptq":
            return Calibration(matrix, name=path.name), [note]
        widest = max(entry.sums.shape[-1] for entry in matrix.tensors.values())
        few = f"that is little for GPTQ, whose widest layer has {widest:,} inputs: other texts may lose by it"
        short = rows.numel() < _TOKENS_PER_INPUT * widest
        return Calibration(matrix, rows, path.name), [note, few] if short else [note]
    if rounding == "gptq":
        what = "GPTQ needs a text or shards: an importance matrix holds the diagonal of its Hessian alone"
        raise UserError(what, value=str(path), hint="--calibrate TEXT, or leave --rounding out")
    matrix = imatrix.read(path)
    texts = ", ".join(matrix.datasets) or "a text that is not named"
    note = f"weighed by {path.name}: {matrix.chunks * matrix.chunk_size:,} tokens of {texts}"
    return Calibration(matrix, name=path.name), [note]


def importance_matrix(path: Path, model: ForeignModel) -> tuple[ImportanceMatrix, list[str]]:
    """The importance matrix of a model over a text or shards, and what is to be said of it.

    Raises:
        UserError: as ``calibration``.
    """
    if _is_gguf(path):
        raise UserError("this is an importance matrix already", value=str(path), hint="--calibrate TEXT")
    matrix, _, note = _observed(path, model)
    return matrix, [note]


def _observed(path: Path, model: ForeignModel) -> tuple[ImportanceMatrix, Tensor, str]:
    rows, template = _rows(path, model)
    found = collect(transformer(replace(model, layers={})), rows)  # what its codes stand for, in floats
    tensors: dict[str, InputSquares] = {}
    for source in sources(model, gguf_architecture(model.config), path):
        if source.parameters and source.parameters[0] in found:
            tensors[source.name] = found[source.parameters[0]]
    matrix = ImportanceMatrix(tensors, (path.name,), *rows.shape)
    note = f"calibrated on {rows.numel():,} tokens of {path.name}, {len(rows)} rows"
    if template:
        note += ", conversations in the model's chat template"
    elif model.facts.get("chat"):
        note += ", which have no chat template, though the model was tuned on conversations in its own"
    return matrix, rows, note


def _rows(path: Path, model: ForeignModel) -> tuple[Tensor, bool]:
    """(N, T) ids, evenly spread over the text; and whether it is conversations, which then stand one behind
    the other in the model's template."""
    tokenizer, config = model.tokenizer, model.config
    if tokenizer is None:
        raise UserError("without a tokenizer no text can be read", hint="name one with --tokenizer")
    talks = None
    if path.is_dir():
        ids = open_shards(path, tokenizer=tokenizer, verify=True)["train"].tokens
    elif (talks := conversation_examples([str(path)], tokenizer, config.max_position_embeddings)) is not None:
        ids = np.concatenate([example.input_ids for example in talks[0]]).astype(np.int64)
    else:
        ids = np.array(tokenizer.encode(_text(path)[:_MOST_CHARACTERS]), np.int64)
    if len(ids) < _FEWEST:
        raise UserError(f"a text to calibrate on has {_FEWEST} tokens at least", where=path, value=len(ids))
    context = config.trained_length if config.depends_on_length else config.max_position_embeddings
    length = min(context, ROW_TOKENS, len(ids))
    count = min(ROWS, len(ids) // length)
    starts = np.linspace(0, len(ids) - length, count).astype(np.int64)
    rows = np.stack([ids[start : start + length] for start in starts]).astype(np.int64)
    return torch.from_numpy(rows), talks is not None


def _text(path: Path) -> str:
    """Texts of a file, read and cleaned as for training, one behind the other."""
    config, found, length = DataConfig(sources=(str(path),)), list[str](), 0
    for document in read(config.sources, config, ReadingLog()):
        found.append(clean(document.text, config)[0])
        length += len(found[-1])
        if length >= _MOST_CHARACTERS:
            break
    return "\n".join(found)


def _is_gguf(path: Path) -> bool:
    if path.is_dir():
        return False
    try:
        with files.opened(path) as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", value=str(path)) from None
