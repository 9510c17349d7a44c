"""Hugging Face folders read and written whole.

::

    folder/
    ├── config.json  generation_config.json      what ``AutoModelForCausalLM`` builds, and how it writes
    ├── model.safetensors                         or parts named by model.safetensors.index.json
    ├── tokenizer.json  tokenizer_config.json …   what ``AutoTokenizer`` reads, with the chat template
    ├── configuration.json                        ModelScope's
    └── README.md                                 the model card
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.core.output import replacing
from congling.core.text import write_text
from congling.interop import safetensors_file
from congling.interop.foreign import ForeignModel
from congling.interop.hf import position_writing
from congling.interop.hf import tokenizer as hf_tokenizer
from congling.interop.hf.architecture import architecture
from congling.interop.hf.card import card
from congling.interop.hf.config import architecture_of, config_from
from congling.interop.hf.config_writing import config_json
from congling.interop.hf.conventions import changes, conversions, converted, fused_rows, normalised_head
from congling.interop.hf.outgoing import OutgoingTensors
from congling.interop.hf.position_remarks import remarks
from congling.interop.hf.quantised.config import quantization_config, scheme_of
from congling.interop.hf.quantised.outgoing import KINDS, OutgoingLayers, scheme_for
from congling.interop.hf.quantised.reading import FolderLayers
from congling.interop.hf.quantised.tensors import QuantisedTensors
from congling.interop.hf.settings import CONFIG, QUANTISED, read_json
from congling.interop.hf.stored import WEIGHTS, StoredTensors
from congling.interop.hf.weights import FolderWeights
from congling.interop.names import entries_of
from congling.model.checkpoint import expected_shapes
from congling.model.config import ModelConfig
from congling.model.lazy import LazyTensors
from congling.quant.config import FACT
from congling.quant.frozen import FrozenLinear
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.imported import read as tokenizer_files
from congling.tokenizer.imported.side_files import TEMPLATES, settings_of, template_notes
from congling.tokenizer.rows import within

TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
_CODE_OF_THEIR_OWN = frozenset({
    "DeepseekForCausalLM", "BaiChuanForCausalLM", "BaichuanForCausalLM", "MiniCPMForCausalLM",
    "InternLM2ForCausalLM", "MiniMindForCausalLM",
})  # fmt: skip
"""Classes that transformers loads with the authors' code alone."""
_UNTIED = (
    "config.json ties the output matrix to the embedding, but another one is stored: it is used, and the "
    "model is untied"
)
_NOT_QWEN2 = (
    "written as {} with biases of zero on the output of attention, which computes the same: of "
    "Qwen2ForCausalLM transformers loads a tokenizer of its own, whatever the folder says"
)
_TURNED = (
    "columns are in another order than their groups (desc_act, g_idx), which no layer here holds: they are "
    "read as the floats they stand for"
)
_IN_FLOATS = "layers in few bits are written as the floats they stand for: GPTQ, AWQ, CT and BNB keep codes"
_CHAT = "congling_chat"
"""Our own key in ``config.json``, which transformers keeps and ignores: the fact ``chat``."""


