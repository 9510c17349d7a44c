"""What ``finetune`` trains: low-rank factors of every weight of a base, and their place in checkpoints.

A file's ``lora_a`` is (inputs, r) and drawn at random, ``lora_b`` is (outputs, r) and begins at zero. A
norm's gain counts there as a matrix of one row, here as one of one column, so that the two change places.
"""

# W width, r rank

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from congling.core.errors import UserError
from congling.interop.adapters.fitting import is_gain, matrices
from congling.interop.gguf.arrangement import turned_heads
from congling.interop.gguf.file import Field, GGUFFile, TensorData
from congling.interop.gguf.names import gguf_name
from congling.interop.llamacpp_checkpoint import Slot, tensor, values_of
from congling.llamacpp_trainers.adapter_options import NORM_RANKS, FinetuneOptions
from congling.model.build_positions import build_positions
from congling.model.config import ModelConfig
from congling.model.norm import RMSNorm
from congling.model.positions_words import positions_in_words
from congling.model.rope_scaling import LinearScaling
from congling.model.sliding import build_sliding
from congling.model.transformer import Transformer
from congling.transform import lora
from congling.transform.adapter import Adapter, Factors

RANKS = {  # field of the options: (key in checkpoints, our layer), in the order of the keys
    "tok_embd": ("token_embd", "embedding"),
    "out_norm": ("output_norm", "norm"),
    "out": ("output", "head"),
    "att_norm": ("attn_norm", "attention_norm"),
    "wq": ("attn_q", "attention.query"),
    "wk": ("attn_k", "attention.key"),
    "wv": ("attn_v", "attention.value"),
    "wo": ("attn_output", "attention.output"),
    "ffn_norm": ("ffn_norm", "mlp_norm"),
    "w1": ("ffn_gate", "mlp.gate"),
    "w2": ("ffn_down", "mlp.down"),
    "w3": ("ffn_up", "mlp.up"),
}
_GLOBAL = ("tok_embd", "out_norm", "out")
_SCALE = "congling.lora.scale_in_training"


@dataclass(frozen=True)
class Base:
    """The model adapters are trained on."""

    model: Transformer
    architecture: str

    @property
    def config(self) -> ModelConfig:
        """Of the model, with the overrides of the command line."""
        return self.model.config


def overridden(model: Transformer, options: FinetuneOptions, context: int) -> None:
    """Give the model rows of ``context`` tokens, and the epsilon and rotary settings of the command line.

    Raises:
        UserError: the model cannot take them.
    """
    config = model.config
    positions = config.positions.model_dump()
    if config.positions.kind == "rope":
        scaling = config.positions.rope_scaling
        given = [
            flag
            for flag, value in (
                ("--rope-freq-base", options.rope_freq_base),
                ("--rope-freq-scale", options.rope_freq_scale),
            )
            if value
        ]
        if given and scaling is not None and not isinstance(scaling, LinearScaling):
            raise UserError(
                "the base's positions are stretched in a way that these options would undo",
                value=f"{', '.join(given)}; base: {positions_in_words(config.positions)}",
                hint="leave them out: the base's own positions are used",
            )
        if options.rope_freq_base is not None:
            positions["rope_theta"] = options.rope_freq_base
        if options.rope_freq_scale:
            positions["rope_scaling"] = LinearScaling(factor=1 / options.rope_freq_scale).model_dump()
    elif context > config.max_position_embeddings:
        raise UserError(
            "rows longer than the base's context",
            value=context,
            hint=f"--ctx {config.max_position_embeddings}",
        )
    norm = config.norm.model_dump()
    if options.norm_rms_eps:
        norm["eps"] = options.norm_rms_eps
        for module in model.modules():
            if isinstance(module, RMSNorm):
                module.epsilon = options.norm_rms_eps
    model.config = config.replace(max_position_embeddings=context, positions=positions, norm=norm)
    if config.positions.kind == "rope":
        model.positions, model.sliding = build_positions(model.config), build_sliding(model.config)


def chosen_ranks(options: FinetuneOptions, config: ModelConfig, file: GGUFFile | None) -> dict[str, int]:
    """Rank by field; a checkpoint's must be the same.

    Norm gains that a checkpoint trains go on being trained, whatever the adapter's format.

    Raises:
        UserError: a rank differs from the checkpoint's.
    """
    ranks = {name: options.rank_of(name) for name in RANKS}
    if config.tie_word_embeddings:  # one matrix with two uses: no adapter format can say that
        ranks |= {"tok_embd": 0, "out": 0}
    if file is None:
        return ranks
    for name, (key, _) in RANKS.items():
        stored = file.integer(f"training.lora.rank.{key}")
        if name in NORM_RANKS and name not in options.given:
            ranks[name] = stored
        if ranks[name] != stored:
            raise UserError(
                f"the checkpoint was begun with rank {stored} of {key}",
                where=file.path,
                value=ranks[name],
                hint="give the same --lora-r and --rank-… as then",
            )
    return ranks


def slots_of(base: Base, ranks: Mapping[str, int]) -> list[Slot]:
    """All factors, in the order of the former program's files."""
    found: list[Slot] = []
    for name, parameter in _parameters(base.config):
        if ranks[name]:
            found += _pair(parameter, ranks[name], base)
    return found


