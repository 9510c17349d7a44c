"""Adapters added into the weights they were made for, one tensor at a time."""

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from congling.core.errors import UserError
from congling.model.lazy import LazyTensors
from congling.transform.adapter import Adapter, Factors

_STRONGEST = 1e6  # keeps its product with any scale within float32


def merged(weights: Mapping[str, Tensor], adapters: Sequence[tuple[Adapter, float]]) -> Mapping[str, Tensor]:
    """Weights with each adapter in them at its strength: ``W + Σ strength · scale · b @ a``, as float32;
    of an adapter with a magnitude ``W + strength · (W' - W)``, see ``transform.adapter``.

    The result is lazy like ``weights`` may be: a tensor is read and changed when it is asked for, so that a
    base larger than memory can be merged and written. Tensors without adapter are passed through.

    Raises:
        UserError: a strength is not finite, or an adapter changes a tensor that is not there; when a tensor
            is asked for, factors of another shape, or values beyond float32.
    """
    for adapter, strength in adapters:
        where = adapter.facts.get("name")
        if not abs(strength) <= _STRONGEST:
            raise UserError("the strength of an adapter is a finite number", where=where, value=strength)
        if lost := adapter.factors.keys() - weights.keys():
            raise UserError(
                "the adapter changes a tensor that the model does not have",
                where=where,
                value=min(lost),
                hint="it was made for another base",
            )
    return LazyTensors(weights, partial(_merged, weights, adapters))


def _merged(weights: Mapping[str, Tensor], adapters: Sequence[tuple[Adapter, float]], name: str) -> Tensor:
    weight = weights[name]
    changes = [
        (adapter.factors[name], strength, adapter.facts.get("name"))
        for adapter, strength in adapters
        if name in adapter.factors and strength != 0
    ]
    if not changes:
        return weight
    total = weight.detach().float().clone()
    matrix = total if total.dim() == 2 else total.unsqueeze(-1)  # a norm's gain is one column
    for factors, strength, where in changes:
        _check(name, matrix, factors, where)
        if factors.magnitude is None:
            matrix.addmm_(factors.b.to(matrix), factors.a.to(matrix), alpha=strength * factors.scale)
        else:  # relative to the weight as it was, whatever has been added to it before
            matrix.add_(factors.delta(weight.detach().to(matrix)), alpha=strength)
    if not total.isfinite().all():  # factors may be finite and their product not
        where = changes[-1][2]
        raise UserError("merged values are beyond float32: the adapter is damaged", where=where, value=name)
    return total


def _check(name: str, matrix: Tensor, factors: Factors, where: object) -> None:
    a, b = tuple(factors.a.shape), tuple(factors.b.shape)
    lost = factors.magnitude is not None and tuple(factors.magnitude.shape) != b[:1]
    if matrix.dim() != 2 or a[0] != b[1] or (b[0], a[1]) != tuple(matrix.shape) or lost:
        what = f"the factors of {name} do not make a matrix {tuple(matrix.shape)}"
        raise UserError(
            what, where=where, value=f"a {a}, b {b}", hint="the adapter was made for another base"
        )
