"""Teach a model which of two answers is better: DPO, IPO, ORPO, SimPO; or KTO on good and bad answers.

Reads rows with ``chosen`` and ``rejected`` answers (for ``kto`` also a ``label``), writes a run::

    congling dpo runs/sft --data pairs.jsonl --out runs/dpo
    congling dpo runs/sft --data pairs.jsonl --out runs/dpo preference.loss_type=simpo adapter.r=16
    congling dpo runs/sft --data rated.jsonl --out runs/kto preference.loss_type=kto

The same command goes on after an interruption.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from congling.core.errors import UserError
from congling.methods import tuning_recipe as recipes
from congling.methods.options import AsJson, Base, Data, Force, Fresh, Longer, Out, Resume, Settings
from congling.methods.tuning_recipe import TuningConfig, TuningRecipe, require_sound_table
from congling.train.objectives.config import PreferenceConfig

if TYPE_CHECKING:
    from congling.core.console import Console
    from congling.data.tuning.examples import Example
    from congling.methods.base_model import OpenedBase
    from congling.methods.session import MethodSpec, Session, Tuned

LR_SCALE = 0.2
"""Share of the rate of ``sft``: the answers are the model's own kind, and little has to move."""


class PreferenceRecipe(TuningRecipe):
    """A tuning recipe with a ``[preference]`` table."""

    preference: PreferenceConfig = PreferenceConfig()


class PreferenceRunConfig(TuningConfig):
    """All that determines the run, besides base and data."""

    preference: PreferenceConfig


