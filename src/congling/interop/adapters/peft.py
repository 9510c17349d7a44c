"""Adapters in PEFT folders, as ``PeftModel.from_pretrained`` loads them.

::

    folder/
    ├── adapter_config.json   README.md, which says how the base's positions turn
    └── adapter_model.safetensors
          base_model.model.MODULE.lora_A.weight (r, inputs)    .lora_B.weight (outputs, r)
          base_model.model.MODULE.lora_embedding_A (r, V)      .lora_embedding_B (W, r)
          base_model.model.MODULE.lora_magnitude_vector (outputs,), with use_dora for every MODULE

MODULE is the name of a layer in transformers. Of a matrix that is embedding and output at once, PEFT adapts
the two uses apart; here it is one tensor, so both are written, and both must be there and equal to be read.
DoRA of PEFT stretches the columns of an embedding, ours no embedding at all: such a module is not exchanged.
"""

# r rank, V vocabulary, W width

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from congling.core import files
from congling.core.errors import UserError
from congling.core.output import replacing
from congling.core.text import write_text
from congling.interop import safetensors_file
from congling.interop.adapters import peft_card, peft_config
from congling.interop.adapters.fitting import checked, is_gain, joined, matrices, outputs_of, separated
from congling.interop.detect import refuse_pickle
from congling.interop.gguf.arrangement import Heads, to_half_split, to_interleaved, turned_heads
from congling.interop.hf.architecture import architecture, misfit
from congling.interop.names import ARCHITECTURES, Entry
from congling.model.config import ModelConfig
from congling.transform.adapter import Adapter, Factors

WEIGHTS, _PICKLED = "adapter_model.safetensors", "adapter_model.bin"
_PREFIX = "base_model.model."
_EMBEDDING, _HEAD = "embedding.weight", "head.weight"
_MATRIX, _LOOKUP = (".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B")
_MAGNITUDE = ".lora_magnitude_vector"
_COPY = ".base_layer.weight"
_PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)


def read(folder: Path | str, config: ModelConfig) -> Adapter:
    """Open an adapter for a model of ``config``.

    Raises:
        UserError: a file is missing, damaged or a pickle; no plain LoRA; made for another base; or it adapts
            a tied embedding without the output.
    """
    folder = Path(folder)
    settings, stored = peft_config.read(folder), _stored(folder)
    _drop_copies(stored, config, folder)
    names = _modules(config)
    factors: dict[str, Factors] = {}
    while stored:
        key = next(iter(stored))
        found = re.fullmatch(
            rf"{re.escape(_PREFIX)}(.+?)({'|'.join(map(re.escape, (*_MATRIX, *_LOOKUP)))})", key
        )
        if found is None or found[1] not in names:
            raise UserError("the adapter changes something this model does not have", where=folder, value=key)
        module, lookup = found[1], found[2] in _LOOKUP
        a, b = (_half(stored, f"{_PREFIX}{module}{end}", folder) for end in (_LOOKUP if lookup else _MATRIX))
        a, b = (b.T, a.T) if lookup else (a, b)
        magnitude = _magnitude(stored, module, lookup, folder) if settings.dora else None
        part = Factors(a.contiguous(), b.contiguous(), settings.scale(module, a.shape[0]), magnitude)
        factors |= _parts(names[module], part, config, folder)
    if config.tie_word_embeddings:
        factors = _tied(factors, folder)
    return checked(Adapter(factors, {"name": folder.name, "format": "peft"}), config, folder)


