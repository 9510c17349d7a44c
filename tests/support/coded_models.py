"""Small models with layers in few bits, and a reader of their folders that shares no code with ours."""

# O outputs, I inputs, G groups of a row

from typing import Any

import numpy as np
import torch
from torch import nn

from congling.interop.foreign import ForeignModel
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.quant.coded import CodedLinear
from congling.quant.grid import Grid, grid_of
from congling.quant.int8 import Int8Linear, int8_rows
from congling.tokenizer.base import Tokenizer

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def coded_model(
    bits: int = 4,
    group_size: int = 32,
    sym: bool = True,
    *,
    int8: float | None = None,
    family: str = "llama",
    tokenizer: Tokenizer | None = None,
    **sizes: Any,
) -> ForeignModel:
    """Two layers of width 64 rounded to nearest; with ``int8`` rows of 8 bits with this threshold."""
    vocab = 160 if tokenizer is None else tokenizer.vocab_size
    shape: dict[str, Any] = {"max_position_embeddings": 256, "num_hidden_layers": 2, "hidden_size": 64}
    config = FAMILIES[family](vocab_size=vocab, **shape | sizes)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Transformer(config).eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, parameter.shape[1] ** -0.5)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1)
    layers: dict[str, Any] = {}
    for name, linear in model.named_modules():
        if not isinstance(linear, nn.Linear) or not name.startswith("blocks."):
            continue
        if int8 is None:
            grid = holdable(linear.weight, grid_of(linear.weight, bits, group_size, sym))
            layers[name] = CodedLinear(grid.code(linear.weight), grid, linear.bias)
        else:
            codes, scales = int8_rows(linear.weight)
            layers[name] = Int8Linear(codes, scales, linear.bias, threshold=int8, whole_batch=int8 > 0)
    weights = dict(model.state_dict()) | {f"{name}.weight": layer.dense() for name, layer in layers.items()}
    return ForeignModel(config, weights, tokenizer, {}, layers)


def holdable(weight: torch.Tensor, grid: Grid) -> Grid:
    """The grid without zeros of 0, which the first version of GPTQ has not."""
    if grid.zeros is None:
        return grid
    return Grid(grid.scales, grid.zeros.clamp(min=1), grid.bits, grid.group_size)


def bits_of(words: Any, first: int, bits: int) -> int:
    """``bits`` bits from bit ``first`` on of 32-bit words, one by one."""
    return sum((int(words[k // 32]) >> k % 32 & 1) << k - first for k in range(first, first + bits))


def witness(parts: dict[str, np.ndarray], method: str, bits: int) -> np.ndarray:
    """The matrix (O, I) of a layer of GPTQ (first version), AWQ or pack-quantized, value by value."""
    if method == "pack-quantized":
        outputs, inputs = parts["weight_shape"]
        scales, zeros = parts["weight_scale"].astype(np.float32), None
        code = lambda o, i: bits_of(parts["weight_packed"][o], i * bits, bits)  # noqa: E731
    elif method == "gptq":
        inputs, outputs = len(parts["g_idx"]), parts["qweight"].shape[1]
        scales = parts["scales"].T.astype(np.float32)
        code = lambda o, i: bits_of(parts["qweight"][:, o], i * bits, bits)  # noqa: E731
        zeros = lambda o, g: bits_of(parts["qzeros"][g], o * bits, bits) + 1  # noqa: E731
    else:
        inputs, outputs = parts["qweight"].shape[0], parts["qweight"].shape[1] * 8
        scales = parts["scales"].T.astype(np.float32)
        place = lambda o: o // 8 * 8 + AWQ_ORDER.index(o % 8)  # noqa: E731
        code = lambda o, i: bits_of(parts["qweight"][i], place(o) * 4, 4)  # noqa: E731
        zeros = lambda o, g: bits_of(parts["qzeros"][g], place(o) * 4, 4)  # noqa: E731
    matrix = np.empty((outputs, inputs), np.float32)
    size = inputs // scales.shape[1]
    for o in range(outputs):
        for i in range(inputs):
            zero = 2 ** (bits - 1) if zeros is None else zeros(o, i // size)
            matrix[o, i] = np.float32(code(o, i) - zero) * scales[o, i // size]
    return matrix
