"""Train a model that gives an answer a number, from pairs of which one is better: a judge for ``ppo``.

Reads rows with ``chosen`` and ``rejected`` answers, writes a run whose checkpoints have a scalar head::

    congling reward runs/sft --data pairs.jsonl --out runs/judge
    congling reward runs/sft --data pairs.jsonl --data more.jsonl --out runs/judge train.max_steps=300
    congling ppo runs/sft --data prompts.jsonl --reward runs/judge --out runs/ppo

The same command goes on after an interruption.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeFloat

from congling.core.config import Config
from congling.core.errors import UserError
from congling.methods import tuning_recipe as recipes
from congling.methods.options import AsJson, Base, Data, Force, Fresh, Longer, Out, Resume, Settings
from congling.methods.tuning_recipe import TuningConfig, TuningRecipe, require_sound_table

if TYPE_CHECKING:
    from congling.core.console import Console
    from congling.methods.session import MethodSpec, Session, Tuned

LR_SCALE = 0.5
"""Share of the rate of ``sft``."""


class RewardConfig(Config):
    """Table ``[reward]``."""

    center_rewards_coefficient: NonNegativeFloat = 0.01
    """How strongly rewards are kept around zero."""


class RewardRecipe(TuningRecipe):
    """A tuning recipe with a ``[reward]`` table."""

    reward: RewardConfig = RewardConfig()


class RewardRunConfig(TuningConfig):
    """All that determines the run, besides base and data."""

    reward: RewardConfig


def command(
    base: Base,
    settings: Settings = None,
    data: Data = None,
    out: Out = Path("reward"),
    resume: Resume = False,
    longer: Longer = None,
    fresh: Fresh = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a reward model on preferences."""
    from congling.core.console import Console
    from congling.methods.ending import show_end
    from congling.methods.fresh import begin_anew

    recipe = read_recipe(settings or [], data or [])
    begin_anew(out, base, *recipe.data.sources, fresh=fresh, resume=resume, longer=longer)
    tuned = run(base, recipe, out, console=Console(), must_resume=resume, longer=longer, force=force)
    show_end(tuned, as_json=as_json)


def read_recipe(settings: Sequence[str], data: Sequence[str]) -> RewardRecipe:
    """See :func:`congling.methods.tuning_recipe.read_recipe`.

    Raises:
        UserError: settings and data do not fit, or there is no data.
    """
    return recipes.read_recipe(RewardRecipe, settings, data)


def run(
    base: Path | str,
    recipe: RewardRecipe,
    out: Path | str,
    *,
    console: "Console | None" = None,
    must_resume: bool = False,
    longer: str | None = None,
    force: bool = False,
) -> "Tuned":
    """Train to the end, or go on from the newest checkpoint in ``out``.

    Args:
        base: a checkpoint, or what leads to one.
        recipe: data, reward, training.
        out: the run directory.
        console: where to show what is planned; ``None`` is quiet.
        must_resume: fail where there is nothing to go on from.
        longer: by how much the run that is there is to end later, such as ``30m`` or ``2000steps``.
        force: train even though a check found an error.

    Raises:
        UserError: base or data cannot be used, a check found an error, or ``out`` holds another run.
        Interrupted: Ctrl-C; the state is saved.
    """
    from congling.data.tuning import preferences
    from congling.methods import preferences as shared
    from congling.methods.base_model import open_base
    from congling.methods.tuning import tune
    from congling.methods.tuning_facts import facts_of
    from congling.plan import tuning_plan

    require_sound_table(recipe)
    opened = open_base(base)
    if opened.packed or recipe.adapter is not None:
        hint = "name a run or checkpoint, and no adapter; a GGUF file is imported first"
        raise UserError("a reward model is trained whole", value=str(base), hint=hint)
    rows = preferences.read_pairs(
        recipe.data, opened.tokenizer, tuning_plan.context_of(recipe.train, opened.model)
    )
    train, held_out = shared.sides_of(rows.train), shared.sides_of(rows.validation)
    facts = facts_of(opened, train, held_out, rows.findings)
    config = shared.filled_in(
        RewardRunConfig, recipe, facts, len(rows.train), sides=2, gentleness=LR_SCALE, reward=recipe.reward
    )
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
        method="reward",
        noun="preference",
        rows=(len(rows.train), len(rows.validation)),
        work=lambda session: _work(session, config, rows),
        show=shared.shown("preference", rows, facts, config),
    )


def _work(session: "Session", config: RewardRunConfig, rows: Any) -> "MethodSpec":
    from congling.data.tuning.pair_batches import PairBatches
    from congling.infer.reward_model import scored_at_its_end
    from congling.methods import preferences as shared
    from congling.methods.session import MethodSpec, fingerprint
    from congling.train.objectives.reward import BradleyTerry
    from congling.train.runs.metrics import MetricScales
    from congling.transform.scalar_head import attach_head, save_with_head

    train, pad = config.train, session.opened.tokenizer.pad_id
    attach_head(session.model, train.seed)

    def batches(pairs: Sequence[Any]) -> PairBatches:
        ends = [(scored_at_its_end(better, pad), scored_at_its_end(worse, pad)) for better, worse in pairs]
        return PairBatches(
            ends,
            context=train.max_length + 1,
            rows=train.per_device_train_batch_size,
            accumulation=train.gradient_accumulation_steps,
            seed=train.seed,
            pad=pad,
            reference=None,
        )

    objective, evaluate = BradleyTerry(config.reward.center_rewards_coefficient), None
    if rows.validation:
        parts = shared.in_order(
            batches(rows.validation), train.per_device_train_batch_size, len(rows.validation)
        )
        evaluate = shared.held_out(parts, objective, session.backend.to_device)
    return MethodSpec(
        batches(rows.train),
        objective,
        fingerprint(shared.sides_of((*rows.train, *rows.validation))),
        evaluate=evaluate,
        facts={"reward": True},
        save_model=save_with_head,
        yardsticks=MetricScales(loss_unit="loss", counted="pairs"),
    )
