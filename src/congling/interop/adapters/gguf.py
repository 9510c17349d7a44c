"""Adapters in GGUF, as llama.cpp loads them with ``--lora``.

::

    general.type adapter │ general.architecture │ adapter.type lora │ adapter.lora.alpha
    blk.0.attn_q.weight.lora_a (r, inputs)      blk.0.attn_q.weight.lora_b (outputs, r)
    token_embd.weight.lora_a (V, r)             token_embd.weight.lora_b (W, r)

llama.cpp adds ``strength · alpha / r · b @ a``, or ``strength · b @ a`` where alpha is 0 or missing. It has
no way to adapt the gain of a norm, and an embedding only where the output matrix is another.
"""

# r rank, V vocabulary, W width

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.interop.adapters.fitting import (
    checked,
    common_scale,
    is_gain,
    joined,
    matrices,
    outputs_of,
    refuse_magnitudes,
    separated,
)
from congling.interop.gguf.arrangement import to_half_split, to_interleaved, turned_heads
from congling.interop.gguf.file import Field, GGUFFile, TensorData, write_gguf
from congling.interop.gguf.names import fused_name, gguf_name, our_names
from congling.interop.gguf.stretch_flags import note
from congling.interop.gguf_architecture import gguf_architecture
from congling.model.config import ModelConfig
from congling.transform.adapter import Adapter, Factors

_EMBEDDING = "embedding.weight"
_ALIKE = ("llama", "baichuan")
"""A rotary Baichuan is a Llama here: names and order of rows are the same."""
_SUFFIXES = (".lora_a", ".lora_b")


def read(path: Path | str, config: ModelConfig, architecture: str | None = None) -> Adapter:
    """Open an adapter for a model of ``config``.

    Args:
        path: the file.
        config: of the base.
        architecture: GGUF's name of the base's architecture, by default the one ``config`` is written as.

    Raises:
        UserError: damaged, no LoRA adapter, made for another base, or with parts that cannot be applied.
    """
    path, file = Path(path), GGUFFile.open(path)
    architecture = architecture or gguf_architecture(config)
    alpha = _alpha(file, architecture)
    factors: dict[str, Factors] = {}
    for name, a, b in _pairs(file):
        scale = alpha / b.shape[-1] if alpha else 1.0
        for ours, part in _ours(name, Factors(a, b, scale), config, architecture, path).items():
            if ours in factors:
                raise UserError("a tensor is adapted twice", where=path, value=ours)
            factors[ours] = part
    facts = {"name": file.text("general.name", path.stem), "architecture": architecture, "format": "gguf"}
    return checked(Adapter(factors, facts), config, path)


def write(
    adapter: Adapter,
    config: ModelConfig,
    path: Path | str,
    architecture: str | None = None,
    *,
    overwrite: bool = False,
) -> list[str]:
    """Write an adapter for a model of ``config``; the notes returned name what llama.cpp cannot apply.

    Raises:
        UserError: nothing is left that llama.cpp can apply, the adapter does not fit the model, or is
            one of DoRA.
    """
    checked(adapter, config, "the adapter")
    refuse_magnitudes(adapter, "a GGUF adapter")
    architecture = architecture or gguf_architecture(config)
    kept, notes = _applicable(adapter, config)
    if (stretched := note(config)) is not None:
        notes.append(stretched)
    stacks = _theirs(kept, config, architecture)
    alpha = common_scale(stacks)
    keys = {
        "general.type": Field("string", "adapter"),
        "general.architecture": Field("string", architecture),
        "general.name": Field("string", str(adapter.facts.get("name", "congling adapter"))),
        "general.file_type": Field("u32", 0),
        "adapter.type": Field("string", "lora"),
        # 0 says: strength alone. Scales that no single alpha gives are multiplied into b.
        "adapter.lora.alpha": Field("f32", alpha or 0.0),
    }
    tensors: list[TensorData] = []
    for name, part in stacks.items():
        # Of an embedding the factors are exchanged, and the scale is on either.
        tensors += _tensors(name, part.a, part.b if alpha else part.b * part.scale)
    write_gguf(path, keys, tensors, overwrite=overwrite)
    return notes


def _alpha(file: GGUFFile, architecture: str) -> float:
    """Alpha of the file, once it is clear that it is a LoRA adapter for this architecture."""
    if file.text("general.type", "model") != "adapter" or file.text("adapter.type", "") != "lora":
        raise UserError(
            "this GGUF file is no LoRA adapter", where=file.path, value=file.text("general.type", "model")
        )
    found = file.text("general.architecture")
    if found != architecture and (architecture, found) != _ALIKE:
        what = f"the adapter is for another architecture than the base, which is {architecture}"
        raise UserError(what, where=file.path, value=found)
    if "adapter.alora.invocation_tokens" in file.fields:
        what = "this adapter acts only behind certain tokens (aLoRA), which is not supported"
        raise UserError(what, where=file.path)
    return float(file.real("adapter.lora.alpha", 0.0))


