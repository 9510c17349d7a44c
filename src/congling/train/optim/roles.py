"""What each parameter is to an optimizer: a block matrix, a table of embeddings, the head, or a scalar."""

from typing import Any, Literal

from torch import nn

Role = Literal["matrix", "embedding", "head", "scalar"]


def roles(model: nn.Module) -> dict[str, Role]:
    """Role of every trainable parameter.

    Rows of embeddings are vectors that a rare token moves alone; the matrix of ``output_layer()`` is the
    head, tied or not, since every token moves all of it; norm gains and biases are scalars.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    output: Any = getattr(model, "output_layer", lambda: None)()
    head = id(output.weight) if isinstance(output, nn.Embedding | nn.Linear) else None
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
