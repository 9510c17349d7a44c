"""A foreign model made into a ``Transformer`` of ours, one tensor at a time."""

import torch

from congling.core.errors import UserError
from congling.interop.foreign import ForeignModel
from congling.model.transformer import Transformer
from congling.quant.experts import separate_experts


def transformer(model: ForeignModel, device: torch.device | str = "cpu") -> Transformer:
    """Build the model and copy its weights in, as float32, in evaluation mode; layers in few bits stay so.

    Raises:
        UserError: tensors are missing or of another shape than the configuration asks for.
    """
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Transformer(model.config).state_dict().items()}
    if odd := sorted(shapes.keys() ^ set(model.weights)):
        raise UserError(
            "the tensors are not those of the configuration, the first that differs", value=odd[0]
        )
    built = Transformer(model.config)
    if model.layers:
        separate_experts(built)
    for name, layer in model.layers.items():
        built.set_submodule(name, layer)
    with torch.no_grad():
        for name, target in built.state_dict().items():
            tensor = model.weights[name]
            if tensor.shape != target.shape:
                what = f"{name} has the wrong shape, {tuple(target.shape)} is needed"
                raise UserError(what, value=tuple(tensor.shape))
            target.copy_(tensor)
    return built.requires_grad_(not model.layers).to(device).eval()
