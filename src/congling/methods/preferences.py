"""Training on preferences: DPO, IPO, ORPO and SimPO on pairs of answers, KTO on good and bad ones.

::

    pairs ─ both answers in one micro-batch ─ log-probabilities ─┬─ the preference's loss
    base  ─ reference log-probabilities, once, before the start ─┘

What reward models share with them is here too: settings, held-out numbers, and what is shown.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, Unpack

import numpy as np
import torch

from congling.core.console import Console
from congling.core.diagnosis import Diagnosis
from congling.core.errors import UserError
from congling.data.tuning import preferences
from congling.data.tuning.examples import Example
from congling.data.tuning.kl_examples import kl_examples
from congling.data.tuning.pair_batches import PairBatches, RatedBatches
from congling.data.tuning.row_reader import SplitRows
from congling.evals.answers import answers
from congling.methods import recipes, tuning
from congling.methods.ending import show_rows, show_work
from congling.methods.recipes import PreferenceRecipe, PreferenceRunConfig, TuningConfig, TuningRecipe
from congling.methods.session import MethodSpec, Session, Tuned, fingerprint
from congling.methods.tuning import Prepared, RunOptions, Show, begin, facts_of, tune
from congling.plan import tuning_plan
from congling.plan.tuning_plan import TuningFacts, context_of
from congling.train.loop import Objective
from congling.train.objectives.preference import preference
from congling.train.rl.reference import reference_sums
from congling.train.runs.metrics import MetricScales

LR_SCALE = 0.2
"""Share of the learning rate of ``sft``: the answers are the model's own kind, and little has to move."""
STEP_PAIRS, LEAST_PAIRS = 32, 8
"""Most and fewest rows of a step, where nobody asks for others; a fiftieth of the data in between."""
C = TypeVar("C", bound=TuningConfig)

read_recipe = partial(recipes.read_recipe, PreferenceRecipe)
"""Settings and data files to a recipe; see :func:`congling.methods.recipes.read_recipe`."""


def run(base: Path | str, recipe: PreferenceRecipe, out: Path | str, **options: Unpack[RunOptions]) -> Tuned:
    """Train to the end, or go on from the newest checkpoint in ``out``.

    Args:
        base: a GGUF file, a checkpoint, or what leads to one; best one that was tuned on answers.
        recipe: data, preference, adapter, training.
        out: the run directory.
        options: how it is begun or gone on with.

    Raises:
        UserError: base or data cannot be used, a check found an error, or ``out`` holds another run.
        Interrupted: Ctrl-C; the state is saved.
    """
    opened, loss_type = begin(base, recipe, out, options), recipe.preference.loss_type
    read = preferences.read_rated if loss_type == "kto" else preferences.read_pairs
    rows: SplitRows[Any] = read(
        recipe.data, opened.tokenizer, context_of(recipe.train, opened.model, opened.trained_length)
    )
    facts = facts_of(
        opened, examples_of(rows.train), examples_of(rows.validation), rows.findings, recipe.adapter
    )
    config = decided(PreferenceRunConfig, recipe, facts, len(rows.train), lr_scale=LR_SCALE)
    _require_enough(config, len(rows.train))
    noun = "rated answer" if loss_type == "kto" else "preference"
    counts = (len(rows.train), len(rows.validation))
    prepared = Prepared("dpo", noun, opened, recipe, config, facts, counts)
    return tune(
        prepared,
        out,
        spec=lambda session: _spec(session, config, rows),
        show=shown(noun, rows, facts, config, detail=f" ({loss_type})"),
        options=options,
    )


def _require_enough(config: PreferenceRunConfig, rows: int) -> None:
    """KTO compares answers with those to other prompts of the batch.

    Raises:
        UserError: there is no other.
    """
    if config.preference.loss_type == "kto" and (rows < 2 or config.train.per_device_train_batch_size < 2):
        raise UserError(
            "kto needs at least two answers in a micro-batch",
            value=config.train.per_device_train_batch_size,
            hint="raise train.per_device_train_batch_size, or take another preference.loss_type",
        )


