"""What each parameter is to an optimizer: a block matrix, a table of embeddings, the head, a scalar, or part
of the curve that rotary frequencies follow."""

from typing import Any, Literal

from torch import nn

from congling.model.clex import ClexPositions

Role = Literal["matrix", "embedding", "head", "scalar", "curve"]


def roles(model: nn.Module) -> dict[str, Role]:
    """Role of every trainable parameter.

    Rows of embeddings are vectors that a rare token moves alone; the matrix of ``output_layer()`` is the
    head, tied or not, since every token moves all of it; norm gains and biases are scalars. The two matrices
    of CLEX, whose small changes add up to large ones far along the curve, are no linear map of a block: they
    are the curve.
    """
    curve = {
        id(one)
        for module in model.modules()
        if isinstance(module, ClexPositions)
        for one in module.parameters()
    }
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    output: Any = getattr(model, "output_layer", lambda: None)()
    head = id(output.weight) if isinstance(output, nn.Embedding | nn.Linear) else None
    found: dict[str, Role] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in curve:
            found[name] = "curve"
        elif id(parameter) == head:
            found[name] = "head"
        elif id(parameter) in tables:
            found[name] = "embedding"
        else:
            found[name] = "matrix" if parameter.ndim >= 2 else "scalar"
    return found
