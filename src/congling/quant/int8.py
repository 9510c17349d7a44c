"""Linear layers in int8 whose inputs are rounded too, with columns of large inputs apart (LLM.int8).

::

    x (N, I) ─┬─ small: int8, 127 / max of the token ─▶ codes ─ · max of token · max of row / 127² ─┐
              ├─ columns found large in calibration ──▶ their weights in 16 bits ───────────────────┼ + ─ y
              └─ other |x| ≥ threshold ───────────────▶ codes of their columns, as floats ──────────┘

A row of weights has one scale, its largest |w|. Which inputs are large is decided token by token, so that no
token changes what another one gets. With ``whole_batch`` it is decided as bitsandbytes does: a column that is
large for one token leaves the int8 product for all of them, and its weights are those of the codes. With
``token_steps`` of 127.5 inputs are rounded as compressed-tensors does: steps of max / 127.5, -128 to 127.

Source: LLM.int8 (Dettmers et al. 2022); codes, scales and outliers are those of bitsandbytes to the bit;
inputs in 127.5 steps those of compressed-tensors 0.20.
"""

# O outputs, I inputs, N tokens, C columns kept in 16 bits

from collections import Counter
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Self

import torch
from torch import Tensor, nn

from congling.core.errors import UserError
from congling.quant.frozen import PIECE_VALUES, FrozenLinear, scratch, stored_parts

STEPS, CT_STEPS = 127.0, 127.5
"""Steps that the largest input of a token takes, in LLM.int8 and in compressed-tensors."""
_BNB_UNIT = 6.200124e-05
"""One step of a token times one of a row: 1 / 127², but bitsandbytes has lost the digit behind 6.200."""
_TYPES = {
    "codes": (torch.int8,),
    "scales": (torch.float32,),
    "outliers": (torch.int64,),
    "outlier_weight": (torch.float16,),
}
EXACT_INPUTS = 2**24 // (128 * 127)
"""Products of int8 codes that float32 adds without rounding."""