def attached(
    base: Base, slots: list[Slot], file: GGUFFile | None, seed: int, scale: float
) -> dict[str, nn.Parameter]:
    """Wrap the base's layers with factors, drawn anew or those of a checkpoint; the parameters by key."""
    generator = torch.Generator().manual_seed(seed & 0xFFFFFFFF)
    values = {
        slot.key: torch.from_numpy(_drawn(slot, generator) if file is None else values_of(file, slot))
        for slot in slots
    }
    names = dict.fromkeys(slot.key[:-2] for slot in slots)
    factors = {name: Factors(values[f"{name}.a"], values[f"{name}.b"], scale) for name in names}
    if not factors:
        raise UserError("all ranks are 0: there is nothing to train", hint="--lora-r sets them")
    lora.add(base.model, lora.TRAINED, Adapter(factors), train=True)
    layers = lora.layers(base.model)
    tables = {name: {"a": layers[name].a, "b": layers[name].b} for name in names}
    return {f"{name}.{side}": tables[name][side][lora.TRAINED] for name in names for side in ("a", "b")}


def checkpoint_fields(base: Base, ranks: Mapping[str, int], *, scale_in_training: bool) -> dict[str, Field]:
    """The keys of the model and its ranks, in the former program's order."""
    config, architecture = base.config, base.architecture
    rope: Any = config.positions if config.positions.kind == "rope" else None
    scaling = getattr(rope, "rope_scaling", None)
    factor = scaling.factor if isinstance(scaling, LinearScaling) else 1.0
    numbers = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": getattr(config.mlp, "intermediate_size", 0),
        "attention.head_count": config.attention.num_attention_heads,
        "attention.head_count_kv": config.attention.num_key_value_heads,
        "block_count": config.num_hidden_layers,
        "rope.dimension_count": config.attention.head_dim,
    }
    reals = {
        "attention.layer_norm_rms_epsilon": config.norm.eps,
        "rope.freq_base": rope.rope_theta if rope is not None else 10_000.0,
        "rope.scale_linear": 1 / factor,
    }
    return {
        "general.architecture": Field("string", architecture),
        "general.file_type": Field("u32", 0),
        **{f"{architecture}.{key}": Field("u32", value) for key, value in numbers.items()},
        **{f"{architecture}.{key}": Field("f32", value) for key, value in reals.items()},
        **{f"training.lora.rank.{key}": Field("u32", ranks[name]) for name, (key, _) in RANKS.items()},
        _SCALE: Field("bool", scale_in_training),
    }


def check_checkpoint(file: GGUFFile, base: Base, *, scale_in_training: bool) -> None:
    """Compare the sizes in a checkpoint with the base's.

    Raises:
        UserError: it was made on another base, or with the other way to scale.
    """
    wanted = checkpoint_fields(base, dict.fromkeys(RANKS, 0), scale_in_training=False)
    prefix = f"{base.architecture}."
    for key in (
        "general.architecture",
        *(key for key in wanted if key.startswith(prefix) and "context" not in key),
    ):
        found = file.value(key, wanted[key].value)
        same = isinstance(found, (str, int)) and found == wanted[key].value
        if wanted[key].type in ("string", "u32") and not same:
            raise UserError(
                f"the checkpoint belongs to another base: {key} is {wanted[key].value} there",
                where=file.path,
                value=found,
            )
    if file.flag(_SCALE, False) != scale_in_training:
        raise UserError("the checkpoint was begun with the other --lora-scale-in-training", where=file.path)


def factor_tensors(slots: list[Slot], parameters: Mapping[str, nn.Parameter]) -> list[TensorData]:
    """The factors as a checkpoint holds them."""
    return [tensor(slot.name, slot.to_file(parameters[slot.key].detach().cpu().numpy())) for slot in slots]


def _parameters(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """Field and parameter of all weights that the model has, in the former program's order."""
    known = matrices(config)
    places = [(name, RANKS[name][1]) for name in _GLOBAL]
    for layer in range(config.num_hidden_layers):
        places += [(name, f"blocks.{layer}.{RANKS[name][1]}") for name in RANKS if name not in _GLOBAL]
    yield from ((name, f"{place}.weight") for name, place in places if f"{place}.weight" in known)


def _pair(parameter: str, rank: int, base: Base) -> tuple[Slot, Slot]:
    outputs, inputs = matrices(base.config)[parameter]
    stem = gguf_name(parameter, base.architecture)
    first, second = f"{stem}.lora_a", f"{stem}.lora_b"
    if is_gain(parameter):
        return (
            Slot(f"{parameter}.b", first, (outputs, rank)),
            Slot(f"{parameter}.a", second, (inputs, rank), transposed=True),
        )
    heads = turned_heads(parameter, base.config, base.architecture)
    return (
        Slot(f"{parameter}.a", first, (inputs, rank), transposed=True),
        Slot(f"{parameter}.b", second, (outputs, rank), heads),
    )


def _drawn(slot: Slot, generator: torch.Generator) -> np.ndarray:
    """First values, as here: normal, cut off at ±1, over √(inputs + r); zero for the second factor."""
    if slot.name.endswith(".lora_b"):
        return slot.from_file(np.zeros(slot.shape, np.float32))
    drawn = torch.randn(slot.shape, generator=generator).clamp_(-1, 1) / math.sqrt(sum(slot.shape))
    return slot.from_file(drawn.numpy())
