"""One layer with adapters around it: what a linear layer, an embedding and a norm do with low-rank factors.

Adapters of one layer are kept by name; those that act are concatenated, so that a layer with three adapters
costs one narrow product more, not three.
"""

# N rows (batch times time), I inputs, O outputs, r rank, V vocabulary, W width

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import dropout, embedding, linear

from congling.quant.frozen import FrozenLinear, FrozenMatrix
from congling.quant.packed import PackedEmbedding
from congling.transform.adapter import Factors
from congling.transform.dora import Part, decomposed, square_lengths


class AdaptedLayer(nn.Module):
    """A frozen base layer and the adapters on it.

    Attributes:
        base: the layer as it was, dense or packed.
        strengths: of every adapter, by name.
        scales: of every adapter's product ``b @ a``, by name.
        dropout: share of inputs that factors do not see in training.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.a, self.b, self.magnitude = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        self.strengths: dict[str, float] = {}
        self.scales: dict[str, float] = {}
        self.dropout = 0.0

    @staticmethod
    def shape_of(base: Any) -> tuple[int, int]:
        """(O, I) of the matrix that factors of this base layer multiply to."""
        raise NotImplementedError

    @property
    def matrix(self) -> tuple[int, int]:
        """(O, I) of the adapted matrix."""
        return self.shape_of(self.base)

    def add(self, name: str, factors: Factors, *, train: bool, whole: bool = False) -> None:
        """Add an adapter at strength 1, on the device of the base; ``train``: its factors are parameters.

        ``whole``: all but ``a``, which then is the identity.
        """
        device = next((t.device for t in (*self.base.parameters(), *self.base.buffers())), None)
        for part, value in factors.tensors().items():
            own = value.detach().to(device=device, dtype=torch.float32, copy=True)
            learnt = train and not (whole and part == "a")
            getattr(self, part)[name] = nn.Parameter(own, requires_grad=learnt)
        self.strengths[name], self.scales[name] = 1.0, factors.scale

    def factors(self, name: str) -> Factors:
        """The adapter of this name as values on the CPU."""
        tables = {"a": self.a, "b": self.b, "magnitude": self.magnitude}
        own = {
            part: table[name].detach().float().cpu().clone()
            for part, table in tables.items()
            if name in table
        }
        return Factors(scale=self.scales[name], **own)

    def acting(self) -> tuple[Tensor, Tensor, float] | None:
        """Factors a (r, I) and b (O, r) of all adapters whose strength is not 0, and the scale of b @ a."""
        names = [name for name, strength in self.strengths.items() if strength != 0]
        if not names:
            return None
        scales = [self.strengths[name] * self.scales[name] for name in names]
        if len(names) == 1:
            return self.a[names[0]], self.b[names[0]], scales[0]
        scaled = [self.b[name] * scale for name, scale in zip(names, scales, strict=True)]
        return torch.cat([self.a[name] for name in names]), torch.cat(scaled, dim=1), 1.0


class AdaptedLinear(AdaptedLayer):
    """``base(x) + scale · (x @ aᵀ) @ bᵀ``; adapters with a magnitude also change the length of rows."""

    base: nn.Linear | FrozenLinear
    square_lengths: Tensor | None
    """(O,) ‖W‖² of the base's rows, as soon as an adapter has a magnitude."""

    def __init__(self, base: nn.Linear | FrozenLinear) -> None:
        super().__init__(base)
        self.register_buffer("square_lengths", None, persistent=False)

    @staticmethod
    def shape_of(base: nn.Linear | FrozenLinear) -> tuple[int, int]:
        """(O, I)."""
        return base.out_features, base.in_features

    def add(self, name: str, factors: Factors, *, train: bool, whole: bool = False) -> None:
        """Add an adapter, with or without a magnitude."""
        super().add(name, factors, train=train, whole=whole)
        if factors.magnitude is not None:
            self.lengths()

    def lengths(self) -> Tensor:
        """(O,) of the base's rows: what a magnitude begins at."""
        if self.square_lengths is None:
            self.square_lengths = square_lengths(self.base)
        return self.square_lengths.sqrt()

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        names = [name for name, strength in self.strengths.items() if strength != 0]
        if self.square_lengths is None or not any(name in self.magnitude for name in names):
            return adapted(self, self.base, x)
        parts = [
            Part(
                self.a[name], self.b[name], self.magnitude.get(name), self.scales[name], self.strengths[name]
            )
            for name in names
        ]
        seen = dropout(x, self.dropout) if self.training and self.dropout else x
        return decomposed(self.base, self.square_lengths, x, seen, parts)


