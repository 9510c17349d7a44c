"""A head that gives one number for every hidden state: the reward of a text, or the value of a state.

It stands beside the head of words, and in a file of its own beside ``model.safetensors``: the checkpoint
stays a language model like any other.
"""

# W width

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from congling.core.errors import UserError
from congling.model.checkpoint import open_safetensors, save_model

FILE = "scalar_head.safetensors"
NAME = "scalar_head"


def attach_head(model: Any, seed: int | None = None) -> nn.Linear:
    """Give the model a ``scalar_head`` (W → 1): small random weights of the seed; zeros without one."""
    width = model.config.hidden_size
    head = nn.Linear(width, 1, bias=False)
    with torch.no_grad():
        head.weight.zero_()
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            head.weight.copy_(torch.randn(1, width, generator=generator) / (width + 1) ** 0.5)
    model.scalar_head = head.to(next(model.parameters()).device)
    return model.scalar_head


def save_with_head(model: Any, folder: Path) -> None:
    """Write the model as :func:`congling.model.checkpoint.save_model` does, and its head beside it."""
    save_without_head(model, folder)
    weight = model.scalar_head.weight.detach().contiguous().cpu()
    save_file({"weight": weight}, folder / FILE, metadata={"format": "pt"})


def save_without_head(model: Any, folder: Path) -> None:
    """Write the language model alone: a value head is of no use once training is over."""
    head = model.scalar_head
    del model.scalar_head
    try:
        save_model(model, folder)
    finally:
        model.scalar_head = head


def load_head(model: Any, folder: Path) -> None:
    """Give a loaded model the head that its checkpoint holds.

    Raises:
        UserError: there is none, or it belongs to another model.
    """
    if not (folder / FILE).is_file():
        hint = "name a run of `congling reward`"
        raise UserError("this checkpoint is no reward model", value=str(folder), hint=hint)
    with open_safetensors(folder / FILE) as stored:
        names = list(stored.keys())
        shape = tuple(stored.get_slice("weight").get_shape()) if names == ["weight"] else None
        if shape != (1, model.config.hidden_size):
            raise UserError("the head does not fit the model", where=folder / FILE, value=shape)
        weight = stored.get_tensor("weight").float()
    if not weight.isfinite().all():
        raise UserError("the head holds values that are not finite", where=folder / FILE)
    head = attach_head(model)
    with torch.no_grad():
        head.weight.copy_(weight)