def command(
    base: Base,
    settings: Settings = None,
    data: Data = None,
    out: Out = Path("dpo"),
    resume: Resume = False,
    longer: Longer = None,
    fresh: Fresh = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on preferences."""
    from congling.core.console import Console
    from congling.methods.ending import show_end
    from congling.methods.fresh import begin_anew

    recipe = read_recipe(settings or [], data or [])
    begin_anew(out, base, *recipe.data.sources, fresh=fresh, resume=resume, longer=longer)
    tuned = run(base, recipe, out, console=Console(), must_resume=resume, longer=longer, force=force)
    show_end(tuned, as_json=as_json)


def read_recipe(settings: Sequence[str], data: Sequence[str]) -> PreferenceRecipe:
    """See :func:`congling.methods.tuning_recipe.read_recipe`.

    Raises:
        UserError: settings and data do not fit, or there is no data.
    """
    return recipes.read_recipe(PreferenceRecipe, settings, data)


def run(
    base: Path | str,
    recipe: PreferenceRecipe,
    out: Path | str,
    *,
    console: "Console | None" = None,
    must_resume: bool = False,
    longer: str | None = None,
    force: bool = False,
) -> "Tuned":
    """Train to the end, or go on from the newest checkpoint in ``out``.

    Args:
        base: a GGUF file, a checkpoint, or what leads to one; best one that was tuned on answers.
        recipe: data, preference, adapter, training.
        out: the run directory.
        console: where to show what is planned; ``None`` is quiet.
        must_resume: fail where there is nothing to go on from.
        longer: by how much the run that is there is to end later, such as ``30m`` or ``2000steps``.
        force: train even though a check found an error.

    Raises:
        UserError: base or data cannot be used, a check found an error, or ``out`` holds another run.
        Interrupted: Ctrl-C; the state is saved.
    """
    from congling.methods import preferences as shared
    from congling.methods.base_model import open_base
    from congling.methods.tuning import tune
    from congling.methods.tuning_facts import facts_of

    require_sound_table(recipe)
    opened = open_base(base)
    rows = _read(recipe, opened)
    facts = facts_of(opened, _examples(rows.train), _examples(rows.validation), rows.findings, recipe.adapter)
    config = shared.filled_in(
        PreferenceRunConfig,
        recipe,
        facts,
        len(rows.train),
        sides=2,
        gentleness=LR_SCALE,
        preference=recipe.preference,
    )
    _require_enough(config, len(rows.train))
    noun = "rated answer" if config.preference.loss_type == "kto" else "preference"
    return tune(
        opened,
        config,
        facts,
        out,
        console=console,
        must_resume=must_resume,
        longer=longer,
        force=force,
        recipe=recipe,
        method="dpo",
        noun=noun,
        rows=(len(rows.train), len(rows.validation)),
        work=lambda session: _work(session, config, rows),
        show=shared.shown(noun, rows, facts, config, detail=f" ({config.preference.loss_type})"),
    )


def _read(recipe: PreferenceRecipe, opened: "OpenedBase") -> Any:
    from congling.data.tuning import preferences
    from congling.plan.tuning_plan import context_of

    read = preferences.read_rated if recipe.preference.loss_type == "kto" else preferences.read_pairs
    return read(recipe.data, opened.tokenizer, context_of(recipe.train, opened.model))


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


def _examples(rows: Sequence[Any]) -> "list[Example]":
    """The sequences of pairs, or of rated answers."""
    return [example for row in rows for example in (row if isinstance(row, tuple) else (row.example,))]


def _work(session: "Session", config: PreferenceRunConfig, rows: Any) -> "MethodSpec":
    """Batches over the rows, with what the base says of each answer, and the loss of the preference."""
    from congling.evals.answers import answers
    from congling.methods import preferences as shared
    from congling.methods.session import MethodSpec, fingerprint
    from congling.train.objectives.preference import preference
    from congling.train.runs.metrics import MetricScales

    train, tokenizer = config.train, session.opened.tokenizer
    batcher = _rated_batches if config.preference.loss_type == "kto" else _pair_batches
    batches, objective = batcher(session, config, rows.train), preference(config.preference)
    evaluate = sample = None
    # KTO's drift needs answers to other prompts, so one held-out answer alone cannot be scored.
    if len(rows.validation) > (config.preference.loss_type == "kto"):
        fixed = batcher(session, config, rows.validation)
        parts = shared.in_order(fixed, train.per_device_train_batch_size, len(rows.validation))
        evaluate = shared.held_out(parts, objective, session.backend.to_device)
    if rows.questions:
        sample = answers(tokenizer, rows.questions, train)
    labels = [str(row.good) for row in (*rows.train, *rows.validation) if not isinstance(row, tuple)]
    data = fingerprint(_examples((*rows.train, *rows.validation)), *labels)
    yardsticks = MetricScales(loss_unit=f"{config.preference.loss_type} loss", counted="rows")
    return MethodSpec(batches, objective, data, evaluate=evaluate, sample=sample, yardsticks=yardsticks)


def _pair_batches(session: "Session", config: PreferenceRunConfig, pairs: Sequence[Any]) -> Any:
    from congling.data.tuning.pair_batches import PairBatches

    reference = _reference(session, config, _examples(pairs)) if config.preference.refers else None
    return PairBatches(pairs, **_sizes(session, config), reference=reference)


def _rated_batches(session: "Session", config: PreferenceRunConfig, rated: Sequence[Any]) -> Any:
    from congling.data.tuning.kl_examples import kl_examples
    from congling.data.tuning.pair_batches import RatedBatches

    others = kl_examples(rated, config.train.max_length)
    reference = _reference(session, config, [*_examples(rated), *others])
    return RatedBatches(rated, others, **_sizes(session, config), reference=reference)


def _reference(session: "Session", config: PreferenceRunConfig, examples: "Sequence[Example]") -> Any:
    from congling.train.rl.reference import reference_sums

    return reference_sums(
        session.model,
        examples,
        context=config.train.max_length,
        pad=session.opened.tokenizer.pad_id,
        place=session.backend.to_device,
    )


def _sizes(session: "Session", config: PreferenceRunConfig) -> dict[str, int]:
    train = config.train
    return {
        "context": train.max_length,
        "rows": train.per_device_train_batch_size,
        "accumulation": train.gradient_accumulation_steps,
        "seed": train.seed,
        "pad": session.opened.tokenizer.pad_id,
    }
