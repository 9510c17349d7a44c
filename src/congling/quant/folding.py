"""Where a scale for each channel can go: linear layers that read one tensor, and what makes that tensor.

::

    norm ÷ s ──▶ query, key, value · s         what reads the tensor is multiplied by s, column by column;
    value ÷ s ─▶ output · s                    what makes it is divided by s. The model computes the same;
    norm ÷ s ──▶ gate, up, router · s          which values are large, and so what rounding costs, changes.
    up ÷ s ────▶ down · s

SmoothQuant (Xiao et al. 2023) and AWQ (Lin et al. 2023) choose the scales. What has no such place is named
with the reason, never left out in silence. The final norm has none: the output layer stays as it is, and in a
tied model it is the embedding too.
"""

# O outputs, I inputs (channels of the tensor that is read), S scales (as many, or fewer where channels share
# one), E experts, F hidden width, H heads, K key/value heads, D head width

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from congling.model.config import ModelConfig


@dataclass(frozen=True)
class Folding:
    """Parameters, by name, around one tensor; a scale may move from those that make it to those that read it.

    Attributes:
        sources: what makes the tensor and is divided: gain and bias of a norm, or rows of a linear layer.
        readers: matrices that may be quantised, their inputs along the last dimension.
        routers: readers that stay in floats and are multiplied all the same.
        shape: of the scales: (S,), or (E, F) for the hidden channels of experts.
        heads: (K, H / K, D) where H / K query heads read each key/value head, so that they share scales.
    """

    sources: tuple[str, ...]
    readers: tuple[str, ...]
    shape: tuple[int, ...]
    routers: tuple[str, ...] = ()
    heads: tuple[int, int, int] | None = None

    @property
    def of_norm(self) -> bool:
        """Whether the scales go into a norm."""
        return self.sources[0].endswith("_norm.weight")

    def columns(self, scales: Tensor) -> Tensor:
        """The scale of every column of the readers: (S,) -> (I,); those of experts stay (E, F)."""
        if self.heads is None:
            return scales
        shared, queries, width = self.heads
        return scales.view(shared, 1, width).expand(shared, queries, width).reshape(-1)

    def shared(self, columns: Tensor, reduce: str = "mean") -> Tensor:
        """A statistic of the readers' columns, for every scale: (I,) -> (S,), a ``mean`` or a ``max``."""
        if self.heads is None:
            return columns
        by_head = columns.view(self.heads)
        return (by_head.amax(1) if reduce == "max" else by_head.mean(1)).flatten()


@dataclass(frozen=True)
class Unfoldable:
    """Matrices that read a tensor into whose making no scale can be folded."""

    readers: tuple[str, ...]
    reason: str


def foldings(config: ModelConfig, layer: int) -> tuple[Folding | Unfoldable, ...]:
    """All tensors that the matrices of a block read, in the order in which they are made."""
    block = f"blocks.{layer}."
    attention = config.attention
    keys = attention.num_key_value_heads
    # A norm of queries and keys stands behind their projections: what is folded before them it does not see.
    projections = tuple(f"{block}attention.{name}.weight" for name in ("query", "key", "value"))
    value = (
        f"{block}attention.value.weight",
        *([f"{block}attention.value.bias"] if attention.attention_bias else []),
    )
    output = Folding(  # rows of attention sum to 1, so that a bias of the values passes through as it is
        value,
        (f"{block}attention.output.weight",),
        (keys * attention.head_dim,),
        heads=(keys, attention.num_attention_heads // keys, attention.head_dim),
    )
    return (_behind_norm(config, f"{block}attention_norm", projections), output, *_mlp(config, layer, block))


@torch.no_grad()
def fold(model: nn.Module, folding: Folding, scales: Tensor) -> None:
    """Divide the sources by scales (S,) and multiply the readers' columns; in place.

    Raises:
        ValueError: a scale is not positive or not finite.
    """
    if not (scales.isfinite() & (scales > 0)).all():
        raise ValueError("scales to fold must be positive and finite")
    for name in folding.sources:
        parameter = model.get_parameter(name)
        by_row = scales.unsqueeze(-1) if parameter.dim() > scales.dim() else scales
        parameter.div_(by_row.to(parameter))
    columns = folding.columns(scales)
    for name in (*folding.readers, *folding.routers):
        parameter = model.get_parameter(name)
        # (I,) multiplies the columns of (O, I) and of each expert; (E, F) those of (E, O, F)
        parameter.mul_((columns.unsqueeze(-2) if columns.dim() > 1 else columns).to(parameter))


def _mlp(config: ModelConfig, layer: int, block: str) -> list[Folding | Unfoldable]:
    """Of what the MLP reads, and of its hidden channels."""
    mlp, norm = config.mlp_of(layer), f"{block}mlp_norm"
    if mlp.kind == "plain":
        reason = "GELU stands between it and what makes its inputs, and does not commute with scales"
        return [
            _behind_norm(config, norm, (f"{block}mlp.up.weight",)),
            Unfoldable((f"{block}mlp.down.weight",), reason),
        ]
    if mlp.kind == "gated":
        names = tuple(f"{block}mlp.{name}.weight" for name in ("gate", "up"))
        return [
            _behind_norm(config, norm, names),
            _hidden(f"{block}mlp.", mlp.intermediate_size, bias=mlp.mlp_bias),
        ]
    readers = [f"{block}mlp.experts.gate", f"{block}mlp.experts.up"]
    hidden = [
        Folding(
            (f"{block}mlp.experts.up",),
            (f"{block}mlp.experts.down",),
            (mlp.num_experts, mlp.moe_intermediate_size),
        )
    ]
    if mlp.n_shared_experts:
        readers += [f"{block}mlp.shared.gate.weight", f"{block}mlp.shared.up.weight"]
        hidden.append(_hidden(f"{block}mlp.shared.", mlp.n_shared_experts * mlp.moe_intermediate_size))
    return [_behind_norm(config, norm, tuple(readers), (f"{block}mlp.router.weight",)), *hidden]


def _hidden(mlp: str, size: int, bias: bool = False) -> Folding:
    """The hidden channels of a gated MLP: what its activation makes of the gate is multiplied by ``up``."""
    return Folding((f"{mlp}up.weight", *([f"{mlp}up.bias"] if bias else [])), (f"{mlp}down.weight",), (size,))


def _behind_norm(
    config: ModelConfig, norm: str, readers: tuple[str, ...], routers: tuple[str, ...] = ()
) -> Folding | Unfoldable:
    if config.norm_placement == "post":
        return Unfoldable(readers, "no norm before it: it reads the residual stream, as the next blocks do")
    sources = (f"{norm}.weight", *([f"{norm}.bias"] if config.norm.kind == "layer" else []))
    return Folding(sources, readers, (config.hidden_size,), routers)
