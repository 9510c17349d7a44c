"""Loading the model that a path leads to, checkpoint or GGUF file; with adapters on it, if so wished."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from congling.core import artifact, files
from congling.core.artifact import Artifact
from congling.core.errors import UserError
from congling.core.progress import stage
from congling.infer.reading import (
    TRAINED,
    Reading,
    extension_after,
    extension_of,
    lengths_in_words,
    reading_of,
    trained_length,
)
from congling.interop import adapter_directory
from congling.interop.adapters import read_any
from congling.interop.assembly import transformer
from congling.interop.detect import refuse_pickle
from congling.interop.gguf import model as gguf_model
from congling.interop.gguf.architectures import facts_of
from congling.interop.gguf.config import config_from
from congling.interop.gguf.file import GGUFFile
from congling.interop.gguf.packed import load_packed
from congling.interop.gguf.packing import pack
from congling.interop.gguf.vocabulary_reading import tokenizer_of
from congling.interop.gguf.writer import MAGIC
from congling.interop.source import locate_checkpoint
from congling.model.checkpoint import load_model
from congling.model.config import ModelConfig
from congling.model.transformer import Transformer
from congling.quant.stored import is_quantised, load_quantised
from congling.tokenizer import store
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.templates import with_template
from congling.transform import lora
from congling.transform.adapter import Adapter, common_packing


@dataclass(frozen=True)
class Loaded:
    """A model ready to write, with its tokenizer and the checkpoint both came from."""

    model: Transformer
    tokenizer: Tokenizer
    checkpoint: Artifact
    """Of a GGUF file: its path and what is known of it, in the same terms, without a fingerprint."""

    @property
    def tuned_for_chat(self) -> bool:
        """Whether the model has learned the chat template, as the stage that trained it recorded."""
        return bool(self.checkpoint.facts.get("chat", False))

    @property
    def reading(self) -> Reading:
        """How the model was trained to read rows of text."""
        return reading_of(self.checkpoint, self.model.config)

    @property
    def trained_length(self) -> int:
        """Tokens of the longest texts it was trained on, where its context was extended; else its context."""
        return trained_length(self.checkpoint.facts, self.model.config)

    @property
    def lengths(self) -> str:
        """How much it reads, and was trained on, in words; empty where its context was not extended."""
        return lengths_in_words(self.checkpoint.facts, self.model.config)


@stage("loading the model")
def load_checkpoint(
    path: Path | str,
    device: torch.device | str | None = None,
    *,
    adapters: Sequence[tuple[Path | str, float]] = (),
) -> Loaded:
    """Open the model and tokenizer that ``path`` leads to (see ``locate_checkpoint``), checking the files.

    Args:
        path: of a checkpoint, a run, or a GGUF file, whose matrices stay packed.
        device: by default the first GPU, else the CPU.
        adapters: files or directories of adapters, in any format we read, and how strongly each acts. Where
            one was trained beside a packed base, a dense one is packed the same way.

    Raises:
        UserError: there is none, it is damaged, or an adapter was made for another base.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    loaded = _from_gguf(Path(path)) if Path(path).is_file() else _from_directory(path)
    if adapters:
        found = [(_adapter(place, loaded), strength) for place, strength in adapters]
        packing = common_packing(adapter for adapter, _ in found)
        if packing is not None and isinstance(loaded.model.embedding, nn.Embedding):
            pack(loaded.model, packing)  # the adapter belongs to the rounded weights
        lora.apply(loaded.model, found)
        for adapter, _ in found:
            loaded = _as_learnt(loaded, adapter)
    loaded.model.to(device)
    return loaded


def _as_learnt(loaded: Loaded, adapter: Adapter) -> Loaded:
    """With the length and the chat template an adapter has learnt, which the base need not know."""
    rows = extension_of(adapter.facts).get(TRAINED)
    if isinstance(rows, int):
        facts = {**loaded.checkpoint.facts, **extension_after(loaded.checkpoint.facts, rows)}
        loaded = replace(loaded, checkpoint=replace(loaded.checkpoint, facts=facts))
    if not adapter.facts.get("chat"):
        return loaded
    facts, tokenizer = {**loaded.checkpoint.facts, "chat": True}, loaded.tokenizer
    if isinstance(template := adapter.facts.get("chat_template"), str):
        tokenizer = with_template(tokenizer, template)
    return replace(loaded, tokenizer=tokenizer, checkpoint=replace(loaded.checkpoint, facts=facts))


def _from_directory(path: Path | str) -> Loaded:
    found = artifact.opened(locate_checkpoint(path), "checkpoint", verify=True)
    if adapter_directory.locate(found.path) is not None:
        base = adapter_directory.facts(found.path).get("base_path", "BASE")
        both = f"{base} --lora {path}"
        hint = (
            f"name its base, and the adapter beside it (generate, chat, eval): {both}; for anything else "
            f"merge them: congling convert {both} --to gguf --out merged.gguf"
        )
        raise UserError(
            "this run trained an adapter, which is no model by itself", value=str(path), hint=hint
        )
    tokenizer = store.load(found.path / "tokenizer")
    model = load_quantised(found.path) if is_quantised(found.path) else load_model(found.path)
    return Loaded(model, tokenizer, found)


@dataclass(frozen=True)
class OpenedGGUF:
    """A GGUF file with all that it says of its model, whose weights are not read yet."""

    file: GGUFFile
    facts: dict[str, Any]
    model: ModelConfig
    tokenizer: Tokenizer


def open_gguf(path: Path) -> OpenedGGUF:
    """Open a GGUF file.

    Raises:
        UserError: it is none, damaged, or of an architecture that is not known here.
    """
    with files.opened(path) as stream:
        foreign = stream.read(len(MAGIC)) != MAGIC
    if foreign:
        refuse_pickle(path)
        hint = "name a run, a checkpoint or a GGUF file; models of llama2.c come here by `congling import`"
        raise UserError("this is no GGUF file", value=str(path), hint=hint)
    file = GGUFFile.open(path)
    if file.text("general.type", "model") == "adapter":
        hint = "name the model it was made for"
        raise UserError("this is an adapter, not a model", value=str(path), hint=hint)
    facts, config = facts_of(file), config_from(file)
    return OpenedGGUF(file, facts, config, tokenizer_of(file, config.vocab_size))


def _from_gguf(path: Path) -> Loaded:
    opened = open_gguf(path)
    mixture = opened.model.mlp.kind == "moe"  # stacked experts have no packed layers
    model = transformer(gguf_model.read(path)) if mixture else load_packed(opened.file)
    return Loaded(model, opened.tokenizer, Artifact(path, "gguf", "", {}, {}, opened.facts))


def _adapter(path: Path | str, loaded: Loaded) -> Adapter:
    return read_any(path, loaded.model.config, loaded.checkpoint.facts.get("architecture"))