def _pairs(file: GGUFFile) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name of the base's tensor and both factors as they lie in the file."""
    stems: dict[str, None] = {}
    for name in file.tensors:
        if name.endswith(_SUFFIXES):
            stems[name[: -len(_SUFFIXES[0])]] = None
        elif not name.endswith("_norm.weight"):  # whole norms, which llama.cpp passes over too
            raise UserError("a tensor that is no factor", where=file.path, value=name)
    for stem in stems:
        halves = []
        for suffix in _SUFFIXES:
            if (info := file.tensors.get(stem + suffix)) is None:
                raise UserError("one of two factors is missing", where=file.path, value=stem + suffix)
            if len(info.shape) != 2:
                what = "factors of stacked experts are not supported; a factor has two dimensions"
                raise UserError(what, where=file.path, value=f"{info.name}: {info.shape}")
            halves.append(torch.from_numpy(file.array(info.name)))
        yield stem, halves[0], halves[1]


def _ours(
    name: str, factors: Factors, config: ModelConfig, architecture: str, where: Path
) -> dict[str, Factors]:
    """Factors under our names, in our row order."""
    names = our_names(name, architecture)
    if not names or not matrices(config).keys() >= set(names):
        raise UserError("the adapter changes a tensor that this model does not have", where=where, value=name)
    if names == [_EMBEDDING]:  # rows of a are looked up, so the roles are exchanged
        return {_EMBEDDING: Factors(factors.b.T.contiguous(), factors.a, factors.scale)}
    rows = outputs_of(names, config)
    if sum(rows) != len(factors.b):
        what = f"{name}: {len(factors.b)} rows"
        raise UserError("the adapter was made for another base", where=where, value=what)
    found = [factors] if len(names) == 1 else separated(factors, rows)
    parts = {ours: part for ours, part in zip(names, found, strict=True) if part is not None}
    for ours, part in parts.items():
        if heads := turned_heads(ours, config, architecture):
            parts[ours] = replace(part, b=to_half_split(part.b, heads))
    return parts


def _applicable(adapter: Adapter, config: ModelConfig) -> tuple[dict[str, Factors], list[str]]:
    """Factors that llama.cpp can apply, and notes on the others."""
    kept, notes = dict(adapter.factors), []
    gains = [name for name in adapter.factors if is_gain(name) and kept.pop(name)]
    if gains:
        notes.append(
            f"{len(gains)} norm gains are left out: a GGUF adapter cannot hold them; merge to keep them"
        )
    # llama.cpp finds an adapter by the name of the tensor, so a tied embedding's is multiplied in the output
    # too, with its factors exchanged: the sizes do not fit there and the program ends.
    if config.tie_word_embeddings and kept.pop(_EMBEDDING, None):
        notes.append("the embedding is left out: llama.cpp cannot adapt one that is the output matrix too")
    if not kept:
        raise UserError(
            "a GGUF adapter can hold nothing of this one", value=notes, hint="merge it into the model"
        )
    return kept, notes


def _theirs(factors: Mapping[str, Factors], config: ModelConfig, architecture: str) -> dict[str, Factors]:
    """Factors by GGUF's tensors, in their row order; those of a fused tensor as one."""
    arranged = dict(factors)
    for name, part in factors.items():
        if heads := turned_heads(name, config, architecture):
            arranged[name] = replace(part, b=to_interleaved(part.b, heads))
    if (table := arranged.get(_EMBEDDING)) is not None:
        arranged[_EMBEDDING] = Factors(table.b, table.a.T, table.scale)
    found: dict[str, Factors] = {}
    for name, part in arranged.items():
        if (fused := fused_name(name, architecture)) is None:
            found[gguf_name(name, architecture)] = part
        elif (theirs := fused[0]) not in found:
            found[theirs] = joined([arranged.get(one) for one in fused[1]], outputs_of(fused[1], config))
    return found


def _tensors(stem: str, a: Tensor, b: Tensor) -> Iterator[TensorData]:
    for suffix, factor in zip(_SUFFIXES, (a, b), strict=True):
        values = np.ascontiguousarray(factor.detach().to("cpu", torch.float32).numpy())
        assert math.prod(values.shape)
        yield TensorData(stem + suffix, values.shape, "F32", lambda values=values: values)
