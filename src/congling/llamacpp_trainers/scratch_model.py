"""The model of ``train-text-from-scratch`` in its files: keys, tensors, their order; and first weights."""

# E width, F feed-forward width, V vocabulary

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.interop import llamacpp_checkpoint as checkpoints
from congling.interop.gguf.config import config_from
from congling.interop.gguf.file import Field, GGUFFile, TensorData
from congling.interop.gguf.names import gguf_name
from congling.interop.llamacpp_checkpoint import Slot
from congling.llamacpp_trainers.options import LONGEST_ROWS, ScratchOptions
from congling.llamacpp_trainers.vocabulary import Vocabulary
from congling.model.checkpoint import expected_shapes
from congling.model.config import ModelConfig, RMSNormConfig, RotaryConfig
from congling.model.families import llama
from congling.model.mlp_config import GatedMLPConfig
from congling.model.positions_words import positions_in_words
from congling.model.rope_scaling import LinearScaling
from congling.model.transformer import Transformer

ARCHITECTURE = "llama"


def new_config(options: ScratchOptions, vocab_size: int) -> ModelConfig:
    """The architecture that the flags describe; numbers as a file holds them, in single precision.

    Raises:
        UserError: the heads do not divide the width into even parts.
    """
    if options.embd % (2 * options.head):
        raise UserError(
            "--head must divide --embd into even parts",
            value=f"{options.embd} / {options.head}",
            hint="heads of 32 or 64 channels are usual",
        )
    scale = _single(options.rope_freq_scale)
    if not scale:
        raise UserError("--rope-freq-scale is above 0", value=options.rope_freq_scale)
    config = llama(
        hidden_size=options.embd,
        intermediate_size=options.ff,
        vocab_size=vocab_size,
        max_position_embeddings=options.ctx,
        num_hidden_layers=options.layer,
        num_attention_heads=options.head,
        tie_word_embeddings=False,
    )
    scaling = None if scale == 1 else LinearScaling(factor=_single(1 / scale))
    positions = RotaryConfig(rope_theta=_single(options.rope_freq_base), rope_scaling=scaling)
    norm = RMSNormConfig(eps=_single(options.norm_rms_eps))
    return config.replace(norm=norm.model_dump(), positions=positions.model_dump())


def stored_config(file: GGUFFile, context: int | None) -> ModelConfig:
    """The architecture in a checkpoint or model, its tensors compared before anything is built.

    ``context`` takes the place of the file's.

    Raises:
        UserError: it is none of this trainer's, or its tensors are not those of such a model.
    """
    config = config_from(file)
    config = config if context is None else config.replace(max_position_embeddings=context)
    if context is None and config.max_position_embeddings > LONGEST_ROWS:
        raise UserError(
            "rows of this length cannot be trained on",
            where=file.path,
            value=config.max_position_embeddings,
            hint="--ctx sets another",
        )
    plain = (
        isinstance(config.mlp, GatedMLPConfig)
        and not config.mlp.mlp_bias
        and not config.attention.attention_bias
        and not config.attention.qk_norm
    )
    if (
        file.text("general.architecture") != ARCHITECTURE
        or not plain
        or config.attention.attention_output_bias
    ):
        raise UserError(
            "only dense llama models without biases can be trained further here",
            where=file.path,
            value=file.text("general.architecture"),
            hint="congling import makes a checkpoint of it",
        )
    scaling = config.positions.rope_scaling if config.positions.kind == "rope" else None
    if scaling is not None and not isinstance(scaling, LinearScaling):
        raise UserError(
            "a checkpoint of this trainer cannot say how this model's positions are stretched",
            where=file.path,
            value=positions_in_words(config.positions),
            hint="congling import makes a checkpoint of it, for congling pretrain --from",
        )
    expected_shapes(config, len(file.tensors), file.path)
    for slot in slots_of(config):
        checkpoints.check_shape(file, slot)
    return config


def loaded(model: Transformer, file: GGUFFile) -> None:
    """Fill the model with a file's weights.

    Raises:
        UserError: one is missing, of another shape or not finite.
    """
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for slot in slots_of(model.config):
            parameters[slot.key].copy_(torch.from_numpy(checkpoints.values_of(file, slot)))


