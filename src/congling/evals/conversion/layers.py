"""Layers whose inputs are rounded, one by one beside those of the program: each on the inputs it had there.

Logits of such models cannot be compared. A code is a rounded input, and inputs of two programs differ in
their last bits: where one lies at a tie, the codes are neighbours, the output moves by a step, and behind it
others. In compressed-tensors (max / 127.5, ties to even) the largest input of a token is such a tie whenever
it is negative: -128 or -127, by its last bit.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from congling.interop.engines.transformers import TransformersEngine
from congling.interop.hf.quantised.reading import layer_of
from congling.interop.hf.quantised.tensors import QuantisedTensors


def layer_difference(engine: TransformersEngine, folder: Path, ids: Sequence[int]) -> float:
    """Largest difference of a layer's outputs there from ours on the same inputs, by their largest value.

    Raises:
        UserError: the folder has no layers in few bits.
    """
    tensors, worst = QuantisedTensors.of_folder(folder), 0.0

    def compare(name: str, x: Tensor, y: Tensor) -> None:
        nonlocal worst
        bias = tensors.read(f"{name}.bias") if f"{name}.bias" in tensors else None
        apart = (layer_of(tensors, name, bias=bias)(x) - y).abs().max() / y.abs().max().clamp_min(1e-30)
        worst = max(worst, float(apart)) if apart.isfinite() else float("inf")

    engine.watch(ids, tensors.layers, compare)
    return worst
