"""Let a model answer prompts many times and learn from what is better than its other answers (GRPO).

Reads prompts with answers that can be checked, and rewards (a rule, a Python function, a trained judge)::

    congling grpo runs/sft --data prompts.jsonl --reward exact --out grpo rollout.max_completion_length=16
    congling grpo runs/sft --data prompts.jsonl --reward rules.py:short --out grpo grpo.loss_type=dr_grpo

The same command goes on after an interruption.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from congling.core.errors import UserError
from congling.methods.options import (
    AsJson,
    Base,
    Data,
    Force,
    Fresh,
    Longer,
    Out,
    Resume,
    RewardNames,
    Settings,
)
from congling.methods.rewarded import ReinforcementConfig, ReinforcementRecipe, read_rewarded
from congling.train.objectives.config import GRPOConfig

if TYPE_CHECKING:
    from congling.core.console import Console
    from congling.methods.session import Tuned


class GRPORecipe(ReinforcementRecipe):
    """A recipe with a ``[grpo]`` table."""

    grpo: GRPOConfig = GRPOConfig()


class GRPORunConfig(ReinforcementConfig):
    """All that determines the run, besides base and data."""

    grpo: GRPOConfig


def command(
    base: Base,
    settings: Settings = None,
    data: Data = None,
    reward: RewardNames = None,
    out: Out = Path("grpo"),
    resume: Resume = False,
    longer: Longer = None,
    fresh: Fresh = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on rewards, answers compared with each other."""
    from congling.core.console import Console
    from congling.methods.ending import show_end
    from congling.methods.fresh import begin_anew

    recipe = read_recipe(settings or [], data or [], reward or [])
    begin_anew(out, base, *recipe.data.sources, fresh=fresh, resume=resume, longer=longer)
    tuned = run(base, recipe, out, console=Console(), must_resume=resume, longer=longer, force=force)
    show_end(tuned, as_json=as_json)


def read_recipe(settings: Sequence[str], data: Sequence[str], rewards: Sequence[str] = ()) -> GRPORecipe:
    """See :func:`congling.methods.rewarded.read_rewarded`."""
    return read_rewarded(GRPORecipe, settings, data, rewards)


def run(
    base: Path | str,
    recipe: GRPORecipe,
    out: Path | str,
    *,
    console: "Console | None" = None,
    must_resume: bool = False,
    longer: str | None = None,
    force: bool = False,
) -> "Tuned":
    """Train to the end, or go on from the newest checkpoint in ``out``.

    Args:
        base: a GGUF file, a checkpoint, or what leads to one; one that was tuned on answers.
        recipe: data, rollouts, rewards, adapter, training.
        out: the run directory.
        console: where to show what is planned; ``None`` is quiet.
        must_resume: fail where there is nothing to go on from.
        longer: by how much the run that is there is to end later, such as ``30m`` or ``2000steps``.
        force: train even though a check found an error.

    Raises:
        UserError: base, data or rewards cannot be used, a check found an error, or ``out`` holds another run.
        Interrupted: Ctrl-C; the state is saved.
    """
    from congling.methods import rl as shared
    from congling.methods.session import MethodSpec, Session
    from congling.train.objectives.policy import Policy
    from congling.train.rl.credit import GroupAdvantage
    from congling.train.rl.reference import Reference

    if recipe.rollout.num_generations < 2:
        raise UserError(
            "grpo needs several answers to a prompt",
            where="rollout.num_generations",
            value=recipe.rollout.num_generations,
            hint="4 or more; ppo learns from one",
        )
    prepared = shared.prepare(GRPORunConfig, base, recipe, grpo=recipe.grpo)
    config = prepared.config

    def make(session: Session) -> MethodSpec:
        reference = Reference(session.model) if config.grpo.beta else None
        credit = GroupAdvantage(config.grpo, config.rollout, shared.looks(session, prepared), reference)
        objective = Policy(config.grpo, config.rollout.temperature)
        return shared.work(session, prepared, objective, credit, even=not config.grpo.dynamic_sampling)

    return shared.tune_on_rewards(
        prepared,
        out,
        make,
        method="grpo",
        console=console,
        must_resume=must_resume,
        longer=longer,
        force=force,
    )