class Int8Linear(FrozenLinear):
    """A linear layer that cannot be trained, multiplied in int8; adapters work on it.

    Attributes:
        codes: (O, I) int8.
        scales: (O,) float32, the largest |w| of each row: 127 steps (``SCB`` in bitsandbytes).
        outliers: (C,) int64, ascending: columns whose weights are kept besides.
        outlier_weight: (O, C) float16.
        bias: (O,) float32 or None.
        threshold: inputs of this size and more are outliers; 0: none are (``llm_int8_threshold``).
        whole_batch: whether outliers are columns of a whole batch, as in bitsandbytes.
        token_steps: steps of the largest input of a token, 127 or 127.5.
    """

    codes: Tensor
    scales: Tensor
    outliers: Tensor
    outlier_weight: Tensor

    def __init__(
        self,
        codes: Tensor,
        scales: Tensor,
        bias: Tensor | None = None,
        *,
        threshold: float = 6.0,
        outliers: Tensor | None = None,
        outlier_weight: Tensor | None = None,
        whole_batch: bool = False,
        token_steps: float = STEPS,
    ) -> None:
        """Raises UserError: the parts do not fit each other, or hold what no quantiser makes."""
        if outliers is None or outlier_weight is None:
            outliers = codes.new_empty(0, dtype=torch.int64)
            outlier_weight = codes.new_empty(codes.shape[0], 0, dtype=torch.float16)
        _check(codes, scales, outliers, outlier_weight)
        super().__init__(codes.shape[0], codes.shape[1], bias)
        for name, value in (("codes", codes), ("scales", scales), ("outliers", outliers)):
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("outlier_weight", outlier_weight, persistent=False)
        self.threshold, self.whole_batch, self.token_steps = threshold, whole_batch, token_steps

    def values(self, part: slice) -> Tensor:
        """Some rows: float32, columns kept in 16 bits as they are kept."""
        codes = self.codes[part]
        rows = torch.mul(
            codes, self.scales[part, None] / 127, out=scratch(len(codes), self.inputs, codes.device)
        )
        rows[:, self.outliers] = self.outlier_weight[part].float()
        return rows

    def product(self, x: Tensor) -> Tensor:
        """``x @ matrixᵀ`` with x in eight bits, but for outliers: (N, I) -> (N, O)."""
        tokens, most, columns, large = self.inputs_in_int8(x)
        unit = _BNB_UNIT if self.whole_batch else 1 / (127 * self.token_steps)
        y = self._integer_product(tokens).mul_(most * self.scales).mul_(unit)
        if len(columns):
            apart = x.float().where(large, 0)[:, columns]
            y.addmm_(apart, self._columns(columns).T)
        return y.to(x.dtype)

    def inputs_in_int8(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Inputs (N, I) as they enter the product.

        Returns:
            (N, I) float32 codes, 0 where an input stays apart; (N, 1) the largest |x| of each token that has
            a code; (columns,) numbers of the columns with inputs that stay apart; (N, I) which ones do.
        """
        # bitsandbytes rounds to float16 first; the default keeps what lies beyond its range
        inputs = x.half().float() if self.whole_batch else x.float()
        large = inputs.abs() >= (self.threshold or inf)
        if not self.whole_batch:
            large[:, self.outliers] = True
        small = inputs.masked_fill(large, 0)
        most = small.abs().amax(1, keepdim=True)
        if self.token_steps == STEPS:
            tokens = small * (STEPS / most)
        else:
            tokens = (small / (most / self.token_steps)).clamp_(-128, 127)
        tokens = tokens.round_().masked_fill_(most == 0, 0)
        columns = large.any(0).nonzero().flatten()
        if self.whole_batch:
            tokens[:, columns], large[:, columns] = 0, True
        return tokens, most, columns, large

    def _integer_product(self, tokens: Tensor) -> Tensor:
        """``tokens @ codesᵀ`` without an error of summing, whatever the order: (N, I) -> (N, O) float32."""
        y = tokens.new_empty(len(tokens), self.rows)
        size = max(1, PIECE_VALUES.get(self.device.type, 2**20) // self.inputs)
        for start in range(0, self.rows, size):
            codes = self.codes[start : start + size]
            codes = scratch(len(codes), self.inputs, codes.device).copy_(codes)
            if self.inputs <= EXACT_INPUTS:
                torch.mm(tokens, codes.T, out=y[:, start : start + size])
                continue
            parts = zip(tokens.split(EXACT_INPUTS, 1), codes.split(EXACT_INPUTS, 1), strict=True)
            y[:, start : start + size] = sum((a @ b.T).to(torch.int32) for a, b in parts)
        return y

    def _columns(self, columns: Tensor) -> Tensor:
        """Weights of some columns, ascending: (O, columns) float32."""
        values = self.codes[:, columns] * (self.scales[:, None] / 127)
        values[:, torch.isin(columns, self.outliers)] = self.outlier_weight[
            :, torch.isin(self.outliers, columns)
        ].float()
        return values

    def stored(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Threshold and way of deciding, and the parts as a file holds them."""
        parts = {"codes": self.codes, "scales": self.scales}
        if len(self.outliers):
            parts |= {"outliers": self.outliers, "outlier_weight": self.outlier_weight}
        if self.bias is not None:
            parts["bias"] = self.bias
        facts: dict[str, Any] = {"threshold": self.threshold, "whole_batch": self.whole_batch}
        return facts | ({} if self.token_steps == STEPS else {"token_steps": self.token_steps}), parts

    @classmethod
    def restored(
        cls, facts: Mapping[str, Any], part: Callable[[str], Tensor | None], shape: tuple[int, int]
    ) -> Self:
        """The layer again.

        Raises:
            UserError: parts are missing or do not fit, or hold what no quantiser makes.
        """
        threshold, whole_batch = facts.get("threshold"), facts.get("whole_batch")
        if not isinstance(threshold, (int, float)) or isinstance(threshold, bool) or not 0 <= threshold < inf:
            raise UserError("the threshold of a layer in int8 is a number from 0", value=threshold)
        if not isinstance(whole_batch, bool):
            raise UserError("whole_batch of a layer in int8 is true or false", value=whole_batch)
        if (steps := facts.get("token_steps", STEPS)) not in (STEPS, CT_STEPS) or isinstance(steps, bool):
            raise UserError("token_steps of a layer in int8 are 127 or 127.5", value=steps)
        found: dict[str, Any] = stored_parts(part, _TYPES, needed=2)
        if ("outliers" in found) != ("outlier_weight" in found):
            raise UserError("outlier columns of a layer and their weights come together")
        if found["codes"].shape != shape:
            raise UserError("codes of a layer have another shape", value=tuple(found["codes"].shape))
        return cls(**found, threshold=float(threshold), whole_batch=whole_batch, token_steps=float(steps))

    def extra_repr(self) -> str:
        """Shape and columns apart, as ``print(model)`` shows them."""
        return f"{self.inputs}, {self.rows}, threshold={self.threshold}, outliers={len(self.outliers)}"


def int8_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (O, I) int8 and the largest |w| (O,) of every row of a matrix, as bitsandbytes makes them.

    Raises:
        UserError: weights that are not finite, or beyond float16's range.
    """
    half = weight.detach().half().float()
    if not bool(torch.isfinite(half).all()):
        raise UserError("weights that are not finite, or too large for float16, cannot be quantised to int8")
    most = half.abs().amax(1)
    codes = (half * (127 / most)[:, None]).round_().masked_fill_(most[:, None] == 0, 0)
    return codes.to(torch.int8), most


def outlier_columns(max_abs: Tensor, threshold: float) -> Tensor:
    """(C,) int64: channels whose largest |x| (I,) on the calibration text reaches the threshold; 0: none."""
    return (max_abs >= (threshold or inf)).nonzero().flatten()


def int8_linear(
    weight: Tensor,
    bias: Tensor | None,
    threshold: float,
    max_abs: Tensor | None = None,
    *,
    whole_batch: bool = False,
) -> Int8Linear:
    """A layer in int8 of a matrix (O, I).

    Args:
        weight: (O, I).
        bias: (O,) or None.
        threshold: inputs of this size and more are outliers; 0: none are.
        max_abs: (I,) the largest |x| of every input channel on the calibration text: columns that reach the
            threshold keep their weights in float16. Without it all weights are codes.
        whole_batch: whether outliers are columns of a whole batch, as in bitsandbytes.

    Raises:
        UserError: as :func:`int8_rows`.
    """
    codes, scales = int8_rows(weight)
    outliers = outlier_columns(torch.zeros(weight.shape[1]) if max_abs is None else max_abs, threshold)
    kept = weight.detach()[:, outliers].half()
    return Int8Linear(
        codes,
        scales,
        bias,
        threshold=threshold,
        outliers=outliers,
        outlier_weight=kept,
        whole_batch=whole_batch,
    )


def outliers_found(model: nn.Module) -> str | None:
    """What LLM.int8 kept apart in a model, in a sentence; None where no layer looks for outliers."""
    apart, columns, thresholds = Counter[str](), Counter[str](), set[float]()
    for place, layer in model.named_modules():
        if isinstance(layer, Int8Linear) and layer.threshold and not layer.whole_batch:
            kind = next(part for part in reversed(place.split(".")) if not part.isdigit())
            apart[kind] += len(layer.outliers)
            columns[kind] += layer.inputs
            thresholds.add(layer.threshold)
    if not columns:
        return None
    least = f"{min(thresholds):g}"
    if not apart.total():
        return f"0 columns ≥ {least}: there is nothing to decompose, all products are in int8"
    where = ", ".join(f"{kind} {apart[kind]} of {columns[kind]}" for kind in columns if apart[kind])
    return f"{apart.total()} of {columns.total()} columns ≥ {least} keep weights of 16 bits: {where}"


def _check(codes: Tensor, scales: Tensor, outliers: Tensor, outlier_weight: Tensor) -> None:
    rows, inputs = codes.shape
    if scales.shape != (rows,) or outliers.dim() != 1 or outlier_weight.shape != (rows, len(outliers)):
        shapes = [tuple(one.shape) for one in (codes, scales, outliers, outlier_weight)]
        raise UserError("codes, scales and outliers of a layer do not fit each other", value=shapes)
    if not bool(torch.isfinite(scales).all()):
        raise UserError("scales of a layer in int8 are finite")
    if not bool(torch.isfinite(outlier_weight).all()):
        raise UserError("weights of outlier columns are finite")
    if len(outliers) and (
        int(outliers[0]) < 0 or int(outliers[-1]) >= inputs or bool((outliers.diff() <= 0).any())
    ):
        what = f"outlier columns of a layer are ascending numbers below {inputs}"
        raise UserError(what, value=outliers[:8].tolist())