def write(
    adapter: Adapter,
    config: ModelConfig,
    folder: Path | str,
    *,
    base: str | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Write an adapter for a model of ``config``; the notes returned say what PEFT cannot hold.

    ``base`` is the name or path of the base model, for people.

    Raises:
        UserError: no class of transformers computes the base, nothing is left that PEFT can hold, or the
            adapter does not fit the model.
    """
    checked(adapter, config, "the adapter")
    kept, notes = dict(adapter.factors), []
    gains = [name for name in adapter.factors if is_gain(name) and kept.pop(name)]
    if gains:
        notes.append(f"{len(gains)} norm gains are left out: PEFT has no LoRA for them; merge to keep them")
    if mixed := [name for name in adapter.factors if ".mlp." in name and config.mlp.kind == "moe"]:
        kept = {name: part for name, part in kept.items() if name not in mixed}
        notes.append(f"{len(mixed)} tensors of MLPs are left out: PEFT takes such names for those of experts")
    dora = any(part.magnitude is not None for part in kept.values())
    if dora and kept.pop(_EMBEDDING, None) is not None:
        notes.append(
            "the embedding is left out: with use_dora PEFT wants a magnitude of its columns; merge to keep it"
        )
    if plain := [name for name, part in kept.items() if dora and part.magnitude is None]:
        what, hint = "a PEFT folder holds magnitudes of all layers or of none", "merge it into the model"
        raise UserError(what, value=plain[0], hint=hint)
    if not kept:
        raise UserError("a PEFT folder can hold nothing of this adapter", hint="merge it into the model")
    modules = _theirs(kept, config)
    tensors: dict[str, Tensor] = {}
    for module, part in modules.items():
        lookup = module.endswith(("embed_tokens", "wte"))
        pair = (part.b.T, part.a.T) if lookup else (part.a, part.b)
        for end, factor in zip(_LOOKUP if lookup else _MATRIX, pair, strict=True):
            tensors[f"{_PREFIX}{module}{end}"] = factor.detach().to("cpu", torch.float32).contiguous()
        if part.magnitude is not None:
            tensors[f"{_PREFIX}{module}{_MAGNITUDE}"] = part.magnitude.detach().to("cpu", torch.float32)
    text = json.dumps(peft_config.written(modules, config, base), ensure_ascii=False, indent=2)
    with replacing(Path(folder), overwrite=overwrite) as temporary:
        temporary.mkdir()
        safetensors_file.write(tensors, temporary / WEIGHTS)
        write_text(temporary / peft_config.CONFIG, text + "\n")
        write_text(temporary / "README.md", peft_card.card(adapter, config, base))
    return notes + peft_card.notes(config)


def _stored(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder.

    Raises:
        UserError: there are none, or they are pickled, damaged or no floating-point numbers.
    """
    path = folder / WEIGHTS
    if not path.is_file() and (folder / _PICKLED).is_file():
        refuse_pickle(folder / _PICKLED)
    try:
        files.opened(path).close()
        with safe_open(path, framework="pt") as file:
            tensors = {_plain(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError("no adapter here: a file is missing", where=folder, value=WEIGHTS) from None
    except (OSError, SafetensorError) as error:
        refuse_pickle(path)
        raise UserError(f"damaged or no safetensors file: {error}", where=path) from None
    for name, tensor in tensors.items():
        dimensions = 1 if name.endswith(_MAGNITUDE) else 2
        if tensor.dtype not in _PRECISIONS or tensor.dim() != dimensions or not tensor.numel():
            what = "a tensor that is no factor: two dimensions of floating-point numbers are needed"
            raise UserError(what, where=path, value=f"{name}: {tuple(tensor.shape)}, {tensor.dtype}")
    return tensors


def _plain(name: str) -> str:
    """A tensor's name without what compiling, distributing or a named adapter put into it."""
    name = (
        name.replace("_orig_mod.", "")
        .removeprefix("module.")
        .replace(".default.", ".")
        .removesuffix(".default")
    )
    return name if name.startswith(_PREFIX) else _PREFIX + name


def _drop_copies(stored: dict[str, Tensor], config: ModelConfig, folder: Path) -> None:
    """Take out the frozen embedding and output matrix, which PEFT stores beside factors of theirs.

    Raises:
        UserError: their size is another than the base's: the vocabulary was changed.
    """
    for name in [name for name in stored if name.endswith(_COPY)]:
        copy = stored.pop(name)
        if tuple(copy.shape) != (config.vocab_size, config.hidden_size):
            what = "the adapter brings an embedding of another size than the base's"
            raise UserError(
                what,
                where=folder,
                value=f"{name} {tuple(copy.shape)}",
                hint="merge it into its own base, and import the result",
            )


def _half(stored: dict[str, Tensor], name: str, folder: Path) -> Tensor:
    if name not in stored:
        raise UserError("a factor or magnitude is missing", where=folder, value=name)
    return stored.pop(name).float()


def _magnitude(stored: dict[str, Tensor], module: str, lookup: bool, folder: Path) -> Tensor:
    """Lengths of the rows of a module.

    Raises:
        UserError: there are none, or they are those of an embedding's columns.
    """
    if lookup:
        what = "the adapter stretches the columns of an embedding (DoRA), which is not supported"
        hint = "merge it into its base with PEFT (merge_and_unload), and import the result"
        raise UserError(what, where=folder, value=module, hint=hint)
    return _half(stored, f"{_PREFIX}{module}{_MAGNITUDE}", folder)


def _modules(config: ModelConfig) -> dict[str, tuple[str, ...]]:
    """Names of layers in transformers, and our parameters they hold; those of Baichuan's code too."""
    tables = [ARCHITECTURES["BaichuanForCausalLM"], ARCHITECTURES["Dots1ForCausalLM"]]
    if misfit(config) is None:
        tables.append(ARCHITECTURES[architecture(config)])
    return {
        entry.theirs.format(layer).removesuffix(".weight"): tuple(name.format(layer) for name in entry.ours)
        for table in tables
        for entry in table
        for layer in range(config.num_hidden_layers)
        if _is_layer(entry)
    }


def _class_of(config: ModelConfig) -> str:
    """The class whose layers are named; Baichuan with ALiBi has one only in its own code."""
    return "BaichuanForCausalLM" if config.positions.kind == "alibi" else architecture(config)


def _is_layer(entry: Entry) -> bool:
    return entry.theirs.endswith(".weight") and not entry.one_expert


def _parts(names: tuple[str, ...], part: Factors, config: ModelConfig, folder: Path) -> dict[str, Factors]:
    """Factors by our names; those of a matrix that holds several of ours are cut apart."""
    found = {names[0]: part}
    if len(names) > 1:
        if not matrices(config).keys() >= set(names) or sum(outputs_of(names, config)) != part.b.shape[0]:
            raise UserError("the adapter was made for another base", where=folder, value=names[0])
        pieces = zip(names, separated(part, outputs_of(names, config)), strict=True)
        found = {name: piece for name, piece in pieces if piece is not None}
    return {name: _reordered(name, piece, config, to_half_split) for name, piece in found.items()}


def _reordered(
    name: str, part: Factors, config: ModelConfig, order: Callable[[Tensor, Heads], Tensor]
) -> Factors:
    """Factors of queries or keys with their rows as the class has them, or as we do."""
    heads = None if misfit(config) is not None else turned_heads(name, config, architecture(config))
    if heads is None or outputs_of([name], config) != [len(part.b)]:  # of another base: said by ``checked``
        return part
    magnitude = None if part.magnitude is None else order(part.magnitude, heads)
    return replace(part, b=order(part.b, heads), magnitude=magnitude)


def _tied(factors: dict[str, Factors], folder: Path) -> dict[str, Factors]:
    """One adapter of the tied matrix from those of its two uses."""
    lookup, output = factors.get(_EMBEDDING), factors.pop(_HEAD, None)
    if (lookup is None) != (output is None):
        what = "this base uses one matrix as embedding and output, and the adapter changes only one of them"
        raise UserError(what, where=folder, hint="untie the base, or train without the embedding")
    if lookup is not None and output is not None:
        same = lookup.a.shape == output.a.shape and lookup.b.shape == output.b.shape
        if not same or not (
            lookup.scale == output.scale and lookup.a.equal(output.a) and lookup.b.equal(output.b)
        ):
            what = (
                "this base uses one matrix as embedding and output, and the adapter changes them differently"
            )
            raise UserError(what, where=folder, hint="untie the base")
    return factors


def _theirs(factors: Mapping[str, Factors], config: ModelConfig) -> dict[str, Factors]:
    """Factors by the layers of transformers."""
    found: dict[str, Factors] = {}
    for entry in ARCHITECTURES[_class_of(config)]:
        if not _is_layer(entry):
            continue
        for layer in range(config.num_hidden_layers if "{}" in entry.theirs else 1):
            names = [name.format(layer) for name in entry.ours]
            parts = [factors.get(name) for name in names]
            if config.tie_word_embeddings and names == [_HEAD]:
                parts = [factors.get(_EMBEDDING)]
            if any(part is not None for part in parts):
                module = entry.theirs.format(layer).removesuffix(".weight")
                parts = [
                    part and _reordered(name, part, config, to_interleaved)
                    for name, part in zip(names, parts, strict=True)
                ]
                one = parts[0] if len(parts) == 1 else joined(parts, outputs_of(names, config))
                assert one is not None
                found[module] = one
    held = {
        name.format(layer)
        for entry in ARCHITECTURES[_class_of(config)]
        if _is_layer(entry)
        for name in entry.ours
        for layer in range(config.num_hidden_layers)
    }
    if lost := factors.keys() - held:
        raise UserError("PEFT has no layer of its own for this tensor", value=min(lost))
    return found
