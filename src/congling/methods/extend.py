"""A longer context for a trained model, without training: positions are stretched, the loss is measured."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from congling.core import artifact
from congling.core.errors import UserError
from congling.core.output import refuse_existing, refuse_inputs
from congling.interop import checkpoint_directory
from congling.interop.foreign import ForeignModel
from congling.interop.targets import TARGETS, Target, obstacles
from congling.methods import extension_inputs, ramps
from congling.methods.extension_inputs import CURVE, FACT, HeldOut, OpenedModel
from congling.methods.ramps import Line
from congling.model.build_positions import build_positions
from congling.model.config import ModelConfig, RotaryConfig
from congling.model.frequencies import magnitude, rotary_frequencies
from congling.model.initial import initialise
from congling.model.lazy import LazyTensors
from congling.model.positions_words import positions_in_words
from congling.model.rope_scaling import ClexScaling
from congling.report.checkpoint_content import content_of_checkpoint
from congling.report.next_steps import Step
from congling.report.pages import write_content
from congling.transform.extend import Method, extended, needless


@dataclass(frozen=True)
class Extended:
    """What came of it."""

    out: Path
    method: str
    """``none`` where positions need no stretching."""
    factor: float
    trained: int
    """Tokens that the model was trained on."""
    context: int
    positions: str
    """In words."""
    pairs: tuple[int, int, int] | None
    """Pairs of channels that turn as before, in between, and slower by the whole factor; None where that
    depends on the length or on factors that were given."""
    magnitude: float
    """What cosines and sines are multiplied by."""
    targets: tuple[str, ...]
    """Formats that can hold it."""
    notes: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    """Losses on held-out text, where there was one."""
    verdict: str = ""
    """What they say, in a sentence."""
    report: Path | None = None
    steps: tuple[Step, ...] = ()


def run(
    base: Path | str,
    out: Path | str,
    *,
    context: int,
    method: Method = "yarn",
    factor: float | None = None,
    beta: tuple[float, float] | None = None,
    attention_factor: float | None = None,
    factors: Path | str | None = None,
    search: bool = False,
    to: Target | None = None,
    shards: Path | str | None = None,
    data: Sequence[str] = (),
    seed: int = 0,
) -> Extended:
    """Stretch the positions of a model and write it as a checkpoint.

    Args:
        base: a run, a checkpoint, or a model of another program; a quantised one is written unpacked.
        out: the checkpoint to write.
        context: tokens that it is to read.
        method: see :mod:`congling.transform.extend`, also for ``factor``, ``beta`` and ``attention_factor``.
        factors: of longrope: a JSON file, see :func:`congling.methods.extension_inputs.read_factors`.
        search: try ramps of yarn on held-out text, and take the best.
        to: a target that must be able to hold what is made.
        shards: held-out text in the model's tokens; in a search by default those beside the run.
        data: files of held-out texts instead.
        seed: draws the parameters that CLEX adds, and the texts of ``data``.

    Raises:
        UserError: the model cannot be opened or extended so, the target cannot hold it, the text is missing,
            unreadable or too short, or something is at ``out``.
    """
    base, out = Path(base), Path(out)
    refuse_existing(out)
    refuse_inputs(out, base, shards, factors, *data)
    if search and (method != "yarn" or beta is not None):
        raise UserError("--search tries the ramps of yarn", hint="leave out --beta and other methods")
    if shards is not None and data:
        raise UserError("--shards and --data are two texts", hint="leave one out")
    opened = extension_inputs.open_model(base, method)
    given = None if factors is None else extension_inputs.read_factors(factors)
    values: dict[str, Any] = {"factor": factor, "attention_factor": attention_factor}
    config = extended(opened.plain, method, context, beta=beta, factors=given, **values)
    text, lines = None, list[Line]()
    search = search and not needless(opened.plain)
    if search or shards is not None or data:
        ways = {positions_in_words(config.positions): config}
        if search:
            ways = ramps.candidates(opened.plain, context, lambda one: _held(opened, one, to), **values)
        text, lines = _compared(opened, ways, context, shards, data, seed)
        config = ways[ramps.best(lines).name] if search else config
    _refuse_unheld(opened, config, to)
    result = _result(out, opened, config, method, text, lines, search)
    return _written(opened, config, result, text, seed)


def _written(
    opened: OpenedModel, config: ModelConfig, result: Extended, text: HeldOut | None, seed: int
) -> Extended:
    """The checkpoint with its report."""
    parents = {} if opened.artifact is None else {"base": opened.artifact}
    parents |= {} if text is None or text.shards is None else {"shards": text.shards}
    facts = _facts(opened, result, text)
    base = opened.artifact
    words = None if base is None else artifact.opened(base.path / "tokenizer", "tokenizer")
    with artifact.writing(result.out, "checkpoint", parents=parents, facts=facts) as folder:
        checkpoint_directory.write(_with_positions(opened.model, config, seed), folder, words)
    described = content_of_checkpoint(artifact.opened(result.out, "checkpoint"))
    return replace(result, report=write_content(described, result.out / "report"), steps=described.steps)


def _refuse_unheld(opened: OpenedModel, config: ModelConfig, to: Target | None) -> None:
    if to is not None and (found := obstacles(config, opened.tokenizer.kind, to)):
        raise UserError(f"{to} cannot hold this: {found[0].what}", hint=found[0].nearest)


def _held(opened: OpenedModel, config: ModelConfig, to: Target | None) -> bool:
    return to is None or not obstacles(config, opened.tokenizer.kind, to)


def _compared(
    opened: OpenedModel,
    ways: dict[str, ModelConfig],
    context: int,
    shards: Path | str | None,
    data: Sequence[str],
    seed: int,
) -> tuple[HeldOut, list[Line]]:
    """The text, and what each way to read it costs; the text is asked for before the weights are read."""
    text = None if data else extension_inputs.of_shards(opened, context, shards)
    read = extension_inputs.loaded(opened)
    text = text or extension_inputs.of_files(read, context, data, seed)
    return text, ramps.compared(read.model, opened.plain, ways, text.windows, context)


def _with_positions(model: ForeignModel, config: ModelConfig, seed: int) -> ForeignModel:
    """The same weights; of CLEX its curve is added, drawn by the seed, where there is none."""
    rotary = config.positions if isinstance(config.positions, RotaryConfig) else None
    if rotary is None or not isinstance(rotary.rope_scaling, ClexScaling):
        names = [name for name in model.weights if name not in CURVE]
        return replace(model, config=config, weights=LazyTensors(names, model.weights.__getitem__))
    if CURVE[0] in model.weights:
        return replace(model, config=config)
    curve = _Curve(config)
    initialise(curve, seed)
    added = curve.state_dict()

    def tensor(name: str) -> Tensor:
        return added[name] if name in added else model.weights[name]

    return replace(model, config=config, weights=LazyTensors([*model.weights, *added], tensor))


class _Curve(nn.Module):
    """What a transformer has of CLEX, under the same names."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.positions = config, build_positions(config)


