"""How much each part of a model matters: by the size of its weights, or by what it does to some text.

Magnitude needs no text: a part counts by the product of the norms of what leads into it and out of it, so
that it is 0 where either is. Activation (Minitron, Muralidharan et al. 2024) reads text and measures, root
mean square over positions, what a part adds to the residual stream; a block counts by its influence, one less
the cosine of its input and output (ShortGPT, Men et al. 2024), a channel of the residual stream by what norms
make of it."""

# N positions, L layers, W width, F hidden width, H heads, D head width, K key/value heads, E experts

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, linear, silu

from congling.model.mlp_config import MoEConfig
from congling.model.moe import Experts, MixtureOfExperts, Routing
from congling.model.transformer import Block, Transformer

Row = tuple[Tensor, Tensor | None, Tensor | None]
"""Ids, positions and documents (B, T) of some rows, as the model takes them."""


@dataclass(frozen=True)
class Scores:
    """Higher is more needed; scores compare within one tensor only."""

    layers: Tensor
    """(L,)."""
    width: Tensor
    """(W,)."""
    groups: list[Tensor]
    """(K,) of each layer."""
    hidden: list[Tensor]
    """(F,) of each layer; (E, F) of a mixture."""
    experts: dict[int, Tensor] = field(default_factory=dict)
    """(E,) of each mixture."""
    shared: dict[int, Tensor] = field(default_factory=dict)
    """Hidden channels of the shared experts of each mixture."""


@torch.no_grad()
def magnitude(model: Transformer) -> Scores:
    """Scores from the weights alone."""
    blocks: list[Any] = list(model.blocks)
    found = Scores(torch.stack([_written(block) for block in blocks]), _stream(model), [], [])
    for layer, block in enumerate(blocks):
        values = block.attention.value.weight.square().sum(1)  # (K·D,)
        sizes = model.config.attention
        read = (
            block.attention.output.weight.square().sum(0).view(sizes.num_key_value_heads, -1, sizes.head_dim)
        )
        found.groups.append(_by_group(model, values * read.sum(1).flatten()))
        mlp = block.mlp
        if not isinstance(mlp, MixtureOfExperts):
            found.hidden.append(_channels(mlp))
            continue
        experts = mlp.experts
        norms = experts.gate.norm(dim=2) * experts.up.norm(dim=2) * experts.down.norm(dim=1)  # (E, F)
        found.hidden.append(norms)
        found.experts[layer] = norms.sum(1)
        if _shares(model, layer):
            found.shared[layer] = _channels(mlp.shared)
    return found


@torch.no_grad()
def activation(model: Transformer, rows: Iterable[Tensor | Row]) -> Scores:
    """Scores from what happens when the model reads some text.

    Args:
        model: in evaluation mode.
        rows: ids (B, T), batch by batch; or with their positions and documents.
    """
    blocks: list[Any] = list(model.blocks)
    sums, read = _Sums(), 0
    with contextlib.ExitStack() as watched:
        for hook in _watch(model, sums):
            watched.callback(hook.remove)
        for row in rows:
            tokens, positions, documents = (row, None, None) if isinstance(row, Tensor) else row
            model(tokens, positions=positions, documents=documents)
            read += tokens.numel()
    norms = [total for name, total in sums.items() if name.startswith("norm")]
    stream = torch.stack([(total / read).sqrt() for total in norms]).sum(0)
    found = Scores(torch.stack([sums[f"layer {i}"] for i in range(len(blocks))]) / read, stream, [], [])
    for layer, block in enumerate(blocks):
        added = sums[f"heads {layer}"] / read * block.attention.output.weight.square().sum(0)
        found.groups.append(_by_group(model, added))
        mlp = block.mlp
        if not isinstance(mlp, MixtureOfExperts):
            found.hidden.append(_added(sums[f"hidden {layer}"] / read, mlp.down.weight))
            continue
        by_channel = sums[f"hidden {layer}"] / read * mlp.experts.down.square().sum(1)  # (E, F)
        found.hidden.append(by_channel.sqrt())
        found.experts[layer] = by_channel.sum(1).sqrt()
        if _shares(model, layer):
            shared: Any = mlp.shared
            found.shared[layer] = _added(sums[f"shared {layer}"] / read, shared.down.weight)
    return found


class _Sums(dict[str, Tensor]):
    """Sums over positions, by what they are of, in double precision."""

    def add(self, name: str, values: Tensor) -> None:
        """Add values, whose first dimension is summed over."""
        self[name] = self.get(name, 0.0) + values.double().sum(0)

    def squares(self, name: str, values: Tensor) -> None:
        """Add the squares of (..., n): (n,)."""
        self.add(name, values.flatten(0, -2).square())


