"""Put a trained model in fewer bits: estimate, calibrate, quantise block by block, write a checkpoint."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from congling.core import artifact
from congling.core.config import Config, build, with_overrides
from congling.core.errors import UserError
from congling.core.progress import stage
from congling.core.units import some
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.infer.reading import EXTENDED, EXTENSION
from congling.methods import calibration
from congling.methods.calibration import Calibration
from congling.model.config import ModelConfig
from congling.model.counts import linear_shapes
from congling.quant.apply import BlockReport, LayerReport, check_shapes, quantise
from congling.quant.config import FACT, QuantConfig
from congling.quant.int8 import outliers_found
from congling.quant.methods import METHODS
from congling.quant.stored import DESCRIPTION, save_quantised

PASSES = 2.8
"""Passes through a block for one round of statistics a stage: each ends where all has been seen."""
_COLUMN = 3e-4
"""Seconds that GPTQ takes for a column besides its arithmetic."""


class _Chosen(Config):
    quantization: QuantConfig


@dataclass(frozen=True)
class Estimate:
    """What the work will take, by the shapes alone and the speed of one matrix multiplication."""

    seconds: float
    bytes: int
    """Of memory besides the model: rows, statistics and what a layer takes while it is rounded."""
    weights: int
    """That will be in few bits."""


@dataclass(frozen=True)
class Quantised:
    """What came of it."""

    out: Path
    method: str
    settings: dict[str, Any]
    weights: int
    """That are in few bits now."""
    bits: float
    """A weight of the whole file takes, whatever stayed in floats included."""
    size: int
    """Bytes of the weights' file."""
    size_before: int
    seconds: float
    calibration: dict[str, Any] | None
    layers: tuple[LayerReport, ...]
    drift: tuple[float, ...]
    """How far the output of each block is off, as a share of its mean square; empty without calibration."""
    notes: tuple[str, ...]


def chosen(method: str, settings: Sequence[str] = ()) -> QuantConfig:
    """The configuration of a method by name (``awq+gptq``: AWQ, rounded by GPTQ) and ``key=value`` settings.

    Raises:
        UserError: no such method or setting.
    """
    name, _, rounding = method.partition("+")
    if name not in METHODS:
        raise UserError(
            "no such method", where="--method", value=method, hint=f"one of: {', '.join(METHODS)}"
        )
    values = {"method": name} | ({"rounding": rounding} if rounding else {})
    values = with_overrides(values, settings)
    return build(_Chosen, {"quantization": values}, where="command line").quantization


def run(
    model: Path | str,
    out: Path | str,
    config: QuantConfig,
    *,
    data: Sequence[str] = (),
    tokens: int = calibration.TOKENS,
    seed: int = 0,
    before: Callable[[Estimate, Calibration | None], None] = lambda estimate, text: None,
) -> Quantised:
    """Quantise a model and write the result as a checkpoint.

    Args:
        model: a run or checkpoint.
        out: the checkpoint to write.
        config: the method and its settings.
        data: calibration texts, or shards; by default the run's own training text. Unused by methods that
            look at weights alone.
        tokens: how many of them are read.
        seed: which rows are drawn.
        before: is told what it will take, before it begins.

    Raises:
        UserError: there is no such model, it is in few bits already, groups do not divide its layers, the
            calibration cannot be read, something is not finite, or something is at ``out`` already.
    """
    begun = time.monotonic()
    if Path(model).is_file():
        hint = "import it first: congling import"
        raise UserError("a file of another program is not quantised as it is", where=model, hint=hint)
    if Path(out).exists():
        raise UserError("there is something already", value=str(out), hint="choose another --out")
    loaded = load_checkpoint(model)
    if DESCRIPTION in loaded.checkpoint.files:
        raise UserError(
            "this model is in few bits already", value=str(model), hint="name the one it was made of"
        )
    sizes = linear_shapes(loaded.model.config)
    check_shapes(sizes, config)
    text = None
    if METHODS[config.method].calibrated:
        text = calibration.calibration(loaded, data, tokens=tokens, seed=seed)
    before(_estimate(loaded.model.config, sizes, text), text)
    with stage("quantising", total=len(loaded.model.blocks), unit="blocks") as progress:

        def step(done: float) -> None:
            progress.done += done

        blocks = quantise(loaded.model, config, () if text is None else _on_device(text, loaded), step)
    return _written(loaded, Path(out), config, text, blocks, begun)


