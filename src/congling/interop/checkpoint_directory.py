"""Our own checkpoint directories, as one format among the others.

::

    checkpoint/
    ├── model.safetensors   model.json   of layers in few bits also quantization.json
    ├── tokenizer/          a complete tokenizer directory
    └── MANIFEST.json       facts: chat, name, source
"""

import json
from pathlib import Path

from congling.core import artifact
from congling.core.artifact import Artifact
from congling.core.errors import UserError
from congling.core.text import write_text
from congling.interop import safetensors_file
from congling.interop.assembly import transformer
from congling.interop.foreign import ForeignModel
from congling.model.checkpoint import CONFIG, WEIGHTS, open_weights
from congling.quant.config import FACT
from congling.quant.stored import is_quantised, open_dense, open_layers, save_quantised
from congling.tokenizer import store


def read(folder: Path) -> ForeignModel:
    """Open a checkpoint directory; its tensors are read one by one.

    Raises:
        UserError: it is missing, unfinished or damaged.
    """
    found = artifact.opened(folder, "checkpoint", verify=True)
    quantised = is_quantised(folder)
    config, weights = (open_dense if quantised else open_weights)(folder)
    tokenizer = store.load(folder / "tokenizer")
    if tokenizer.vocab_size > config.vocab_size:
        what = f"the tokenizer has more ids than the model's {config.vocab_size}"
        raise UserError(what, where=folder, value=tokenizer.vocab_size)
    facts = dict(found.facts)
    layers = {}
    if quantised:
        facts["types"] = {"codes": 1}
        layers = open_layers(folder)
    return ForeignModel(config, weights, tokenizer, facts, layers)


def write(model: ForeignModel, folder: Path, tokenizer: Artifact | None = None) -> None:
    """Write the files of a checkpoint into a directory that ``artifact.writing`` then seals.

    Layers in few bits stay so.

    Args:
        model: what is written.
        folder: the directory.
        tokenizer: the directory that its tokenizer was read from, copied file by file: shards know it.

    Raises:
        UserError: the model came without a tokenizer.
    """
    if model.tokenizer is None:
        hint = "name one with --tokenizer: a tokenizer directory, a .model file, a tokenizer.json"
        hint += f"; {model.facts['tokenizer']}" if "tokenizer" in model.facts else ""
        raise UserError("the model has no tokenizer, and a checkpoint needs one", hint=hint)
    if model.layers:
        save_quantised(transformer(model), folder, {FACT: model.facts.get(FACT)})
    else:
        safetensors_file.write(model.weights, folder / WEIGHTS)
        text = json.dumps(model.config.model_dump(mode="json"), ensure_ascii=False, indent=1)
        write_text(folder / CONFIG, text + "\n")
    if tokenizer is not None:
        artifact.copy(tokenizer, folder / "tokenizer")
        return
    with artifact.writing(folder / "tokenizer", "tokenizer") as inner:
        store.save(model.tokenizer, inner)