def _facts(opened: OpenedModel, result: Extended, text: HeldOut | None) -> dict[str, Any]:
    """What the checkpoint says of itself: what its base said that still holds, and how it was extended."""
    known = opened.model.facts
    kept = {key: known[key] for key in ("name", "chat", "source", "notes") if key in known}
    if opened.artifact is None:
        kept["source"] = {"format": opened.source.kind, "file": opened.source.path.name}
    reading = opened.reading
    told: dict[str, Any] = {
        "method": result.method,
        "factor": result.factor,
        "from": result.trained,
        "to": result.context,
        "positions": opened.plain.positions.model_dump(mode="json"),
        "base": str(opened.source.path),
    }
    if text is not None:
        told["measured"] = {
            "text": text.name,
            "shards": None if text.shards is None else str(text.shards.path),
            "windows": len(text.windows),
            "lines": [asdict(line) for line in result.lines],
            "verdict": result.verdict,
        }
    return kept | (reading.facts() if reading else {}) | {"context": result.context, FACT: told}


def _result(
    out: Path,
    opened: OpenedModel,
    config: ModelConfig,
    method: Method,
    text: HeldOut | None,
    lines: Sequence[Line],
    search: bool,
) -> Extended:
    trained, kind = opened.plain.max_position_embeddings, opened.tokenizer.kind
    stretched = config.positions != opened.plain.positions
    factor = ramps.factor_of(config, opened.plain) if stretched else 1.0
    needed = config.max_position_embeddings / trained
    notes = [*opened.notes, *(text.notes if text is not None else ())]
    if not stretched:
        notes.append("tokens look no further back than they were trained to: positions stay as they are")
    elif factor > needed * (1 + 1e-9):
        notes.append(f"a factor of {needed:g} suffices: a larger one costs short texts more")
    for target in TARGETS:
        found = obstacles(config, kind, target)
        if found and not obstacles(opened.plain, kind, target):
            notes.append(f"{target} held the base and cannot hold this: {found[0].what}; {found[0].nearest}")
    scaling = config.positions.rope_scaling if isinstance(config.positions, RotaryConfig) else None
    return Extended(
        out,
        method if stretched else "none",
        factor,
        trained,
        config.max_position_embeddings,
        positions_in_words(config.positions),
        _pairs(config, opened.plain, factor),
        magnitude(scaling),
        tuple(target for target in TARGETS if not obstacles(config, kind, target)),
        tuple(notes),
        tuple(lines),
        ramps.verdict(lines, trained, len(text.windows), search) if text is not None else "",
    )


def _pairs(config: ModelConfig, plain: ModelConfig, factor: float) -> tuple[int, int, int] | None:
    """How many pairs of channels turn as before, in between, and ``factor`` times slower."""
    before, after, width = plain.positions, config.positions, config.attention.head_dim
    if not isinstance(before, RotaryConfig) or not isinstance(after, RotaryConfig) or before == after:
        return None
    if config.depends_on_length or (after.rope_scaling and after.rope_scaling.rope_type == "longrope"):
        return None
    turned = before.rotary_dim(width) // 2
    slower = rotary_frequencies(before, width)[:turned] / rotary_frequencies(after, width)[:turned]
    same, whole = int((slower < 1 + 1e-5).sum()), int((slower > factor * (1 - 1e-5)).sum())
    return same, turned - same - whole, whole
