"""Reward models: a scalar head gives an answer a number, learnt from pairs of which one is better.

::

    pairs ─ each answer read to its end ─ the head's number there ─ Bradley-Terry: the better one's is higher

Checkpoints hold the head; ``ppo``, ``grpo`` and ``pairs`` take such a run as a reward.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from congling.core.errors import UserError
from congling.data.tuning.pair_batches import PairBatches
from congling.data.tuning.preferences import read_pairs
from congling.data.tuning.row_reader import SplitRows
from congling.infer.reward_model import scored_at_its_end
from congling.methods import preferences, recipes
from congling.methods.preferences import examples_of
from congling.methods.recipes import RewardRecipe, RewardRunConfig
from congling.methods.session import MethodSpec, Session, Tuned, fingerprint
from congling.methods.tuning import Prepared, RunOptions, begin, facts_of, tune
from congling.plan.tuning_plan import context_of
from congling.train.objectives.reward import BradleyTerry
from congling.train.runs.metrics import MetricScales
from congling.transform.scalar_head import attach_head, save_with_head

LR_SCALE = 0.5
"""Share of the learning rate of ``sft``."""

read_recipe = partial(recipes.read_recipe, RewardRecipe)
"""Settings and data files to a recipe; see :func:`congling.methods.recipes.read_recipe`."""


def run(base: Path | str, recipe: RewardRecipe, out: Path | str, **options: Unpack[RunOptions]) -> Tuned:
    """Train to the end, or go on from the newest checkpoint in ``out``.

    Args:
        base: a checkpoint, or what leads to one.
        recipe: data, reward, training.
        out: the run directory.
        options: how it is begun or gone on with.

    Raises:
        UserError: base or data cannot be used, a check found an error, or ``out`` holds another run.
        Interrupted: Ctrl-C; the state is saved.
    """
    opened = begin(base, recipe, out, options)
    if opened.packed or recipe.adapter is not None:
        hint = "name a run or checkpoint, and no adapter; a GGUF file or a quantised model is imported first"
        raise UserError("a reward model is trained whole", value=str(base), hint=hint)
    rows = read_pairs(
        recipe.data, opened.tokenizer, context_of(recipe.train, opened.model, opened.trained_length)
    )
    facts = facts_of(opened, examples_of(rows.train), examples_of(rows.validation), rows.findings)
    config = preferences.decided(RewardRunConfig, recipe, facts, len(rows.train), lr_scale=LR_SCALE)
    counts = (len(rows.train), len(rows.validation))
    prepared = Prepared("reward", "preference", opened, recipe, config, facts, counts)
    return tune(
        prepared,
        out,
        spec=lambda session: _spec(session, config, rows),
        show=preferences.shown("preference", rows, facts, config),
        options=options,
    )


def _spec(session: Session, config: RewardRunConfig, rows: SplitRows[Any]) -> MethodSpec:
    """Pairs whose answers are scored at their ends, by a head that is new."""
    attach_head(session.model, config.train.seed)
    objective, evaluate = BradleyTerry(config.reward.center_rewards_coefficient), None
    if rows.validation:
        fixed = _batches(session, rows.validation)
        evaluate = preferences.held_out(session, fixed, rows.validation, objective)
    return MethodSpec(
        _batches(session, rows.train),
        objective,
        fingerprint(examples_of((*rows.train, *rows.validation))),
        evaluate=evaluate,
        facts={"reward": True},
        save_model=save_with_head,
        scales=MetricScales(loss_unit="loss", counted="pairs"),
    )


def _batches(session: Session, pairs: Sequence[Any]) -> PairBatches:
    sizes = session.batching
    ends = [
        (scored_at_its_end(better, sizes["pad"]), scored_at_its_end(worse, sizes["pad"]))
        for better, worse in pairs
    ]
    return PairBatches(ends, **sizes | {"context": sizes["context"] + 1}, reference=None)
