"""Put a trained model in fewer bits: estimate, calibrate, quantise block by block, write a checkpoint."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from congling.core import artifact
from congling.core.artifact import Artifact
from congling.core.config import Config, build, with_overrides
from congling.core.errors import UserError
from congling.core.progress import stage
from congling.core.units import some
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.infer.reading import EXTENDED, EXTENSION
from congling.interop.source import locate_checkpoint
from congling.interop.stored_bits import stored_bits
from congling.methods import calibration
from congling.methods.calibration import Calibration
from congling.model.checkpoint import load_config
from congling.model.counts import linear_shapes, parameters
from congling.plan.corpus_facts import this_machine
from congling.plan.quantisation import QuantisationPlan, plan_quantisation
from congling.plan.quantised_formats import formats
from congling.quant.apply import BlockReport, LayerReport, check_shapes, quantise
from congling.quant.config import BASE_PATH, FACT, QuantConfig
from congling.quant.int8 import outliers_found
from congling.quant.methods import METHODS
from congling.quant.stored import DESCRIPTION, save_quantised
from congling.tokenizer import store
from congling.train.calibrate import matmul_peak


class _Chosen(Config):
    quantization: QuantConfig


@dataclass(frozen=True)
class Quantised:
    """What came of it."""

    out: Path
    method: str
    settings: dict[str, Any]
    weights: int
    """That are in few bits now."""
    bits: float
    """A weight of the whole file takes, whatever stayed in floats included, headers not."""
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


def plan(
    model: Path | str, config: QuantConfig, *, measure: bool = True
) -> tuple[QuantisationPlan, dict[str, str]]:
    """What putting a model in fewer bits will take and give, and by format why it does not hold the codes as
    they are (empty where it does); opens no weights.

    Args:
        model: a run or checkpoint.
        config: the method and its settings.
        measure: time a matrix multiplication here; else processors are taken to be slow ones.

    Raises:
        UserError: there is no such model, it is in few bits already, or groups do not divide its layers.
    """
    place = locate_checkpoint(model)
    shape, words = load_config(place), store.load(store.locate(place))
    _require_floats(artifact.opened(place, "checkpoint"))
    check_shapes(linear_shapes(shape), config)
    peak = _peak() if measure else this_machine().peak
    return plan_quantisation(shape, config, peak=peak), formats(shape, config, words.kind)


def run(
    model: Path | str,
    out: Path | str,
    config: QuantConfig,
    *,
    data: Sequence[str] = (),
    tokens: int = calibration.TOKENS,
    seed: int = 0,
    before: Callable[[QuantisationPlan, Calibration | None], None] = lambda plan, text: None,
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
    _require_floats(loaded.checkpoint)
    sizes = linear_shapes(loaded.model.config)
    check_shapes(sizes, config)
    text = None
    if METHODS[config.method].calibrated:
        text = calibration.calibration(loaded, data, tokens=tokens, seed=seed)
    tokens = 0 if text is None else text.tokens
    before(plan_quantisation(loaded.model.config, config, peak=_peak(), tokens=tokens), text)
    return _made(loaded, Path(out), config, text, begun)


def _require_floats(checkpoint: Artifact) -> None:
    if DESCRIPTION in checkpoint.files:
        hint = "name the one it was made of"
        raise UserError("this model is in few bits already", value=str(checkpoint.path), hint=hint)


def _peak() -> float:
    """Float32 operations a second of the processors, which do the work whatever device passes run on."""
    return matmul_peak(torch.device("cpu"), torch.float32, seconds=0.1)


def _on_device(text: Calibration, loaded: Loaded) -> list[Any]:
    device = loaded.model.embedding.weight.device
    return [tuple(None if part is None else part.to(device) for part in row) for row in text.rows]


def _made(
    loaded: Loaded, out: Path, config: QuantConfig, text: Calibration | None, begun: float
) -> Quantised:
    """Do it, and write the checkpoint; a place that cannot be written to is refused before the work."""
    settings = config.model_dump(mode="json")
    known = loaded.checkpoint.facts
    facts = {key: known[key] for key in ("chat", "name", EXTENDED, EXTENSION) if key in known}
    facts |= loaded.reading.facts() | {BASE_PATH: str(loaded.checkpoint.path)}
    parents = {"base": loaded.checkpoint}
    if text is not None and text.shards is not None:
        parents["shards"] = text.shards
    with artifact.writing(out, "checkpoint", parents=parents, facts=facts) as folder:
        with stage("quantising", total=len(loaded.model.blocks), unit="blocks") as progress:

            def step(done: float) -> None:
                progress.done += done

            blocks = quantise(loaded.model, config, () if text is None else _on_device(text, loaded), step)
        layers = tuple(layer for block in blocks for layer in block.layers)
        found = outliers_found(loaded.model)
        notes = (*(() if found is None else (found,)), *_notes(text, blocks))
        made = settings | ({} if text is None else text.facts()) | ({"notes": list(notes)} if notes else {})
        facts[FACT] = made
        save_quantised(loaded.model, folder, {FACT: made, "errors": [asdict(layer) for layer in layers]})
        words = artifact.opened(loaded.checkpoint.path / "tokenizer", "tokenizer")
        artifact.copy(words, folder / "tokenizer")
    sizes = linear_shapes(loaded.model.config)
    size = (out / "model.safetensors").stat().st_size
    dense = (loaded.checkpoint.path / "model.safetensors").stat().st_size
    drift = tuple(block.drift for block in blocks if block.drift is not None)
    return Quantised(
        out,
        config.method,
        settings,
        sum(outputs * inputs for outputs, inputs in sizes.values()),
        stored_bits(out).bits(parameters(loaded.model.config)),
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
