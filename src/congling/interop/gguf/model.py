"""Models in GGUF files: read into our terms, written so that unmodified llama.cpp computes the same."""

# V vocabulary

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np

from congling.core.errors import UserError
from congling.core.units import plural
from congling.interop.assembly import transformer
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import vocabulary
from congling.interop.gguf.architectures import CHAT, facts_of
from congling.interop.gguf.calibrated import Calibration, encoded_in_sequence
from congling.interop.gguf.config import config_from
from congling.interop.gguf.config_writing import config_fields
from congling.interop.gguf.differences import differences
from congling.interop.gguf.file import Field, GGUFFile, TensorData, write_gguf
from congling.interop.gguf.kept_codes import KeptCodes
from congling.interop.gguf.sources import WITH_OUTPUT, Source, sources
from congling.interop.gguf.vocabulary_reading import tokenizer_of
from congling.interop.gguf.weights import GGUFWeights, pieces
from congling.interop.gguf_architecture import gguf_architecture
from congling.model.config import ModelConfig
from congling.model.counts import parameters
from congling.model.mlp_config import MoEConfig
from congling.quant.ggml import TYPES
from congling.quant.library import CALIBRATE
from congling.quant.mixtures import COPY, FILE_TYPES, NEEDS_IMPORTANCE, PLAIN, Mixture, named

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
    calibration: Calibration | None = None,
    overwrite: bool = False,
    inexact: bool = False,
) -> list[str]:
    """Write a model; the notes returned say, in sentences, what had to be changed on the way.

    Args:
        model: configuration, weights and tokenizer.
        path: the file.
        type: ``F32``, ``F16``, ``BF16``, or a quantised mixture such as ``Q8_0`` or ``Q4_K_M``: layers in few
            bits keep their codes where its blocks hold them. ``COPY``: in blocks that hold them exactly.
        fields: further keys, written last; they win over ours.
        calibration: what weighs the rounding; without one, and where it knows nothing of a tensor, values do.
        overwrite: replace a file that is there.
        inexact: accept a tokenizer that llama.cpp applies differently to some texts.

    Raises:
        UserError: llama.cpp cannot represent the model or the tokenizer (``Unrepresentable`` names the
            nearest choice), the type does not exist or needs a calibration that is not there, the calibration
            is of another model, there are no codes to copy, or something is at ``path``.
    """
    name, config = type.upper(), model.config
    architecture = gguf_architecture(config)
    listed = list(sources(model, architecture, Path(path)))
    if name == COPY:
        types, kept = _copied(model, listed)
        name = max(FILE_TYPES, key=list(kept.types.values()).count)
    else:
        name = named(type)
        tied = all(source.name != "output.weight" for source in listed)
        mixture = Mixture.of(config, name, tied=tied, imatrix=calibration is not None)
        types = {source.name: mixture.type_of(source.name, source.shape) for source in listed}
        kept = KeptCodes(model.layers, listed, types)
    tensors, told = _calibrated(model, listed, types, kept, calibration)
    keys = _general_fields(model, architecture, name) | config_fields(config, architecture)
    if model.tokenizer is None:
        keys["tokenizer.ggml.model"] = Field("string", "none")
    else:
        keys |= vocabulary.fields(model.tokenizer, vocab_size=config.vocab_size, inexact=inexact)
    if calibration is not None and calibration.name:
        keys |= calibration.matrix.fields(calibration.name)
    write_gguf(path, keys | dict(fields or {}), tensors, overwrite=overwrite)
    apart = [] if model.tokenizer is None else [each.what for each in differences(model.tokenizer)]
    notes = _notes(config, architecture) + _fallbacks(tensors, kept, name)
    return notes + kept.notes(tensors, type.upper()) + told + apart


def _copied(model: ForeignModel, listed: list[Source]) -> tuple[dict[str, str], KeptCodes]:
    """Types of all tensors where codes are copied, and the codes."""
    if not model.layers:
        what, hint = "this model has no layers in few bits", "quantise it first: congling quantize"
        raise UserError(what, value=COPY, hint=hint)
    kept = KeptCodes(model.layers, listed)
    return {source.name: kept.types.get(source.name, "F32") for source in listed}, kept


def _calibrated(
    model: ForeignModel,
    listed: list[Source],
    types: dict[str, str],
    kept: KeptCodes,
    calibration: Calibration | None,
) -> tuple[list[TensorData], list[str]]:
    """The tensors, to be encoded with what is known of their inputs; and what is to be said of that."""
    rounded = [each for each in listed if types[each.name] not in PLAIN and each.name not in kept.types]
    importance: dict[str, np.ndarray] = {}
    blocks: Mapping[str, np.ndarray] = kept
    notes: list[str] = []
    if calibration is not None:
        known = {source.name: calibration.matrix.of(source.name, source.shape) for source in listed}
        importance = {name: found for name, found in known.items() if found is not None}
        unknown = [source.name for source in rounded if source.name not in importance]
        if not importance:
            what, one = (
                "the importance matrix knows no tensor of this model",
                [*calibration.matrix.tensors][:1],
            )
            raise UserError(what, value=one)
        if unknown:
            notes = [f"not weighed, since the calibration knows nothing of them: {', '.join(unknown)}"]
    for source in rounded:
        if types[source.name] in NEEDS_IMPORTANCE and source.name not in importance:
            what = f"{types[source.name]} needs an importance matrix"
            raise UserError(what, where=source.name, hint=CALIBRATE)
    if calibration is not None and calibration.rows is not None:
        ours = {name: types[source.name] for source in rounded for name in source.parameters}
        dense = transformer(replace(model, layers={}))
        encoded, more = encoded_in_sequence(dense, calibration.rows, ours)
        blocks, notes = {**kept, **encoded}, notes + more
    return [
        source.tensor(types[source.name], importance.get(source.name), blocks) for source in listed
    ], notes


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


def _fallbacks(tensors: list[TensorData], kept: KeptCodes, type: str) -> list[str]:
    """Say which tensors could not get their type, because their rows are no multiple of its blocks."""
    block = TYPES[FILE_TYPES[type][1]].values
    odd = (tensor for tensor in tensors if tensor.shape[-1] % block and tensor.name not in kept.types)
    other = Counter(tensor.type for tensor in odd if tensor.type != "F32")
    return [
        f"{count} {plural(count, 'tensor')} stored as {kind}: rows are no multiple of {block} values, which "
        f"{type} needs"
        for kind, count in other.items()
    ]
