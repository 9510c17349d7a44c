"""Where a scale for each channel can go: linear layers that read one tensor, and what makes that tensor.

::

    norm ÷ s ──▶ query, key, value · s         what reads the tensor is multiplied by s, column by column;
    value ÷ s ─▶ output · s                    what makes it is divided by s. The model computes the same;
    norm ÷ s ──▶ gate, up, router · s          which values are large, and so what rounding costs, changes.
    up ÷ s ────▶ down · s

SmoothQuant (Xiao et al. 2023) and AWQ (Lin et al. 2023) choose the scales. What has no such place is named
with the reason, never left out in silence. The final norm has none: the output layer stays as it is, and in a
tied model it is the embedding too. Experts are linear layers of their own here (``experts.py``).
"""

# O outputs, I inputs (channels of the tensor that is read), S scales (as many, or fewer where channels share
# one), H heads, K key/value heads, D head width

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from congling.model.config import ModelConfig


@dataclass(frozen=True)
class Folding:
    """Layers around one tensor, by place; a scale may move from the one that makes it to those that read it.

    Attributes:
        source: what makes the tensor and is divided: a norm, or the rows of a linear layer.
        readers: linear layers that may be quantised.
        size: number of scales.
        routers: readers that stay in floats and are multiplied all the same.
        heads: (K, H / K, D) where H / K query heads read each key/value head, so that they share scales.
    """

    source: str
    readers: tuple[str, ...]
    size: int
    routers: tuple[str, ...] = ()
    heads: tuple[int, int, int] | None = None

    @property
    def of_norm(self) -> bool:
        """Whether the scales go into a norm."""
        return self.source.endswith("_norm")

    def columns(self, scales: Tensor) -> Tensor:
        """The scale of every column of the readers: (S,) -> (I,)."""
        if self.heads is None:
            return scales
        shared, queries, width = self.heads
        return scales.view(shared, 1, width).expand(shared, queries, width).reshape(-1)

    def shared(self, columns: Tensor) -> Tensor:
        """The mean of a statistic over the columns that share a scale: (I,) -> (S,)."""
        return columns if self.heads is None else columns.view(self.heads).mean(1).flatten()


@dataclass(frozen=True)
class Unfoldable:
    """Linear layers that read a tensor into whose making no scale can be folded."""

    readers: tuple[str, ...]
    reason: str


def foldings(config: ModelConfig, layer: int) -> tuple[Folding | Unfoldable, ...]:
    """All tensors that the linear layers of a block read, in the order in which they are made."""
    block = f"blocks.{layer}."
    heads, keys = config.attention.num_attention_heads, config.attention.num_key_value_heads
    # A norm of queries and keys stands behind their projections: what is folded before them it does not see.
    # Rows of attention sum to 1, so that a bias of the values passes through as it is.
    projections = tuple(f"{block}attention.{name}" for name in ("query", "key", "value"))
    width = config.attention.head_dim
    output = Folding(
        projections[2], (f"{block}attention.output",), keys * width, heads=(keys, heads // keys, width)
    )
    return (_behind_norm(config, f"{block}attention_norm", projections), output, *_mlp(config, layer, block))


@torch.no_grad()
def fold(model: nn.Module, folding: Folding, scales: Tensor) -> None:
    """Divide the source by scales (S,) and multiply the readers' columns; in place.

    Raises:
        ValueError: a scale is not positive or not finite.
    """
    if not (scales.isfinite() & (scales > 0)).all():
        raise ValueError("scales to fold must be positive and finite")
    source: Any = model.get_submodule(folding.source)
    scales = scales.to(source.weight)
    source.weight.div_(scales if source.weight.dim() == 1 else scales[:, None])
    if getattr(source, "bias", None) is not None:
        source.bias.div_(scales)
    for place in (*folding.readers, *folding.routers):
        reader: Any = model.get_submodule(place)
        reader.weight.mul_(folding.columns(scales))


def _mlp(config: ModelConfig, layer: int, block: str) -> list[Folding | Unfoldable]:
    """Of what the MLP reads, and of its hidden channels."""
    mlp, norm, place = config.mlp_of(layer), f"{block}mlp_norm", f"{block}mlp."
    if mlp.kind == "plain":
        reason = "GELU stands between it and what makes its inputs, and does not commute with scales"
        return [_behind_norm(config, norm, (f"{place}up",)), Unfoldable((f"{place}down",), reason)]
    if mlp.kind == "gated":
        readers = (f"{place}gate", f"{place}up")
        return [_behind_norm(config, norm, readers), _hidden(place, mlp.intermediate_size)]
    experts = range(mlp.num_experts)
    readers = [f"{place}experts.{name}.{expert}" for name in ("gate", "up") for expert in experts]
    hidden = [_hidden(f"{place}experts.", mlp.moe_intermediate_size, f".{expert}") for expert in experts]
    if mlp.n_shared_experts:
        readers += [f"{place}shared.gate", f"{place}shared.up"]
        hidden.append(_hidden(f"{place}shared.", mlp.n_shared_experts * mlp.moe_intermediate_size))
    return [_behind_norm(config, norm, tuple(readers), (f"{place}router",)), *hidden]


def _hidden(mlp: str, size: int, expert: str = "") -> Folding:
    """The hidden channels of a gated MLP: what its activation makes of the gate is multiplied by ``up``."""
    return Folding(f"{mlp}up{expert}", (f"{mlp}down{expert}",), size)


def _behind_norm(
    config: ModelConfig, norm: str, readers: tuple[str, ...], routers: tuple[str, ...] = ()
) -> Folding | Unfoldable:
    if config.norm_placement == "post":
        return Unfoldable(readers, "no norm before it: it reads the residual stream, as the next blocks do")
    return Folding(norm, readers, config.hidden_size, routers)
