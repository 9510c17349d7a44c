"""Models in GGUF files: read into our terms, written so that unmodified llama.cpp computes the same."""

# V vocabulary

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import gguf

from congling.core.units import plural
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import vocabulary
from congling.interop.gguf.architectures import CHAT, facts_of
from congling.interop.gguf.config import config_from
from congling.interop.gguf.config_writing import config_fields
from congling.interop.gguf.differences import differences
from congling.interop.gguf.file import Field, GGUFFile, TensorData, write_gguf
from congling.interop.gguf.sources import WITH_OUTPUT, sources
from congling.interop.gguf.vocabulary_reading import tokenizer_of
from congling.interop.gguf.weights import GGUFWeights, pieces
from congling.interop.gguf_architecture import gguf_architecture
from congling.model.config import ModelConfig
from congling.model.counts import parameters
from congling.model.mlp_config import MoEConfig
from congling.quant.ggml import TYPES
from congling.quant.mixtures import FILE_TYPES, PLAIN, Mixture, named

_QUANTISATION_VERSION = 2
_STAND_INS = frozenset({"refact", "glm4moe", "starcoder2", "stablelm"})
"""Architectures that a model of ours gets for want of its own."""


def read(path: Path | str) -> ForeignModel:
    """Open a GGUF model; its tensors are decoded to float32 when asked for.

    Raises:
        UserError: damaged, another architecture, or anything in it that we would compute differently.
    """
    file = GGUFFile.open(path)
    facts, config = facts_of(file), config_from(file)
    facts["types"] = dict(Counter(tensor.type for tensor in file.tensors.values()))
    weights = GGUFWeights(file, pieces(file, config, facts["architecture"]))
    without = file.text("tokenizer.ggml.model", "none") in ("none", "no_vocab")
    return ForeignModel(config, weights, None if without else tokenizer_of(file, config.vocab_size), facts)


def write(
    model: ForeignModel,
    path: Path | str,
    type: str = "F32",
    fields: Mapping[str, Field] | None = None,
    *,
    overwrite: bool = False,
    inexact: bool = False,
) -> list[str]:
    """Write a model; the notes returned say, in sentences, what had to be changed on the way.

    Args:
        model: configuration, weights and tokenizer.
        path: the file.
        type: ``F32``, ``F16``, ``BF16``, or a quantised mixture such as ``Q8_0`` or ``Q4_K_M``.
        fields: further keys, written last; they win over ours.
        overwrite: replace a file that is there.
        inexact: accept a tokenizer that llama.cpp applies differently to some texts.

    Raises:
        UserError: llama.cpp cannot represent the model or the tokenizer (``Unrepresentable`` names the
            nearest choice), the type does not exist, or something is at ``path``.
    """
    name, config = named(type), model.config
    architecture = gguf_architecture(config)
    listed = list(sources(model, architecture, Path(path)))
    mixture = Mixture(
        name,
        config.num_hidden_layers,
        config.attention.num_attention_heads // config.attention.num_key_value_heads,
        config.mlp.num_experts if isinstance(config.mlp, MoEConfig) else 0,
        tied=all(source.name != "output.weight" for source in listed),
    )
    tensors = [source.tensor(mixture.type_of(source.name, source.shape)) for source in listed]
    keys = _general_fields(model, architecture, name) | config_fields(config, architecture)
    if model.tokenizer is None:
        keys["tokenizer.ggml.model"] = Field("string", "none")
    else:
        keys |= vocabulary.fields(model.tokenizer, vocab_size=config.vocab_size, inexact=inexact)
    write_gguf(path, keys | dict(fields or {}), tensors, overwrite=overwrite)
    apart = [] if model.tokenizer is None else [each.what for each in differences(model.tokenizer)]
    return _notes(config, architecture) + _fallbacks(tensors, name) + apart


def _general_fields(model: ForeignModel, architecture: str, type: str) -> dict[str, Field]:
    total = parameters(model.config)
    keys = {
        "general.architecture": Field("string", architecture),
        "general.type": Field("string", "model"),
        "general.name": Field("string", str(model.facts.get("name", "congling"))),
        "general.size_label": Field("string", gguf.size_label(total, total, 0, 0)),
        "general.file_type": Field("u32", FILE_TYPES[type][0]),
    }
    if "chat" in model.facts:
        keys[CHAT] = Field("bool", bool(model.facts["chat"]))
    if type not in PLAIN:
        keys["general.quantization_version"] = Field("u32", _QUANTISATION_VERSION)
    return keys


def _notes(config: ModelConfig, architecture: str) -> list[str]:
    notes = []
    if architecture in WITH_OUTPUT and config.tie_word_embeddings:
        notes.append("the embedding is stored a second time as the output matrix, which this format wants")
    if architecture in _STAND_INS:
        notes.append(f"stored as the architecture {architecture}, which computes the same as this model")
    if architecture == "glm4moe" and isinstance(config.mlp, MoEConfig) and not config.mlp.n_shared_experts:
        notes.append("a shared expert of zeros, which adds nothing, stands for the one it wants")
    return notes


def _fallbacks(tensors: list[TensorData], type: str) -> list[str]:
    """Say which tensors could not get their type, because their rows are no multiple of its blocks."""
    block = TYPES[FILE_TYPES[type][1]].values
    other = Counter(tensor.type for tensor in tensors if tensor.type != "F32" and tensor.shape[-1] % block)
    return [
        f"{count} {plural(count, 'tensor')} stored as {kind}: rows are no multiple of {block} values, which "
        f"{type} needs"
        for kind, count in other.items()
    ]
