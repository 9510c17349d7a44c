"""Where a quantised model lost it: one layer at a time, one matrix at a time, and which channels stand out.

::

    base       x₀ ─block 1─ x₁ ─block 2─ x₂ ─block 3─ x₃ ─norm, output─ p
    layer 2           x₁ ─quantised block 2─ · ─block 3─ · ─norm, output─ q      KL(p ‖ q)
    matrix            input x of the base, of each linear layer: ‖ŷ(x) − y(x)‖² / ‖y(x)‖²

Every layer gets what the base's own stream brings it, so what it does is its own doing. Scales that are
folded into neighbouring weights (AWQ, SmoothQuant) leave layers comparable, and matrices not.
"""

# B rows, T time, W width, I inputs of a matrix, O outputs, V vocabulary

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from congling.core.progress import track
from congling.evals.damage import CHUNK, EXACT, divergence, finite, log_probabilities
from congling.evals.likelihood import read_rows
from congling.evals.windows import Row
from congling.infer.checkpoints import Loaded
from congling.model.transformer import Transformer

TOKENS = 4096
"""On so many tokens layers are looked at."""
OUTLIER = 6.0
"""Size from which a channel counts as an outlier: the threshold of LLM.int8 (Dettmers et al. 2022)."""
_BATCH_TOKENS = 2048
_FOLDED = 1e-3
"""Relative difference of a norm's weights that no type they are stored in explains."""


@dataclass(frozen=True)
class LayerDamage:
    """A part of the model quantised alone, all others as they were."""

    name: str
    kl: float
    """Mean KL over the tokens, in nats."""
    error: float | None
    """‖ŷ − y‖² / ‖y‖² of what a block adds to the residual stream; None of what is no block."""


@dataclass(frozen=True)
class MatrixDamage:
    """A matrix of the base, and what became of it."""

    name: str
    weight_error: float | None
    """‖W − Ŵ‖² / ‖W‖²."""
    output_error: float | None
    """‖ŷ − y‖² / ‖y‖² on inputs of the base, without the bias; None of an embedding."""
    outlier_ratio: float | None = None
    """Largest |x| of any input channel by the median of the channels' largest."""
    outliers: int | None = None
    """Input channels with any |x| ≥ 6."""


@dataclass(frozen=True)
class LayerReport:
    """Everything that is looked at layer by layer."""

    tokens: int
    whole: float
    """Mean KL of the whole quantised model on the same tokens."""
    layers: tuple[LayerDamage, ...]
    matrices: tuple[MatrixDamage, ...]
    folded: bool
    """Whether norms differ: scales were folded in or weights trained since, and matrices do not compare."""

    @property
    def total(self) -> float:
        """Sum of the layers' KL."""
        return sum(layer.kl for layer in self.layers)


def comparable(base: Transformer, quantised: Transformer) -> bool:
    """Whether blocks of one can stand in the other."""
    ours, theirs = base.config, quantised.config
    return (
        (ours.num_hidden_layers, ours.hidden_size) == (theirs.num_hidden_layers, theirs.hidden_size)
        and ours.positions.kind == theirs.positions.kind
        and all(type(a.attention) is type(b.attention) for a, b in _pairs(base, quantised))
    )


