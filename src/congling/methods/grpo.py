"""GRPO: many answers to each prompt, whose rewards are compared with each other.

::

    prompts ─ rollouts: G answers each ─ rewards ─ advantage: reward − mean of the group ─ clipped policy loss

The reward is a rule, a Python function or a trained reward model (:mod:`congling.methods.rewards`).
"""

from functools import partial
from pathlib import Path
from typing import Unpack

from congling.core.errors import UserError
from congling.methods import recipes, rl
from congling.methods.recipes import GRPORecipe, GRPORunConfig
from congling.methods.session import MethodSpec, Tuned
from congling.methods.tuning import RunOptions
from congling.train.objectives.policy import Policy
from congling.train.rl.advantage import GroupAdvantage
from congling.train.rl.reference import Reference

read_recipe = partial(recipes.read_recipe, GRPORecipe)
"""Settings, data files and rewards to a recipe; see :func:`congling.methods.recipes.read_recipe`."""


def run(base: Path | str, recipe: GRPORecipe, out: Path | str, **options: Unpack[RunOptions]) -> Tuned:
    """Train to the end, or go on from the newest checkpoint in ``out``.

    Args:
        base: a GGUF file, a checkpoint, or what leads to one; one that was tuned on answers.
        recipe: data, rollouts, rewards, adapter, training.
        out: the run directory.
        options: how it is begun or gone on with.

    Raises:
        UserError: base, data or rewards cannot be used, a check found an error, or ``out`` holds another run.
        Interrupted: Ctrl-C; the state is saved.
    """
    if recipe.rollout.num_generations < 2:
        raise UserError(
            "grpo needs several answers to a prompt",
            where="rollout.num_generations",
            value=recipe.rollout.num_generations,
            hint="4 or more; ppo learns from one",
        )
    return rl.run(GRPORunConfig, base, recipe, out, _spec, method="grpo", options=options)


def _spec(setup: rl.RLSetup) -> MethodSpec:
    """Rollouts whose answers are compared with each other, and the policy loss."""
    config = setup.config
    reference = Reference(setup.session.model) if config.grpo.beta else None
    advantage = GroupAdvantage(config.grpo, config.rollout, setup.scorer, reference)
    objective = Policy(config.grpo, config.rollout.temperature)
    return setup.spec(objective, advantage, even=not config.grpo.dynamic_sampling)
