"""What each parameter is to an optimizer, by name: a block matrix, a table of embeddings, the head, or a scalar."""

from collections.abc import Callable, Mapping
from typing import Literal

from torch import nn

Role = Literal["matrix", "embedding", "head", "scalar"]


def roles(model: nn.Module) -> dict[str, Role]:
    """Role of every trainable parameter.

    Rows of embeddings are vectors that a rare token moves alone; the matrix behind ``output_weight()`` is the head,
    tied or not, since every token moves all of it; parameters of one dimension (norm gains, biases) are scalars.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    output = getattr(model, "output_weight", None)
    head = id(output()) if callable(output) else None
    found: dict[str, Role] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) == head:
            found[name] = "head"
        elif id(parameter) in tables:
            found[name] = "embedding"
        else:
            found[name] = "matrix" if parameter.ndim >= 2 else "scalar"
    return found


def fused_rows(model: nn.Module) -> Mapping[str, tuple[int, ...]]:
    """Row counts of matrices stored as one (queries, keys and values; gate and up), by parameter name."""
    declared: Callable[[], Mapping[str, tuple[int, ...]]] | None = getattr(model, "fused_rows", None)
    return {} if declared is None else declared()