def _watch(model: Transformer, sums: _Sums) -> Iterator[Any]:
    """Hooks on every part that is scored."""

    def outputs(name: str) -> Callable[..., None]:
        return lambda module, arguments, output: sums.squares(name, output)

    def inputs(name: str) -> Callable[..., None]:
        return lambda module, arguments: sums.squares(name, arguments[0])

    def influence(name: str) -> Callable[..., None]:
        def measure(module: Block, arguments: Any, output: Tensor) -> None:
            sums.add(name, (1 - cosine_similarity(arguments[0], output, dim=-1)).flatten())

        return measure

    yield model.norm.register_forward_hook(outputs("norm last"))
    for i, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        yield block.register_forward_hook(influence(f"layer {i}"))
        yield block.attention_norm.register_forward_hook(outputs(f"norm attention {i}"))
        yield block.mlp_norm.register_forward_hook(outputs(f"norm mlp {i}"))
        yield block.attention.output.register_forward_pre_hook(inputs(f"heads {i}"))
        mlp: Any = block.mlp
        if not isinstance(mlp, MixtureOfExperts):
            yield mlp.down.register_forward_pre_hook(inputs(f"hidden {i}"))
            continue
        yield mlp.experts.register_forward_pre_hook(_expert_channels(f"hidden {i}", sums))
        if _shares(model, i):
            shared: Any = mlp.shared
            yield shared.down.register_forward_pre_hook(inputs(f"shared {i}"))


def _expert_channels(name: str, sums: _Sums) -> Callable[..., None]:
    """Squares of each expert's hidden channels, weighted by its share in each token: (E, F)."""

    def measure(module: Experts, arguments: tuple[Tensor, Routing]) -> None:
        x, routing = arguments
        found = torch.zeros(module.gate.shape[:2], dtype=torch.float64, device=x.device)
        for expert in range(len(found)):
            rows, place = (routing.choice == expert).nonzero(as_tuple=True)
            channels = silu(linear(x[rows], module.gate[expert])) * linear(x[rows], module.up[expert])
            found[expert] = (channels * routing.share[rows, place, None]).double().square().sum(0)
        sums.add(name, found[None])

    return measure


def _shares(model: Transformer, layer: int) -> bool:
    mlp = model.config.mlp_of(layer)
    return isinstance(mlp, MoEConfig) and mlp.n_shared_experts > 0


def _added(squares: Tensor, down: Tensor) -> Tensor:
    """What channels of mean squares (F,) add to the residual stream by their columns of ``down`` (W, F)."""
    return (squares * down.square().sum(0)).sqrt()


def _by_group(model: Transformer, squares: Tensor) -> Tensor:
    """Root of the sums over each group of heads that shares keys and values: (n,) to (K,)."""
    return squares.view(model.config.attention.num_key_value_heads, -1).sum(1).sqrt()


def _channels(mlp: Any) -> Tensor:
    """Magnitude of the hidden channels (F,) of a gated or plain MLP."""

    def into(layer: nn.Linear) -> Tensor:
        return layer.weight.norm(dim=1) + (0 if layer.bias is None else layer.bias.abs())

    gate = into(mlp.gate) if hasattr(mlp, "gate") else 1.0
    return into(mlp.up) * gate * mlp.down.weight.norm(dim=0)


_WRITERS = (
    "attention.output.weight",
    "mlp.down.weight",
    "mlp.experts.down",
    "mlp.shared.down.weight",
)
_READERS = (
    "attention.query.weight", "attention.key.weight", "attention.value.weight", "mlp.gate.weight",
    "mlp.up.weight", "mlp.router.weight", "mlp.experts.gate", "mlp.experts.up", "mlp.shared.gate.weight",
    "mlp.shared.up.weight",
)  # fmt: skip


def _written(block: nn.Module) -> Tensor:
    """Size of what a block writes with."""
    norms = [tensor.norm() for name, tensor in block.state_dict().items() if name in _WRITERS]
    return torch.stack(norms).norm()


def _stream(model: Transformer) -> Tensor:
    """Magnitude of the channels of the residual stream (W,): what writes to them times what reads them."""
    head: Any = model.output_layer()
    written, read = [model.embedding.weight.square().sum(0)], [head.weight.square().sum(0)]
    for name, tensor in model.state_dict().items():
        if name.endswith(_WRITERS):  # (W, n), of experts (E, W, n)
            written.append(tensor.square().sum(-1).view(-1, model.config.hidden_size).sum(0))
        elif name.endswith(_READERS):  # (n, W), of experts (E, n, W)
            read.append(tensor.square().flatten(0, -2).sum(0))
        elif name == "positions.weight":
            written.append(tensor.square().sum(0))
        elif name.endswith(("attention.output.bias", "mlp.down.bias")):
            written.append(tensor.square())
    return (torch.stack(written).sum(0) * torch.stack(read).sum(0)).sqrt()