def read(folder: Path | str) -> ForeignModel:
    """Open a folder of one of the known architectures; each tensor is read, as float32, when asked for.

    The tokenizer is read too when the folder has one.

    Raises:
        UserError: a file is missing, damaged or a pickle, the model has parts that are not known here, or
            tensors do not fit the configuration.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError("no such directory", value=str(folder))
    where = folder / CONFIG
    values = read_json(where)
    name, config = architecture_of(values, where), config_from(values, where)
    quantised = values.get(QUANTISED) is not None
    stored = QuantisedTensors.of_folder(folder) if quantised else StoredTensors(folder)
    untied = config.tie_word_embeddings and _has_another_head(stored, name)
    config = config.replace(tie_word_embeddings=False) if untied else config
    shapes = expected_shapes(config, len(stored), where)
    changed = changes(name, config, shapes, values)
    weights = FolderWeights(stored, name, shapes, changed, fused_rows(name, config.attention))
    tokenizer, more = _tokenizer(folder, config)
    facts: dict[str, Any] = {
        "name": folder.resolve().name,
        "architecture": name,
        "chat": _tuned_for_chat(folder, values),
        "notes": _notes(name, config, values) + ([_UNTIED] if untied else []) + more,
    }
    layers: Mapping[str, FrozenLinear] = {}
    if isinstance(stored, QuantisedTensors):
        facts[FACT] = stored.scheme.facts()
        if stored.turned:
            facts["notes"].append(_TURNED)
        else:
            layers = FolderLayers(stored, weights, changed)
    return ForeignModel(config, weights, tokenizer, facts, layers)


def _has_another_head(stored: StoredTensors | QuantisedTensors, architecture: str) -> bool:
    """Whether an output matrix is stored that is not the embedding, as after merging an adapter into it."""
    head, embedding = (
        entries_of(architecture, ours)[0].theirs for ours in ("head.weight", "embedding.weight")
    )
    if head not in stored or embedding not in stored or stored.shape(head) != stored.shape(embedding):
        return False
    return not torch.equal(stored.read(head), stored.read(embedding))


def _notes(name: str, config: ModelConfig, values: Mapping[str, Any]) -> list[str]:
    """What was decided on the way, in sentences."""
    notes = []
    if name == "BaichuanForCausalLM":
        if normalised_head(values):
            notes.append("the rows of the output matrix were brought to length 1 (NormHead)")
        else:
            notes.append(
                "the output matrix is used as it is, as in Baichuan 13B; z_loss_weight in its "
                "config.json would say that this is Baichuan 2"
            )
    if name.lower().startswith("baichuan"):
        notes.append(f"positions: {'ALiBi' if config.positions.kind == 'alibi' else 'rotary'}")
    if config.max_position_embeddings < (values.get("max_position_embeddings") or 0):
        notes.append(f"the context is that of the sliding window, {config.max_position_embeddings} tokens")
    return notes + remarks(values, config)


def unloadable(folder: Path, architecture: str) -> str | None:
    """Why ``AutoModelForCausalLM`` or ``AutoTokenizer`` does not load a folder that is read here, if so."""
    if architecture in _CODE_OF_THEIR_OWN:
        return f"transformers has no {architecture} without code of its own"
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return "the folder has no tokenizer that transformers would load"
    values = read_json(folder / CONFIG)
    if (said := values.get(QUANTISED)) is not None:
        scheme = scheme_of(said, folder / CONFIG)
        if scheme.format == "pack-quantized" and not scheme.sym:
            return "transformers does not load asymmetric codes of compressed-tensors"
        if said.get("desc_act"):
            return "no program here runs groups in another order than that of the columns (desc_act)"
    return None


def write(
    model: ForeignModel, folder: Path | str, type: str = "F32", *, overwrite: bool = False
) -> list[str]:
    """Write a folder that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load without code of its own.

    ``type`` is that of the weights: ``F32``, ``F16`` or ``BF16``; of a model with layers in few bits also
    ``GPTQ``, ``AWQ``, ``CT`` or ``BNB``, whose other tensors are float32. One tensor is in memory at a time.
    The notes returned say, in sentences, what had to be changed on the way.

    Raises:
        UserError: no class of transformers computes this model, the tokenizer cannot be written, ``type`` is
            another or does not hold these layers, or something is at ``folder`` already.
    """
    if type not in TYPES and type not in KINDS:
        hint = f"one of: {', '.join((*TYPES, *KINDS))}"
        raise UserError("no such type of weights for this format", value=type, hint=hint)
    scheme = None if type in TYPES else scheme_for(model.layers, type)
    dtype = TYPES.get(type, torch.float32)
    config, weights = _with_shared_expert(model.config, model.weights)
    notes = ["a shared expert of zeros was added"] if config != model.config else []
    notes += [_IN_FLOATS] if scheme is None and model.layers else []
    notes += position_writing.notes(config)
    name = architecture(config)
    tokenizer = model.tokenizer
    if name == "Qwen2ForCausalLM" and tokenizer is not None and not hf_tokenizer.is_qwen2(tokenizer):
        config, weights = _with_output_bias(config, weights)
        name = architecture(config)
        notes.append(_NOT_QWEN2.format(name))
    shapes = expected_shapes(config, config.num_hidden_layers, Path(folder))
    settings = config_json(config, _token_ids(model.tokenizer), str(dtype).removeprefix("torch."))
    settings[_CHAT] = bool(model.facts.get("chat", False))
    changed = conversions(name, config, shapes)
    tensors = OutgoingTensors(converted(weights, changed), name, shapes, dtype)
    if scheme is not None:
        tensors = OutgoingLayers(tensors, model.layers, name, scheme, changed)
        settings[QUANTISED] = quantization_config(scheme, tensors.floats)
    with replacing(folder, overwrite=overwrite) as temporary:
        temporary.mkdir()
        safetensors_file.write(tensors, temporary / WEIGHTS, tensors.layout)
        _write_json(temporary / CONFIG, settings)
        _write_json(temporary / "generation_config.json", _generation(model.tokenizer))
        _write_json(temporary / "configuration.json", {"framework": "pytorch", "task": "text-generation"})
        if model.tokenizer is not None:
            hf_tokenizer.write(model.tokenizer, temporary, position_writing.context(config))
        write_text(temporary / "README.md", card(model, name, type, notes))
    return notes


def _tuned_for_chat(folder: Path, values: Mapping[str, Any]) -> bool:
    """Whether a model was tuned for its chat template: as we wrote, else if it came with one."""
    if isinstance(values.get(_CHAT), bool):
        return values[_CHAT]
    return any(settings_of(folder)[TEMPLATES].values())


def _tokenizer(folder: Path, config: ModelConfig) -> tuple[Tokenizer | None, list[str]]:
    """The folder's tokenizer, if there is one, and what to tell about it."""
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return None, []
    found, notes = within(tokenizer_files.read(folder), config.vocab_size, folder)
    return found, [*template_notes(folder), *notes]


