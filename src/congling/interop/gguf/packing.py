"""A dense model packed in memory, as a GGUF file of some type would hold it: the base of QLoRA.

::

    query.weight (O, I) float32 ── encoded ──▶ PackedLinear, Q4_K       norms, biases, positions stay float32

Each matrix gets the type that ``interop.gguf.model.write`` gives it, so that an adapter trained here fits the
file, and the other way round. Rows are encoded one by one: their order makes no difference.
"""

# O outputs, I inputs

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from congling.core.errors import UserError
from congling.interop.gguf.names import FUSED, gguf_name
from congling.interop.gguf.sources import WITH_OUTPUT
from congling.interop.gguf_architecture import gguf_architecture
from congling.model.config import ModelConfig
from congling.model.lazy import LazyTensors
from congling.model.transformer import Transformer
from congling.quant import ggml
from congling.quant.mixtures import Mixture, named
from congling.quant.packed import PackedEmbedding, PackedLinear


def pack(model: Transformer, type: str) -> Transformer:
    """Put packed layers in place of the model's matrices, which are freed one by one; it is frozen then.

    Args:
        model: dense, without adapters.
        type: ``Q8_0``, ``Q4_K_M`` … as for ``convert --type``.

    Raises:
        UserError: no such type, a model that GGUF cannot hold, a mixture of experts, or weights that are not
            finite.
    """
    types = types_of(model.config, type)
    for place, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            bias = None if module.bias is None else module.bias.detach().clone()
            packed = PackedLinear(*_blocks(module.weight, f"{place}.weight", types), bias)
            model.set_submodule(place, packed)
    device = model.embedding.weight.device
    model.embedding = PackedEmbedding(*_blocks(model.embedding.weight, "embedding.weight", types))  # type: ignore[assignment]
    return model.requires_grad_(False).to(device)


def rounded(weights: Mapping[str, Tensor], config: ModelConfig, type: str) -> Mapping[str, Tensor]:
    """Weights as they come out of a GGUF file of this type, each made when it is asked for.

    Raises:
        UserError: as ``pack``.
    """
    types = types_of(config, type)

    def make(name: str) -> Tensor:
        if name not in types:
            return weights[name]
        raw, kind = _blocks(weights[name], name, types)
        return torch.from_numpy(ggml.decode(raw.numpy(), kind))

    return LazyTensors(weights, make)


def types_of(config: ModelConfig, type: str) -> dict[str, str]:
    """The type of blocks of every matrix, by our names.

    Raises:
        UserError: no such type, a model that GGUF cannot hold, or a mixture of experts.
    """
    name = named(type)
    if config.mlp.kind == "moe":
        what, hint = "a mixture of experts cannot be packed in memory", "leave adapter.base_quantization out"
        raise UserError(what, value=type, hint=hint)
    architecture = gguf_architecture(config)
    tied = config.tie_word_embeddings and architecture not in WITH_OUTPUT
    mixture = Mixture.of(config, name, tied=tied)
    with torch.device("meta"):
        linear = {
            f"{place}.weight": tuple(module.weight.shape)
            for place, module in Transformer(config).named_modules()
            if isinstance(module, nn.Linear)
        }
    linear["embedding.weight"] = (config.vocab_size, config.hidden_size)
    return {ours: mixture.type_of(_theirs(ours, architecture), shape) for ours, shape in linear.items()}


def _theirs(name: str, architecture: str) -> str:
    """GGUF's name; queries, keys and values of GPT-2 are one matrix there."""
    theirs = gguf_name(name, architecture)
    one, _, last = theirs.rpartition(".")
    fused = architecture == "gpt2" and one.endswith(("attn_q", "attn_k", "attn_v"))
    return f"{one.rpartition('.')[0]}.{FUSED}.{last}" if fused else theirs


def _blocks(weight: Tensor, name: str, types: Mapping[str, str]) -> tuple[Tensor, str]:
    values = weight.detach().to("cpu", torch.float32).numpy()
    try:
        return torch.from_numpy(ggml.encode(values, types[name])), types[name]
    except UserError as error:
        raise UserError(error.what, where=name, value=error.value, hint=error.hint) from None
