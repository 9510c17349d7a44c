"""A model on the disk: ``model.safetensors`` (weights) and ``model.json`` (configuration), no code.

Tied matrices are stored once, tables that follow from the configuration not at all.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from congling.core import files
from congling.core.config import build
from congling.core.errors import UserError
from congling.core.text import write_text
from congling.model.config import ModelConfig
from congling.model.lazy import LazyTensors
from congling.model.transformer import Transformer

WEIGHTS = "model.safetensors"
CONFIG = "model.json"
_PRECISIONS = ("F32", "BF16", "F16")


def save_model(model: Transformer, directory: Path | str) -> None:
    """Write ``model.safetensors`` and ``model.json`` into an existing directory."""
    directory = Path(directory)
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in model.state_dict().items()}
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    text = json.dumps(model.config.model_dump(mode="json"), ensure_ascii=False, indent=1)
    write_text(directory / CONFIG, text + "\n")


def open_weights(directory: Path | str) -> tuple[ModelConfig, LazyTensors]:
    """Check what a directory holds against its configuration, and give its tensors one by one.

    Raises:
        UserError: a file is missing, unreadable or cut short; tensors are missing, unknown, of another shape
            or not floating point.
    """
    directory = Path(directory)
    path = directory / WEIGHTS
    config = load_config(directory)
    # Names and shapes are compared with a skeleton that takes no memory before anything is allocated: a
    # hostile configuration of a billion layers fails here, against what the file really holds.
    stored = open_safetensors(path)
    found = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118 - not a dictionary
    expected = expected_shapes(config, len(found), directory / CONFIG)
    compare_shapes(expected, {name: tuple(piece.get_shape()) for name, piece in found.items()}, path)
    check_precisions(found, path)
    return config, LazyTensors(expected, stored.get_tensor)


def load_model(directory: Path | str, device: torch.device | str = "cpu") -> Transformer:
    """Build the model that a directory describes and fill in its weights (in evaluation mode).

    Raises:
        UserError: as :func:`open_weights`.
    """
    config, weights = open_weights(directory)
    model = Transformer(config)
    model.load_state_dict(dict(weights))
    return model.to(device).eval()


def load_config(directory: Path | str) -> ModelConfig:
    """Read the configuration of a stored model.

    Raises:
        UserError: ``model.json`` is missing, is no JSON, or does not describe a model.
    """
    path = Path(directory) / CONFIG
    try:
        values: Any = json.loads(files.text(path))
    except FileNotFoundError:
        raise UserError("no model here: a file is missing", where=directory, value=CONFIG) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot be read as JSON ({type(error).__name__})", where=path) from None
    if not isinstance(values, dict):
        raise UserError("a model is described by an object, not by this", where=path, value=values)
    return build(ModelConfig, values, where=path, recorded=True)


def open_safetensors(path: Path) -> Any:
    """Open a safetensors file, which checks its header against its length; close it or use it in ``with``.

    Raises:
        UserError: it is missing, damaged or no safetensors file.
    """
    try:
        files.opened(path).close()
        return safe_open(path, framework="pt")
    except FileNotFoundError:
        raise UserError("a file is missing here", where=path.parent, value=path.name) from None
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"damaged or no safetensors file: {error}",
            where=path,
            hint="restore the file, or go back to an earlier one",
        ) from None


def expected_shapes(config: ModelConfig, stored: int, where: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors the configuration asks for, from a skeleton without memory.

    Raises:
        UserError: the model would be too large to build, whatever the file holds.
    """
    if (
        config.num_hidden_layers > stored
    ):  # a block has several tensors; a huge number would take forever to build
        raise UserError(
            "more layers than the weights hold tensors", where=where, value=config.num_hidden_layers
        )
    try:
        with torch.device("meta"):
            skeleton = Transformer(config)
    except (RuntimeError, OverflowError):  # sizes whose product is no number of bytes
        raise UserError(
            "a model of this size does not exist",
            where=where,
            value=f"vocab_size {config.vocab_size}, width {config.hidden_size}",
        ) from None
    return {name: tuple(tensor.shape) for name, tensor in skeleton.state_dict().items()}


def check_precisions(found: Mapping[str, Any], path: Path) -> None:
    """Make sure that pieces of a safetensors file are floats.

    Raises:
        UserError: one is not.
    """
    odd = next((name for name, piece in found.items() if piece.get_dtype() not in _PRECISIONS), None)
    if odd is not None:
        what = f"{odd}: {found[odd].get_dtype()}"
        raise UserError("a tensor of a type no model has", where=path, value=what)


def compare_shapes(
    expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], path: Path
) -> None:
    """Name the first difference between the tensors a configuration asks for and those of the file.

    Raises:
        UserError: there is one.
    """
    hint = "the weights belong to another model.json"
    if missing := sorted(expected.keys() - found.keys()):
        what = f"{len(missing)} tensors are missing, the first"
        raise UserError(what, where=path, value=missing[0], hint=hint)
    if unknown := sorted(found.keys() - expected.keys()):
        what = f"{len(unknown)} unknown tensors, the first"
        raise UserError(what, where=path, value=unknown[0], hint=hint)
    for name, shape in expected.items():
        if found[name] != shape:
            what = f"{name} has the wrong shape, {shape} is needed"
            raise UserError(what, where=path, value=found[name], hint=hint)
