"""OneBit (Xu et al. 2024): of a matrix only its signs are kept, and one scale for each row and each column.

::

    paper        y = LN(((x ⊙ h) signᵀ) ⊙ g) + bias      h inputs, g outputs, LN without parameters
    exportable   y = (x signᵀ) ⊙ g + bias                h is in the gain of the norm before, or in the rows
                                                         of the linear before

In training the signs are those of latent weights; stored, they are packed 8 a byte. What they begin as:
``onebit_fit.py``.
"""

# O outputs (rows), I inputs (columns)

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from congling.core.errors import UserError
from congling.quant.frozen import FrozenLinear, stored_parts

LATENT = 0.01
"""Magnitude that latent weights begin with, as in the paper's code: small steps turn a sign."""
LEAK = 1.001
"""The gradient that passes a sign is multiplied by LEAK - tanh²(w): never by nothing."""
EPSILON = 1e-5
"""Of the layer norm, as in the paper's code."""
_TYPES = {"signs": (torch.uint8,), "output_scale": (torch.float16,), "input_scale": (torch.float16,)}
_ROUNDS = 100
_ENOUGH = 1e-12


def svid(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Scales g (O,) and h (I,), none negative, with g hᵀ nearest to |weight| by least squares; float32.

    They are the leading singular pair (by Perron's theorem not negative), found by power iteration in
    float64. The mean square of h is 1; a matrix of zeros has g = 0 and h = 1.
    """
    magnitudes = weight.detach().abs().double()
    columns = magnitudes.new_ones(magnitudes.shape[1])
    for _ in range(_ROUNDS):
        found = magnitudes.T @ (magnitudes @ columns)
        length = found.square().mean().sqrt()
        if length == 0:
            break
        before, columns = columns, found / length
        if (columns - before).abs().max() <= _ENOUGH:
            break
    rows = magnitudes @ columns / columns.square().sum()
    return rows.float(), columns.float()


def pack_signs(weight: Tensor) -> Tensor:
    """Signs of (O, I) as bits: (O, ⌈I/8⌉) uint8, value i of 8 at bit i, 1 where it is below zero."""
    bits = torch.nn.functional.pad((weight < 0).to(torch.uint8), (0, -weight.shape[1] % 8))
    places = torch.arange(8, dtype=torch.uint8, device=weight.device)
    return (bits.unflatten(1, (-1, 8)) << places).sum(2, dtype=torch.uint8)


def unpack_signs(packed: Tensor, inputs: int) -> Tensor:
    """-1 and 1 of packed signs: (O, ⌈I/8⌉) uint8 -> (O, I) float32."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    bits = (packed.unsqueeze(2) >> places) & 1
    return bits.flatten(1)[:, :inputs].float().mul_(-2).add_(1)


class OneBitLinear(FrozenLinear):
    """A linear layer whose matrix is packed signs, with a scale for each row and, in the paper's form, each
    column; it cannot be trained.

    Attributes:
        signs: (O, ⌈I/8⌉) uint8.
        output_scale: (O,) float16, g.
        input_scale: (I,) float16, h; None in the exportable form.
        normalised: whether a layer norm follows, as in the paper's form.
        bias: (O,) float32 or None.
    """

    signs: Tensor
    output_scale: Tensor
    input_scale: Tensor | None

    def __init__(
        self,
        signs: Tensor,
        output_scale: Tensor,
        input_scale: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        inputs: int,
    ) -> None:
        """Raises UserError: the parts do not fit each other, or scales are not finite."""
        _check(signs, output_scale, input_scale, inputs)
        super().__init__(len(signs), inputs, bias)
        self.register_buffer("signs", signs, persistent=False)
        self.register_buffer("output_scale", output_scale, persistent=False)
        self.register_buffer("input_scale", input_scale, persistent=False)
        self.normalised = input_scale is not None

    def values(self, part: slice) -> Tensor:
        """Some rows, before any layer norm: float32."""
        rows = self._signs(part).mul_(self.output_scale[part].float()[:, None])
        return rows if self.input_scale is None else rows.mul_(self.input_scale.float())

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        return _scaled(x, self._signs(slice(None)), self.output_scale, self.input_scale, self.bias)

    def times(self, x: Tensor) -> Tensor:
        """``x @ matrixᵀ + bias``: (N, I) -> (N, O); a layer with a layer norm behind it is no such product.

        Raises:
            UserError: the layer has the paper's form.
        """
        if self.normalised:
            what = "an adapter cannot stand beside a one-bit layer with a layer norm behind it"
            raise UserError(what, hint="layer_norm=false makes layers without one")
        return super().times(x)

    def stored(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What it is and its parts, as a checkpoint holds them."""
        parts = {"signs": self.signs, "output_scale": self.output_scale}
        optional = {"input_scale": self.input_scale, "bias": self.bias}
        return {}, parts | {name: part for name, part in optional.items() if part is not None}

    @classmethod
    def restored(
        cls, facts: Mapping[str, Any], part: Callable[[str], Tensor | None], shape: tuple[int, int]
    ) -> "OneBitLinear":
        """The layer (O, I) again.

        Raises:
            UserError: parts are missing, or do not fit.
        """
        found: dict[str, Any] = {"input_scale": None, "bias": None}
        return cls(**found | stored_parts(part, _TYPES, needed=2), inputs=shape[1])

    def extra_repr(self) -> str:
        """Shape and form, as ``print(model)`` shows them."""
        return f"{self.inputs}, {self.rows}, {'as in the paper' if self.normalised else 'exportable'}"

    def _signs(self, part: slice) -> Tensor:
        return unpack_signs(self.signs[part], self.inputs)


class LatentOneBitLinear(nn.Module):
    """The same layer in training: the signs are those of latent weights, scales are float32.

    Scales act as the float16 values they will be stored as, so that what is stored is what was trained.

    Attributes:
        weight: (O, I), latent.
        output_scale: (O,) g.
        input_scale: (I,) h; None in the exportable form.
        bias: (O,) or None.
    """

    weight: nn.Parameter
    input_scale: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, layer: OneBitLinear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight = nn.Parameter(LATENT * unpack_signs(layer.signs, layer.inputs))
        self.output_scale = nn.Parameter(layer.output_scale.float())
        columns, bias = layer.input_scale, layer.bias
        self.register_parameter("input_scale", None if columns is None else nn.Parameter(columns.float()))
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias.clone()))

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        columns = None if self.input_scale is None else _half(self.input_scale)
        return _scaled(x, _sign(self.weight), _half(self.output_scale), columns, self.bias)

    def packed(self) -> OneBitLinear:
        """The layer as it is stored."""
        columns = None if self.input_scale is None else self.input_scale.detach().half()
        bias = None if self.bias is None else self.bias.detach().clone()
        scales = self.output_scale.detach().half()
        return OneBitLinear(pack_signs(self.weight), scales, columns, bias, inputs=self.in_features)


def _scaled(x: Tensor, signs: Tensor, rows: Tensor, columns: Tensor | None, bias: Tensor | None) -> Tensor:
    """Product and scales; in the paper's form a layer norm without parameters."""
    if columns is not None:
        x = x * columns
    y = linear(x, signs.to(x.dtype)) * rows
    if columns is not None:
        y = layer_norm(y, rows.shape, eps=EPSILON)
    return y if bias is None else y + bias


def _check(signs: Tensor, output_scale: Tensor, input_scale: Tensor | None, inputs: int) -> None:
    columns = output_scale.new_ones(inputs) if input_scale is None else input_scale
    if signs.shape != (len(output_scale), -(-inputs // 8)) or columns.shape != (inputs,):
        what = "signs and scales of a layer do not fit each other"
        raise UserError(
            what, value=f"{tuple(signs.shape)}, {tuple(output_scale.shape)}, {tuple(columns.shape)}"
        )
    if not bool(torch.isfinite(output_scale).all() and torch.isfinite(columns).all()):
        raise UserError("scales of a quantised layer are finite")


class _Sign(torch.autograd.Function):
    """-1 below zero, else 1; the gradient passes multiplied by LEAK - tanh²(w)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return torch.where(weight < 0, -1.0, 1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (weight,) = ctx.saved_tensors
        return gradients[0] * (LEAK - weight.tanh().square())


class _Half(torch.autograd.Function):
    """Rounded to float16; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, scale: Tensor) -> Tensor:
        return scale.half().float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


_sign: Any = _Sign.apply
_half: Any = _Half.apply