class AdaptedEmbedding(AdaptedLayer):
    """``base(tokens) + scale · b[tokens] @ a``; also scores, where the model ties its output to it."""

    base: nn.Embedding | PackedEmbedding

    @staticmethod
    def shape_of(base: nn.Embedding | PackedEmbedding) -> tuple[int, int]:
        """(V, W)."""
        return base.num_embeddings, base.embedding_dim

    def forward(self, tokens: Tensor) -> Tensor:
        """(...) ids -> (..., W)."""
        found, y = self.acting(), self.base(tokens)
        if found is None:
            return y
        a, b, scale = found
        return y + (embedding(tokens, b) @ a) * scale

    def logits(self, hidden: Tensor) -> Tensor:
        """Product with every row, adapters included: (..., W) -> (..., V)."""
        return adapted(self, self.base, hidden)


class AdaptedNorm(AdaptedLayer):
    """A norm whose gain is ``weight + scale · b @ a``, with a (r, 1) and b (W, r)."""

    base: Any

    @staticmethod
    def shape_of(base: Any) -> tuple[int, int]:
        """(W, 1)."""
        return base.weight.shape[0], 1

    @property
    def weight(self) -> Tensor:
        """(W,) gain in effect."""
        found, gain = self.acting(), self.base.weight
        return gain if found is None else gain + (found[1] @ found[0]).squeeze(1) * found[2]

    def forward(self, x: Tensor) -> Tensor:
        """(..., W) -> (..., W)."""
        return functional_call(self.base, {"weight": self.weight}, (x,))


def adapted(layer: AdaptedLayer, base: Any, x: Tensor) -> Tensor:
    """Product of x (..., I) with the base matrix plus that with the factors that act: (..., O)."""
    found = layer.acting()
    if found is None:
        return base.logits(x) if hasattr(base, "logits") else base(x)
    a, b, scale = found
    kind = x.device.type
    compute = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    x = x.to(compute)
    seen = dropout(x, layer.dropout) if layer.training and layer.dropout else None
    product = base if isinstance(base, FrozenMatrix) else _Dense(base)
    return _uncompiled(x, seen, a.to(compute), b.to(compute), scale, product)


class _Dense:
    """The products of a dense layer, under the names a packed layer gives them."""

    def __init__(self, layer: nn.Linear | nn.Embedding) -> None:
        self.weight, self.bias = layer.weight, getattr(layer, "bias", None)

    def times(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return linear(x, self.weight.to(x.dtype), bias)

    def back(self, gradient: Tensor) -> Tensor:
        return gradient @ self.weight.to(gradient.dtype)


class _Adapted(torch.autograd.Function):
    """Base product and low-rank product in one: nothing as large as the output is made twice.

    ``x`` is kept for the gradient of ``a`` alone; the frozen base needs nothing but its own weight.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, seen: Tensor | None, a: Tensor, b: Tensor, scale: float, base: Any
    ) -> Tensor:
        ctx.shape, ctx.scale, ctx.base = x.shape, scale, base
        rows = x.reshape(-1, x.shape[-1])
        narrow = rows if seen is None else seen.view(rows.shape)
        with torch.autocast(x.device.type, enabled=False):
            y, h = base.times(rows), narrow @ a.T
            y.addmm_(h, b.T, alpha=scale)
        ctx.save_for_backward(narrow, h, a, b)
        return y if x.dim() == 2 else y.view(*x.shape[:-1], -1)  # a view must not be changed in place later

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        narrow, h, a, b = ctx.saved_tensors
        for_x, for_seen, for_a, for_b = (None,) * 4
        gradient = gradients[0].reshape(-1, b.shape[0])
        with torch.autocast(narrow.device.type, enabled=False):
            slope = (gradient @ b).mul_(ctx.scale)  # (N, r)
            if ctx.needs_input_grad[2]:
                for_a = slope.T @ narrow
            if ctx.needs_input_grad[3]:
                # hᵀ @ gradient, transposed: twice as fast as the product the other way round.
                for_b = (h.T @ gradient).mul_(ctx.scale).T.contiguous()
            if ctx.needs_input_grad[0]:
                for_x = ctx.base.back(gradient)
                if ctx.needs_input_grad[1]:  # dropout: the factors saw something else
                    for_seen = (slope @ a).view(ctx.shape)
                else:
                    for_x.addmm_(slope, a)
                for_x = for_x.view(ctx.shape)
        return for_x, for_seen, for_a, for_b, None, None


_uncompiled: Any = torch.compiler.disable(_Adapted.apply)