def _on_device(text: Calibration, loaded: Loaded) -> list[Any]:
    device = loaded.model.embedding.weight.device
    return [tuple(None if part is None else part.to(device) for part in row) for row in text.rows]


def _written(
    loaded: Loaded,
    out: Path,
    config: QuantConfig,
    text: Calibration | None,
    blocks: Sequence[BlockReport],
    begun: float,
) -> Quantised:
    """Write the checkpoint, and tell what it is."""
    settings = config.model_dump(mode="json")
    known = loaded.checkpoint.facts
    facts = {key: known[key] for key in ("chat", "name", EXTENDED, EXTENSION) if key in known}
    layers = tuple(layer for block in blocks for layer in block.layers)
    found = outliers_found(loaded.model)
    notes = (*(() if found is None else (found,)), *_notes(text, blocks))
    made = settings | ({} if text is None else text.facts()) | ({"notes": list(notes)} if notes else {})
    facts |= loaded.reading.facts() | {FACT: made}
    parents = {"base": loaded.checkpoint}
    if text is not None and text.shards is not None:
        parents["shards"] = text.shards
    with artifact.writing(out, "checkpoint", parents=parents, facts=facts) as folder:
        save_quantised(loaded.model, folder, {FACT: made, "errors": [asdict(layer) for layer in layers]})
        words = artifact.opened(loaded.checkpoint.path / "tokenizer", "tokenizer")
        artifact.copy(words, folder / "tokenizer")
    sizes = linear_shapes(loaded.model.config)
    size = (out / "model.safetensors").stat().st_size
    dense = (loaded.checkpoint.path / "model.safetensors").stat().st_size
    values = _values(loaded.model.config)
    drift = tuple(block.drift for block in blocks if block.drift is not None)
    return Quantised(
        out,
        config.method,
        settings,
        sum(outputs * inputs for outputs, inputs in sizes.values()),
        8 * size / values,
        size,
        dense,
        time.monotonic() - begun,
        None if text is None else text.facts(),
        layers,
        drift,
        notes,
    )


def _notes(text: Calibration | None, blocks: Sequence[BlockReport]) -> tuple[str, ...]:
    """What was not done as asked: each sentence once, with the layers it is about."""
    found: dict[str, list[str]] = {}
    for block in blocks:
        for note in block.notes:
            found.setdefault(note, [])
        for layer in block.layers:
            for note in layer.notes:
                found.setdefault(note, []).append(layer.place)
    lines = []
    for note, places in found.items():
        lines.append(f"{some(places)}: {note}" if places else note)
    return (*(() if text is None else text.notes), *lines)


def _values(config: ModelConfig) -> int:
    """Weights of the whole model."""
    from congling.model.counts import parameters

    return parameters(config)


def _estimate(
    config: ModelConfig, sizes: Mapping[str, tuple[int, int]], text: Calibration | None
) -> Estimate:
    """Arithmetic over the measured speed of one matrix multiplication."""
    weights = sum(outputs * inputs for outputs, inputs in sizes.values())
    widest = max(inputs for _, inputs in sizes.values())
    if text is None:
        return Estimate(1e-8 * weights, 24 * max(o * i for o, i in sizes.values()), weights)
    grams = {(place.rpartition(".")[0], inputs) for place, (_, inputs) in sizes.items()}
    read = 2 * text.tokens * (PASSES * weights + sum(inputs**2 for _, inputs in grams))
    rounded = sum(3 * outputs * inputs**2 + 4 * inputs**3 for outputs, inputs in sizes.values())
    columns = sum(inputs for _, inputs in sizes.values())
    held = 4 * text.tokens * config.hidden_size + 40 * widest**2 + 40 * max(o * i for o, i in sizes.values())
    return Estimate((read + 2 * rounded) / _speed() + _COLUMN * columns, held, weights)


def _speed() -> float:
    """Float operations a second of a matrix multiplication of the size that blocks have."""
    size = 512
    left, right = torch.ones(size, size), torch.ones(size, size)
    torch.mm(left, right)
    begun = time.perf_counter()
    for _ in range(4):
        torch.mm(left, right)
    return 8 * size**3 / max(1e-6, time.perf_counter() - begun)
