"""What ``extend`` reads: the model as it was before any extension, factors in a file, held-out text."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from congling.core import artifact, files
from congling.core.artifact import Artifact
from congling.core.config import Config, build
from congling.core.errors import UserError
from congling.core.numbers import finite, whole
from congling.data.shards import open_shards
from congling.evals.bench import Bench
from congling.evals.likelihood import text_ids
from congling.evals.score_tables import problem_lines
from congling.infer.checkpoints import Loaded
from congling.infer.reading import Reading, reading_of
from congling.interop import adapter_directory, formats
from congling.interop.assembly import transformer
from congling.interop.foreign import ForeignModel
from congling.interop.source import Source, source_of
from congling.methods import ramps
from congling.methods.evaluation import beside
from congling.methods.ramps import Windows
from congling.model.config import ModelConfig, Positions
from congling.model.lazy import LazyTensors
from congling.tokenizer.base import Tokenizer
from congling.transform.extend import Factors, Method, unscaled

FACT = "extended"
"""What an extended checkpoint says of itself."""
CURVE = ("positions.up", "positions.down")
"""Parameters that CLEX adds."""
DOCUMENTS = 256
"""Texts of files that are looked at."""


@dataclass(frozen=True)
class OpenedModel:
    """A model to extend."""

    source: Source
    model: ForeignModel
    """Its configuration is that before an earlier extension, where weights have not been trained since."""
    tokenizer: Tokenizer
    plain: ModelConfig
    """Without any scaling, and the trained length as its context."""
    artifact: Artifact | None
    """Of a checkpoint."""
    notes: tuple[str, ...]

    @property
    def reading(self) -> Reading | None:
        """How a checkpoint's rows were read in training."""
        return None if self.artifact is None else reading_of(self.artifact, self.plain)


@dataclass(frozen=True)
class HeldOut:
    """Windows of held-out text, and where they come from."""

    windows: Windows
    name: str
    shards: Artifact | None = None
    notes: tuple[str, ...] = ()


class _Kept(Config):
    """What an extended checkpoint remembers of its base."""

    positions: Positions


def open_model(path: Path | str, method: Method) -> OpenedModel:
    """Open a model in any format; one that was extended and not trained since is taken back to its base.

    Raises:
        UserError: there is none, it is damaged, has no tokenizer, is an adapter, or has a scaling that the
            method cannot go on from.
    """
    source = source_of(path)
    if source.is_adapter:
        base = adapter_directory.facts(source.path).get("base_path") if source.kind == "adapter" else None
        hint = f"extend its base{f': {base}' if isinstance(base, str) else ''}, and train an adapter on that"
        raise UserError("an adapter has no positions of its own", value=str(path), hint=hint)
    model = replace(formats.read_model(source), layers={})
    if model.tokenizer is None:
        hint = f"import it with one first: congling import {path} --tokenizer FILE --out base"
        raise UserError("this model has no tokenizer, and a checkpoint needs one", value=str(path), hint=hint)
    own = source.kind in ("run", "checkpoint")
    found = artifact.opened(source.model.path, "checkpoint") if own else None
    notes = [f"weights of {source.path.name} are written unpacked"] if model.facts.get("types") else []
    # What was trained since keeps the fact, but its weights may rely on the positions they were trained with.
    if (told := model.facts.get(FACT)) is not None and "step" not in model.facts:
        model = _before(model, told, source.path)
        notes.append(f"it was extended before ({told['method']}): that is replaced, not added to")
    plain = unscaled(model.config, method)
    if plain != model.config:
        said = f"its scaling is replaced, from the {plain.max_position_embeddings:,} tokens it was trained on"
        notes.append(said)
    assert model.tokenizer is not None
    return OpenedModel(source, model, model.tokenizer, plain, found, tuple(notes))


def _before(model: ForeignModel, told: Any, where: Path) -> ForeignModel:
    """The model that an extended checkpoint was made of: its weights are the same.

    Raises:
        UserError: the checkpoint does not say what that was.
    """
    trained = whole(told.get("from")) if isinstance(told, dict) else None
    if not trained or not isinstance(told.get("positions"), dict) or "method" not in told:
        what = "this checkpoint does not say what it was extended from"
        raise UserError(what, where=where, hint="extend the model it was made of")
    kept = build(_Kept, {"positions": told["positions"]}, where=where, recorded=True)
    values = model.config.model_dump()
    values |= {"max_position_embeddings": trained, "positions": kept.positions.model_dump()}
    names = [name for name in model.weights if name not in CURVE]
    config = build(ModelConfig, values, where=where, recorded=True)
    return replace(model, config=config, weights=LazyTensors(names, model.weights.__getitem__))


def read_factors(path: Path | str) -> Factors:
    """Factors of longrope in a JSON file: a table of ``short_factor`` and ``long_factor`` (as in a
    ``config.json``), or one list for texts of every length.

    Raises:
        UserError: the file cannot be read, or holds no such numbers.
    """
    try:
        found: Any = json.loads(files.text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot be read as JSON ({type(error).__name__})", where=path) from None
    table = found if isinstance(found, dict) else {"short_factor": found, "long_factor": found}
    lists = [table.get(name) for name in ("short_factor", "long_factor")]
    if not all(isinstance(one, list) and one and all(finite(value) for value in one) for one in lists):
        hint = '{"short_factor": [1.0, …], "long_factor": [1.0, …]}, or one list, of a number a pair'
        raise UserError("there are no factors in this file", where=path, hint=hint)
    short, long = (tuple(float(value) for value in one or ()) for one in lists)
    return Factors(short, long)


def loaded(opened: OpenedModel) -> Loaded:
    """The model with its weights read, on the first GPU where there is one.

    Raises:
        UserError: its tensors are not those of its configuration.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    unknown = Artifact(opened.source.path, opened.source.kind, "", {}, {}, {})
    return Loaded(transformer(opened.model, device), opened.tokenizer, opened.artifact or unknown)


def of_shards(opened: OpenedModel, context: int, shards: Path | str | None) -> HeldOut:
    """Windows of the validation split of shards, by default of those beside the run; ``test`` stays unseen.

    Raises:
        UserError: there are none, they are damaged, of another tokenizer, or no document is long enough.
    """
    place = shards
    if place is None:
        place = None if opened.artifact is None else beside(opened.artifact.path, "shards")
    if place is None:
        hint = "name it with --data FILE or --shards DIR"
        raise UserError("ramps are compared on held-out text, and none is beside the model", hint=hint)
    found = open_shards(place, tokenizer=opened.tokenizer, verify=True)
    name = "validation" if len(found["validation"].tokens) else "train"
    split = found[name]
    texts = [split.document(index) for index in range(split.documents)]
    notes = () if name == "validation" else ("nothing is held out: losses are those of the training text",)
    return HeldOut(ramps.cut(texts, context), f"{place}, {name}", found.artifact, notes)


def of_files(read: Loaded, context: int, data: Sequence[str], seed: int) -> HeldOut:
    """Windows of texts in files, of which at most some hundred are drawn by the seed.

    Raises:
        UserError: a file cannot be read, holds no text, or no text is long enough.
    """
    bench = Bench(read, files=tuple(data), limit=DOCUMENTS, seed=seed)
    texts = [text_ids(read.tokenizer, document.text) for document in bench.held_out()]
    return HeldOut(ramps.cut(texts, context), " ".join(data), None, tuple(problem_lines(bench.findings)))