def _spec(session: Session, config: PreferenceRunConfig, rows: SplitRows[Any]) -> MethodSpec:
    """Batches over the rows, with what the base says of each answer, and the loss of the preference."""
    loss_type, objective = config.preference.loss_type, preference(config.preference)
    batches = _batches(session, config, rows.train)
    evaluate = sample = None
    # KTO's drift needs answers to other prompts, so one held-out answer alone cannot be scored.
    if len(rows.validation) > (loss_type == "kto"):
        evaluate = held_out(session, _batches(session, config, rows.validation), rows.validation, objective)
    if rows.questions:
        sample = answers(session.opened.tokenizer, rows.questions, config.train)
    labels = [str(row.good) for row in (*rows.train, *rows.validation) if not isinstance(row, tuple)]
    return MethodSpec(
        batches,
        objective,
        fingerprint(examples_of((*rows.train, *rows.validation)), *labels),
        evaluate=evaluate,
        sample=sample,
        scales=MetricScales(loss_unit=f"{loss_type} loss", counted="rows"),
    )


def _batches(session: Session, config: PreferenceRunConfig, rows: Sequence[Any]) -> Any:
    """Batches of pairs, or of rated answers, with their log-probabilities for the base where they count."""
    train = config.train

    def reference(examples: Sequence[Example]) -> np.ndarray:
        pad, place = session.opened.tokenizer.pad_id, session.backend.to_device
        return reference_sums(session.model, examples, context=train.max_length, pad=pad, place=place)

    if config.preference.loss_type == "kto":
        others = kl_examples(rows, train.max_length)
        known = reference([*examples_of(rows), *others])
        return RatedBatches(rows, others, **session.batching, reference=known)
    known = reference(examples_of(rows)) if config.preference.refers else None
    return PairBatches(rows, **session.batching, reference=known)


def decided(kind: type[C], recipe: TuningRecipe, facts: TuningFacts, rows: int, *, lr_scale: float) -> C:
    """The configuration of a run over pairs or answers; see :func:`congling.methods.tuning.decided`."""
    train = dict(recipe.train)
    if not train.keys() & {"per_device_train_batch_size", "gradient_accumulation_steps"}:
        step = min(STEP_PAIRS, max(LEAST_PAIRS, rows // tuning_plan.UPDATES), max(1, rows))
        each = max(1, min(step, tuning_plan.MICRO_TOKENS // (2 * facts.longest)))
        train |= {
            "per_device_train_batch_size": each,
            "gradient_accumulation_steps": max(1, round(step / each)),
        }

    def steps_per_epoch(context: int, each: int, accumulation: int) -> float:
        return rows / (each * accumulation)

    return tuning.decided(kind, recipe, facts, train, steps_per_epoch, lr_scale=lr_scale)


def held_out(
    session: Session, batches: Any, rows: Sequence[Any], objective: Objective
) -> Callable[[Any], Mapping[str, float]]:
    """Model to the means over held-out rows of everything the objective measures."""
    size = session.config.train.per_device_train_batch_size
    starts = range(0, len(rows), size)
    parts = [batches.batch(np.arange(start, min(start + size, len(rows)))) for start in starts]

    @torch.no_grad()
    def evaluate(model: Any) -> Mapping[str, float]:
        names: dict[str, None] = {}

        def measure(part: Any) -> Sequence[float]:
            metrics = objective(model, session.backend.to_device(part)).metrics
            names.update(dict.fromkeys(metrics))
            return [float(value) for value in metrics.values()]

        sums = map(sum, zip(*session.backend.each_part(measure, parts), strict=True))
        count = sum(part.count for part in parts)
        return {name: value / count for name, value in zip(names, sums, strict=False)}

    return evaluate


def examples_of(rows: Iterable[Any]) -> list[Example]:
    """The sequences of pairs, the better answer before the worse, or of rated answers."""
    return [example for row in rows for example in (row if isinstance(row, tuple) else (row.example,))]


def shown(
    noun: str, rows: SplitRows[Any], facts: TuningFacts, config: TuningConfig, detail: str = ""
) -> Show:
    """What a run over such rows says before it starts; ``detail`` stands behind the rows of a step."""

    def show(session: Session, findings: Sequence[Diagnosis], console: Console) -> None:
        show_rows(len(rows.train), len(rows.validation), noun, rows.findings, console)
        train = session.config.train  # its steps may be more than those it was begun with
        show_work(
            f"{train.per_device_train_batch_size * train.gradient_accumulation_steps} {noun}s{detail}",
            facts,
            train,
            session.learnt,
            adapter=config.adapter is not None,
            console=console,
            findings=findings,
        )

    return show