@torch.inference_mode()
def layer_damage(base: Loaded, quantised: Loaded, rows: Sequence[Row]) -> LayerReport:
    """Look at every layer and matrix of two models that are :func:`comparable`.

    Args:
        base: as it was.
        quantised: what became of it.
        rows: windows; of those as long as the longest about 4,096 tokens are taken, evenly spread.

    Raises:
        UserError: logits are not finite.
    """
    chosen = _chosen(rows)
    length = len(chosen[0].ids) - 1
    size = max(1, _BATCH_TOKENS // length)
    folded = _folded(base.model, quantised.model)
    errors = _Errors(base.model, quantised.model, matrices=not folded)
    names = ["embedding", *(f"block {i + 1}" for i in range(len(base.model.blocks))), "output"]
    totals = torch.zeros(len(names) + 1, dtype=torch.float64)
    firsts = range(0, len(chosen), size)
    for first in track(firsts, "one layer at a time", total=len(firsts)):
        totals += _batch(base, quantised, chosen[first : first + size], errors)
    tokens = len(chosen) * length
    means = (totals / tokens).tolist()
    blocks = [None, *(errors.of(f"blocks.{i}") for i in range(len(base.model.blocks))), None]
    layers = tuple(map(LayerDamage, names, means, blocks))
    return LayerReport(tokens, means[-1], layers, tuple(errors.matrices()), folded)


def _chosen(rows: Sequence[Row]) -> list[Row]:
    longest = max(len(row.ids) for row in rows)
    full = [row for row in rows if len(row.ids) == longest]
    step = max(1, len(full) // max(1, TOKENS // (longest - 1)))
    return full[::step][: max(1, TOKENS // (longest - 1))]


@dataclass
class _Stream:
    """What a model's blocks and last norm read, and the contexts the blocks read it in."""

    inputs: list[Tensor] = field(default_factory=list)
    contexts: list[Any] = field(default_factory=list)

    @contextlib.contextmanager
    def of(self, model: Transformer) -> Generator[None]:
        def noted(_: nn.Module, args: tuple[Any, ...]) -> None:
            self.inputs.append(args[0])
            self.contexts.append(args[1] if len(args) > 1 else None)

        hooks = [part.register_forward_pre_hook(noted) for part in (*model.blocks, model.norm)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _batch(base: Loaded, quantised: Loaded, rows: Sequence[Row], errors: "_Errors") -> Tensor:
    """Summed KL of each part quantised alone, and of the whole: (parts + 1,)."""
    ours, theirs = _Stream(), _Stream()
    with ours.of(base.model), errors.watching():
        before, _ = read_rows(base.model, rows)
    with theirs.of(quantised.model):
        whole, _ = read_rows(quantised.model, rows)
    x, contexts = ours.inputs, ours.contexts
    hidden = [_continued(base.model, theirs.inputs[0], contexts, 0)]
    for i, (_, other) in enumerate(_pairs(base.model, quantised.model)):
        y = other(x[i], contexts[i])
        errors.add(f"blocks.{i}", y - x[i + 1], x[i + 1] - x[i])
        hidden.append(_continued(base.model, y, contexts, i + 1))
    hidden.append(quantised.model.hidden_scale(quantised.model.norm(x[-1])).flatten(0, 1))
    totals = torch.zeros(len(hidden) + 1, dtype=torch.float64)
    models = [*[base] * (len(hidden) - 1), quantised, quantised]
    for part in CHUNK.parts(before, base.model.config.vocab_size):
        p = finite(base, before[part])
        all_q = [finite(model, states[part]) for model, states in zip(models, [*hidden, whole], strict=True)]
        for one in EXACT.parts(p, p.shape[1]):
            exact = log_probabilities(p[one])
            totals += torch.stack([divergence(exact, log_probabilities(q[one])).sum() for q in all_q]).cpu()
    return totals


def _continued(model: Transformer, x: Tensor, contexts: Sequence[Any], first: int) -> Tensor:
    """Hidden states (B · T, W) behind the blocks from ``first`` on: x (B, T, W)."""
    for block, context in zip(model.blocks[first:], contexts[first:-1], strict=True):
        x = block(x, context)
    return model.hidden_scale(model.norm(x)).flatten(0, 1)


def _pairs(base: Transformer, quantised: Transformer) -> list[tuple[Any, Any]]:
    return list(zip(base.blocks, quantised.blocks, strict=True))


class _Errors:
    """Squared errors and squared sizes of outputs by name, and the largest inputs of linear layers."""

    def __init__(self, base: Transformer, quantised: Transformer, *, matrices: bool) -> None:
        others = dict(quantised.named_modules())
        linear = [(name, one) for name, one in base.named_modules() if isinstance(one, nn.Linear)]
        self._known = [
            (name, one, others[name])
            for name, one in linear
            if name.startswith("blocks.") and name in others and _shape(one) == _shape(others[name])
        ]
        self._embedding = (base.embedding, quantised.embedding)
        self._matrices = matrices
        self._errors: dict[str, Tensor] = {}
        self._largest: dict[str, Tensor] = {}

    def add(self, name: str, error: Tensor, signal: Tensor) -> None:
        """Count an error beside what it is an error of."""
        both = torch.stack([one.double().square().sum() for one in (error, signal)]).cpu()
        self._errors[name] = self._errors.get(name, 0) + both

    def of(self, name: str) -> float | None:
        """The relative error; None where nothing was counted or there is nothing to be relative to."""
        error, signal = self._errors.get(name, torch.zeros(2)).tolist()
        return error / signal if signal > 0 else None

    @contextlib.contextmanager
    def watching(self) -> Generator[None]:
        """Within the block whatever the base's linear layers read is given to their counterparts too."""
        hooks = [one.register_forward_hook(self._hook(name, other)) for name, one, other in self._known]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _hook(self, name: str, other: nn.Module) -> Any:
        def noted(own: nn.Linear, args: tuple[Tensor, ...], y: Tensor) -> None:
            x = args[0]
            largest = x.abs().flatten(0, -2).amax(0).cpu()
            known = self._largest.get(name)
            self._largest[name] = largest if known is None else torch.maximum(known, largest)
            if self._matrices:
                self.add(name, other(x) - y, y if own.bias is None else y - own.bias)

        return noted

    def matrices(self) -> Generator[MatrixDamage]:
        """Each matrix; what does not compare is None."""
        embedding, other = self._embedding
        yield MatrixDamage("embedding", _weight_error(embedding, other), None)
        for name, own, other in self._known:
            largest = self._largest[name]
            found = MatrixDamage(
                name.removeprefix("blocks."),
                None,
                self.of(name),
                _ratio(largest),
                int((largest >= OUTLIER).sum()),
            )
            yield replace(found, weight_error=_weight_error(own, other)) if self._matrices else found


def _ratio(largest: Tensor) -> float | None:
    """Largest of the channels by their median."""
    median = float(largest.float().median())
    return float(largest.max()) / median if median > 0 else None


def _shape(layer: nn.Module) -> tuple[Any, Any]:
    return getattr(layer, "out_features", None), getattr(layer, "in_features", None)


def _weight_error(own: nn.Module, other: nn.Module) -> float | None:
    """‖W − Ŵ‖² / ‖W‖² of two matrices (O, I); None where one has none."""
    first, second = _matrix(own), _matrix(other)
    if first is None or second is None or first.shape != second.shape:
        return None
    size = float(first.double().square().sum())
    return float((first.double() - second.double()).square().sum()) / size if size > 0 else None


def _matrix(layer: nn.Module) -> Tensor | None:
    """The values (O, I) a layer multiplies with."""
    weight = getattr(layer, "weight", None)
    found = dense() if callable(dense := getattr(layer, "dense", None)) else weight
    return found.detach().float() if isinstance(found, Tensor) else None


def _folded(base: Transformer, quantised: Transformer) -> bool:
    """Whether the weights of a norm differ by more than how they are stored."""
    theirs = dict(quantised.named_parameters())
    for name, own in base.named_parameters():
        other = theirs.get(name)
        if not name.endswith("norm.weight") or other is None or other.shape != own.shape:
            continue
        apart = (own.float() - other.float()).abs().max()
        if apart > _FOLDED * own.float().abs().max().clamp(min=1e-12):
            return True
    return False