def model_tensors(model: Transformer) -> list[TensorData]:
    """The weights, in the order of the former program's files."""
    slots = {slot.key: slot for slot in slots_of(model.config)}
    weights: Mapping[str, Tensor] = dict(model.named_parameters())

    def written(key: str) -> TensorData:
        slot = slots[key]
        return TensorData(slot.name, slot.shape, "F32", lambda: slot.to_file(_array(weights[key])))

    return [written(key) for key in _file_order(model.config)]


def _array(value: Tensor) -> np.ndarray:
    return value.detach().float().cpu().numpy()


def _single(value: float) -> float:
    return float(np.float32(value))


def slots_of(config: ModelConfig) -> list[Slot]:
    """All tensors, in the order in which they stand in a file."""
    heads, kv_heads = config.attention.num_attention_heads, config.attention.num_key_value_heads
    turned = {"attention.query.weight": heads, "attention.key.weight": kv_heads}
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Transformer(config).named_parameters()}

    def slot(key: str) -> Slot:
        rows = turned.get(key.split(".", 2)[-1])
        return Slot(key, gguf_name(key, ARCHITECTURE), shapes[key], rows)

    return [slot(key) for key in _file_order(config)]


def _file_order(config: ModelConfig) -> list[str]:
    """Keys in the order in which the tensors stand in a file."""
    block = (
        "attention_norm",
        "attention.query",
        "attention.key",
        "attention.value",
        "attention.output",
        "mlp_norm",
        "mlp.gate",
        "mlp.down",
        "mlp.up",
    )
    head = [] if config.tie_word_embeddings else ["head.weight"]
    layers = [f"blocks.{layer}.{name}.weight" for layer in range(config.num_hidden_layers) for name in block]
    return ["embedding.weight", "norm.weight", *head, *layers]


def initialise(model: Transformer, seed: int, *, norms_at_one: bool = False) -> None:
    """Draw every value from a normal distribution cut off at ±1, over √ of the sum of its tensor's sizes.

    Norm gains too, as the former program did, unless ``norms_at_one``.
    """
    generator = torch.Generator().manual_seed(seed & 0xFFFFFFFF)
    with torch.no_grad():
        values = dict(model.named_parameters())
        for key in _file_order(model.config):
            value = values[key]
            drawn = torch.randn(value.shape, generator=generator).clamp_(-1, 1) / math.sqrt(sum(value.shape))
            value.copy_(torch.ones_like(drawn) if norms_at_one and value.ndim == 1 else drawn)


def model_fields(config: ModelConfig, words: Vocabulary) -> dict[str, Field]:
    """The keys of a model for inference, in the former program's order.

    What a plain model gone on from has beyond it (shared key heads, wider heads) is added at the end.
    """
    attention, positions = config.attention, config.positions
    assert isinstance(positions, RotaryConfig)
    scaling = positions.rope_scaling.factor if isinstance(positions.rope_scaling, LinearScaling) else 1.0
    numbers = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": getattr(config.mlp, "intermediate_size", 0),
        "attention.head_count": attention.num_attention_heads,
        "block_count": config.num_hidden_layers,
        "rope.dimension_count": attention.head_dim,
    }
    reals = {
        "attention.layer_norm_rms_epsilon": config.norm.eps,
        "rope.freq_base": positions.rope_theta,
        "rope.scale_linear": scaling,
    }
    more = {}
    if attention.num_key_value_heads != attention.num_attention_heads:
        more["attention.head_count_kv"] = attention.num_key_value_heads
    if attention.num_attention_heads * attention.head_dim != config.hidden_size:
        more |= {"attention.key_length": attention.head_dim, "attention.value_length": attention.head_dim}
    return {
        "general.architecture": Field("string", ARCHITECTURE),
        "general.name": Field("string", ARCHITECTURE),
        "general.file_type": Field("u32", 0),
        **{f"{ARCHITECTURE}.{key}": Field("u32", value) for key, value in numbers.items()},
        **{f"{ARCHITECTURE}.{key}": Field("f32", value) for key, value in reals.items()},
        **words.fields,
        **{f"{ARCHITECTURE}.{key}": Field("u32", value) for key, value in more.items()},
    }
