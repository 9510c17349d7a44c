"""Let a model answer prompts and learn from how much better the reward is than a value head expected (PPO).

Reads prompts, and rewards (a trained judge, a rule, a Python function)::

    congling ppo runs/sft --data prompts.jsonl --reward runs/judge --out runs/ppo
    congling ppo runs/sft --data prompts.jsonl --reward runs/judge --reward rules.py:short=0.1 --out runs/ppo

The same command goes on after an interruption.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
from congling.train.objectives.config import PPOConfig, PPORolloutConfig

if TYPE_CHECKING:
    from congling.core.console import Console
    from congling.methods.session import Tuned


class PPORecipe(ReinforcementRecipe):
    """A recipe with a ``[ppo]`` table; rollouts are used several times."""

    rollout: PPORolloutConfig = PPORolloutConfig()  # pyright: ignore[reportIncompatibleVariableOverride] frozen
    ppo: PPOConfig = PPOConfig()


class PPORunConfig(ReinforcementConfig):
    """All that determines the run, besides base and data."""

    rollout: PPORolloutConfig  # pyright: ignore[reportIncompatibleVariableOverride] frozen
    ppo: PPOConfig


def command(
    base: Base,
    settings: Settings = None,
    data: Data = None,
    reward: RewardNames = None,
    out: Out = Path("ppo"),
    resume: Resume = False,
    longer: Longer = None,
    fresh: Fresh = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on rewards, with a value head."""
    from congling.core.console import Console
    from congling.methods.ending import show_end
    from congling.methods.fresh import begin_anew

    recipe = read_recipe(settings or [], data or [], reward or [])
    begin_anew(out, base, *recipe.data.sources, fresh=fresh, resume=resume, longer=longer)
    tuned = run(base, recipe, out, console=Console(), must_resume=resume, longer=longer, force=force)
    show_end(tuned, as_json=as_json)


def read_recipe(settings: Sequence[str], data: Sequence[str], rewards: Sequence[str] = ()) -> PPORecipe:
    """See :func:`congling.methods.rewarded.read_rewarded`."""
    return read_rewarded(PPORecipe, settings, data, rewards)


def run(
    base: Path | str,
    recipe: PPORecipe,
    out: Path | str,
    *,
    console: "Console | None" = None,
    must_resume: bool = False,
    longer: str | None = None,
    force: bool = False,
) -> "Tuned":
    """Train to the end, or go on from the newest checkpoint in ``out``.

    The value head starts at zero beside the model's own head, and is left behind at the end.

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
    from congling.train.rl.credit import GAEAdvantage
    from congling.train.rl.reference import Reference
    from congling.transform.scalar_head import attach_head, save_without_head

    prepared = shared.prepare(PPORunConfig, base, recipe, ppo=recipe.ppo)
    config = prepared.config

    def make(session: Session) -> MethodSpec:
        reference = Reference(session.model) if config.ppo.beta else None  # before there is a head
        attach_head(session.model)  # zeros: a random one expects ±1 of anything, and answers would learn that
        credit = GAEAdvantage(config.ppo, shared.looks(session, prepared), reference)
        objective = Policy(config.ppo, config.rollout.temperature)
        return shared.work(session, prepared, objective, credit, save_model=save_without_head)

    return shared.tune_on_rewards(
        prepared,
        out,
        make,
        method="ppo",
        console=console,
        must_resume=must_resume,
        longer=longer,
        force=force,
    )
