"""A GGUF file as a model whose matrices stay as they lie in the file: for adapters on a quantised base.

::

    token_embd, attn_q … ffn_down, output    packed layers on the memory map, nothing copied
    norms, biases, position vectors          float32
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from congling.core.errors import UserError
from congling.interop.gguf.architectures import architecture_of
from congling.interop.gguf.arrangement import to_half_split
from congling.interop.gguf.config import config_from
from congling.interop.gguf.file import GGUFFile
from congling.interop.gguf.weights import GGUFWeights, pieces
from congling.model.build_positions import build_positions
from congling.model.config import ModelConfig
from congling.model.sliding import build_sliding
from congling.model.transformer import Transformer
from congling.quant.packed import PackedEmbedding, PackedLinear


def load_packed(path: Path | str | GGUFFile, *, context: int | None = None) -> Transformer:
    """Build the model of a GGUF file around its packed matrices (in evaluation mode, on the CPU, frozen).

    Args:
        path: the file, or the file already opened.
        context: longest text to be read, where the model's own would only fill memory with position vectors.

    Raises:
        UserError: no such file, a damaged one, a mixture of experts or another architecture that cannot be
            read this way, tensors that are missing, unknown or of another shape, a type of blocks that cannot
            be decoded.
    """
    file = path if isinstance(path, GGUFFile) else GGUFFile.open(path)
    config = config_from(file)
    if config.mlp.kind == "moe":
        hint = "import it as a checkpoint first: congling import"
        raise UserError("a mixture of experts cannot stay packed", where=file.path, hint=hint)
    weights = GGUFWeights(file, pieces(file, config, architecture_of(file)))
    return _built(
        weights, config, min(context or config.max_position_embeddings, config.max_position_embeddings)
    )


def _built(weights: GGUFWeights, config: ModelConfig, context: int) -> Transformer:
    with torch.device("meta"):
        model = Transformer(config.replace(max_position_embeddings=context))
    model.positions = build_positions(model.config)  # what it holds besides parameters is computed, not read
    model.sliding = build_sliding(model.config)
    for place, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            bias = weights[f"{place}.bias"] if module.bias is not None else None
            piece = weights.places[f"{place}.weight"]
            raw, kind = _blocks(weights, f"{place}.weight")
            order = None if piece.heads is None else to_half_split(np.arange(len(raw)), piece.heads)
            _put(model, place, PackedLinear(raw, kind, bias, order=order))
    _put(model, "embedding", PackedEmbedding(*_blocks(weights, "embedding.weight")))
    for name, parameter in list(model.named_parameters()):
        _put(model, name, nn.Parameter(weights[name][: len(parameter)]))  # fewer positions if so wished
    return model.requires_grad_(False).eval()


def _blocks(weights: GGUFWeights, name: str) -> tuple[np.ndarray, str]:
    """The packed rows of one matrix as they lie in the file, and the type of their blocks."""
    piece = weights.places[name]
    raw = weights.file.raw(piece.tensor)
    return raw if piece.rows is None else raw[piece.rows], weights.file.info(piece.tensor).type


def _put(model: nn.Module, place: str, value: nn.Module | nn.Parameter) -> None:
    parent, _, name = place.rpartition(".")
    setattr(model.get_submodule(parent), name, value)