def _with_shared_expert(
    config: ModelConfig, weights: Mapping[str, Tensor]
) -> tuple[ModelConfig, Mapping[str, Tensor]]:
    """The same model with one shared expert that adds nothing, for a class that cannot be without any."""
    mlp = config.mlp
    if mlp.kind != "moe" or mlp.router.kind != "sigmoid" or mlp.n_shared_experts:
        return config, weights
    added = config.replace(mlp={"n_shared_experts": 1})
    shapes = expected_shapes(added, added.num_hidden_layers, Path(CONFIG))
    missing = {name: torch.zeros(shape) for name, shape in shapes.items() if ".mlp.shared." in name}
    return added, _extended(weights, missing)


def _with_output_bias(
    config: ModelConfig, weights: Mapping[str, Tensor]
) -> tuple[ModelConfig, Mapping[str, Tensor]]:
    """The same model with biases of zero on the output of attention."""
    added = config.replace(attention={"attention_output_bias": True})
    shapes = expected_shapes(added, added.num_hidden_layers, Path(CONFIG))
    missing = {name: torch.zeros(shape) for name, shape in shapes.items() if name not in weights}
    return added, _extended(weights, missing)


def _extended(weights: Mapping[str, Tensor], more: Mapping[str, Tensor]) -> LazyTensors:
    """Weights and a few tensors more."""
    return LazyTensors([*weights, *more], lambda name: more[name] if name in more else weights[name])


def _token_ids(tokenizer: Tokenizer | None) -> dict[str, int | None]:
    """``bos_token_id`` and its like, null where there is none: else transformers takes another model's."""
    if tokenizer is None:
        return {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    roles = tokenizer.roles
    return {"bos_token_id": roles.bos, "eos_token_id": roles.eos, "pad_token_id": roles.pad}


def _generation(tokenizer: Tokenizer | None) -> dict[str, Any]:
    """``generation_config.json``: the roles, and every id that ends an answer."""
    values: dict[str, Any] = {k: v for k, v in _token_ids(tokenizer).items() if v is not None}
    if tokenizer is not None and tokenizer.stop_ids:
        values["eos_token_id"] = sorted(tokenizer.stop_ids)
    return values


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, ensure_ascii=False, indent=2) + "\n")
