"""PPO: answers to prompts, whose rewards are compared with what a value head predicts.

::

    prompts ─ rollouts ─ rewards, less β · drift ─ advantage over the value head (GAE) ─ clipped losses

The value head starts at zero beside the model's own head, and is left behind at the end.
"""

from functools import partial
from pathlib import Path
from typing import Unpack

from congling.methods import recipes, rl
from congling.methods.recipes import PPORecipe, PPORunConfig
from congling.methods.session import MethodSpec, Tuned
from congling.methods.tuning import RunOptions
from congling.train.objectives.policy import Policy
from congling.train.rl.advantage import GAEAdvantage
from congling.train.rl.reference import Reference
from congling.transform.scalar_head import attach_head, save_without_head

read_recipe = partial(recipes.read_recipe, PPORecipe)
"""Settings, data files and rewards to a recipe; see :func:`congling.methods.recipes.read_recipe`."""


def run(base: Path | str, recipe: PPORecipe, out: Path | str, **options: Unpack[RunOptions]) -> Tuned:
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
    return rl.run(PPORunConfig, base, recipe, out, _spec, method="ppo", options=options)


def _spec(setup: rl.RLSetup) -> MethodSpec:
    """Rollouts compared with what the value head expected, and the losses of policy and values."""
    config, model = setup.config, setup.session.model
    reference = Reference(model) if config.ppo.beta else None  # before there is a head
    attach_head(model)  # zeros: a random one expects ±1 of anything, and answers would learn that
    advantage = GAEAdvantage(config.ppo, setup.scorer, reference)
    return setup.spec(Policy(config.ppo, config.rollout.temperature), advantage, save_model=save_without_head)
