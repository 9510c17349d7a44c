"""Whether an adapter fits a model, and factors of matrices that another program keeps as one."""

# r rank

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from congling.core.errors import UserError
from congling.interop.adapters.base_positions import require_same
from congling.model.config import ModelConfig
from congling.model.transformer import Transformer
from congling.transform.adapter import Adapter, Factors

LARGEST_RANK = 2**14

_LARGEST_SCALE = 1e30  # far beyond any; more would not even be a float32


def matrices(config: ModelConfig) -> Mapping[str, tuple[int, int]]:
    """(outputs, inputs) of every parameter that can have factors; a norm's gain is (W, 1)."""
    with torch.device("meta"):
        state = Transformer(config).state_dict()
    found: dict[str, tuple[int, int]] = {}
    for name, tensor in state.items():
        if name.endswith(".weight") and name != "positions.weight" and tensor.dim() <= 2:
            found[name] = (int(tensor.shape[0]), int(tensor.shape[1]) if tensor.dim() == 2 else 1)
    return found


def outputs_of(names: Sequence[str], config: ModelConfig) -> list[int]:
    """How many rows each of these matrices has."""
    known = matrices(config)
    return [known[name][0] for name in names]


def is_gain(name: str) -> bool:
    """Whether a parameter is a norm's gain."""
    return name.removesuffix(".weight").endswith("norm")


def checked(adapter: Adapter, config: ModelConfig, where: Path | str) -> Adapter:
    """Return the adapter if every factor fits the model of ``config``.

    Raises:
        UserError: it is empty, was made for another base or for one whose positions are stretched otherwise,
            or holds values that are not finite.
    """
    known = matrices(config)
    if not adapter.factors:
        raise UserError("there is no factor of any tensor in this adapter", where=where)
    for name, factors in adapter.factors.items():
        if name not in known:
            what, hint = "the adapter changes a tensor that this model lacks", "it was made for another base"
            raise UserError(what, where=where, value=name, hint=hint)
        _check(name, factors, known[name], where)
    require_same(adapter, config, where)
    return adapter


def _check(name: str, factors: Factors, wanted: tuple[int, int], where: Path | str) -> None:
    a, b = tuple(factors.a.shape), tuple(factors.b.shape)
    if a[0] != b[1] or (b[0], a[1]) != wanted:
        outputs, inputs = wanted
        what = f"{name} is {wanted} here, so its factors must be (r, {inputs}) and ({outputs}, r)"
        raise UserError(what, where=where, value=f"{a} and {b}", hint="the adapter was made for another base")
    if factors.magnitude is not None:
        shape, linear = tuple(factors.magnitude.shape), not is_gain(name) and name != "embedding.weight"
        if shape != b[:1] or not linear:
            what = "a magnitude has one value for each row of a linear layer"
            raise UserError(what, where=where, value=f"{name}: {shape}, {b[0]} rows")
    if not factors.is_finite() or not abs(factors.scale) <= _LARGEST_SCALE:
        raise UserError("the adapter holds values that are not finite", where=where, value=name)


def joined(parts: Sequence[Factors | None], rows: Sequence[int]) -> Factors:
    """Factors of one matrix made of several with the given ``rows``, below one another; None: unchanged.

    The ranks add up: every part keeps its own ``a``, and ``b`` is zero outside its rows and columns.

    Raises:
        UserError: some parts have a magnitude and others have none.
    """
    present = [part for part in parts if part is not None]
    alike = len({part.scale for part in present}) == 1
    b = torch.zeros(sum(rows), sum(part.rank for part in present))
    column = row = 0
    for part, height in zip(parts, rows, strict=True):
        if part is not None:
            block = part.b if alike else part.b * part.scale
            b[row : row + height, column : column + part.rank] = block
            column += part.rank
        row += height
    magnitudes = [part.magnitude for part in parts if part is not None and part.magnitude is not None]
    if len(magnitudes) not in (0, len(parts)):
        what = "these matrices are one there: all of them have magnitudes, or none"
        raise UserError(what, hint="train with targets that name all of query, key and value, or gate and up")
    magnitude = torch.cat(magnitudes) if magnitudes else None
    return Factors(torch.cat([part.a for part in present]), b, present[0].scale if alike else 1.0, magnitude)


def separated(factors: Factors, rows: Sequence[int]) -> list[Factors | None]:
    """Factors of the matrices with these ``rows`` that one matrix consists of; None where nothing is added.

    A part keeps only the columns of ``b`` that it uses, so that what ``joined`` made comes back as it was.
    """
    found: list[Factors | None] = []
    magnitudes = [None] * len(rows) if factors.magnitude is None else factors.magnitude.split(list(rows))
    for block, magnitude in zip(factors.b.split(list(rows)), magnitudes, strict=True):
        used = block.ne(0).any(dim=0).nonzero().flatten()
        if magnitude is not None and not len(used):
            used = torch.tensor([0])  # lengths alone have changed
        part = Factors(factors.a[used], block[:, used].contiguous(), factors.scale, magnitude)
        found.append(part if len(used) else None)
    return found


def refuse_magnitudes(adapter: Adapter, format: str) -> None:
    """Check that every factor is plain LoRA.

    Raises:
        UserError: one has a magnitude, which ``format`` cannot hold.
    """
    decomposed = [name for name, part in adapter.factors.items() if part.magnitude is not None]
    if decomposed:
        what = f"this is a DoRA adapter, and {format} holds low-rank factors alone"
        hint = "merge it into its base (congling convert BASE --lora ADAPTER), or write --to peft"
        raise UserError(what, value=f"{decomposed[0]}.magnitude", hint=hint)


def common_scale(factors: Mapping[str, Factors], rank: int | None = None) -> float | None:
    """The alpha that gives every scale as ``alpha / r`` (each tensor's own r, or ``rank``), if one does."""
    alphas = {part.scale * (rank or part.rank) for part in factors.values()}
    return next(iter(alphas)) if len(alphas) == 1 else None
