"""What GRPO and PPO share: prompts read, rollouts set up, held-out rewards, what is shown and logged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from congling.core.config import build
from congling.core.console import Console
from congling.core.diagnosis import Diagnosis
from congling.core.errors import UserError
from congling.core.units import show_count
from congling.data.tuning.examples import Example
from congling.data.tuning.preferences import Question, read_questions
from congling.data.tuning.row_reader import SplitRows
from congling.infer.completions import complete
from congling.methods import rewards as sources
from congling.methods.base_model import OpenedBase, open_base
from congling.methods.rewarded import ReinforcementConfig, ReinforcementRecipe
from congling.methods.session import MethodSpec, Session, Tuned, fingerprint
from congling.methods.showing import say, show_rows, show_work
from congling.methods.tuning import tune
from congling.methods.tuning_facts import facts_of
from congling.methods.tuning_recipe import require_sound_table
from congling.plan import tuning_plan
from congling.train.rl.credit import RolloutScorer
from congling.train.rl.rollouts import Credit, Reward, RolloutBatches, judged_row

LR_SCALE = 0.2
"""Share of the rate of ``sft``."""
STEPS = 200
"""Where nobody asks for others."""
LOOKED_AT = 64
"""Held-out prompts that are answered at each look."""


C = TypeVar("C", bound=ReinforcementConfig)


@dataclass(frozen=True)
class RLSetup:
    """Base, prompts and rewards, opened and checked."""

    opened: OpenedBase
    prompts: SplitRows[Question]
    config: Any
    facts: tuning_plan.TuningFacts
    recipe: ReinforcementRecipe


def prepare(kind: type[C], base: Path | str, recipe: ReinforcementRecipe, **tables: Any) -> RLSetup:
    """Open base and prompts, and decide everything that is left open.

    Raises:
        UserError: base or data cannot be used, or ``[train]`` has a mistake.
    """
    require_sound_table(recipe)
    opened = open_base(base)
    room = opened.model.max_position_embeddings - recipe.rollout.max_completion_length
    if room < 1:
        hint = f"the base reads {opened.model.max_position_embeddings} tokens"
        value = recipe.rollout.max_completion_length
        raise UserError(
            "answers fill the whole context", where="rollout.max_completion_length", value=value, hint=hint
        )
    prompts = read_questions(recipe.data, opened.tokenizer, room)
    asked, needed = recipe.rollout.prompts_per_step, _longest(prompts) + recipe.rollout.max_completion_length
    choose = {"metric_for_best_model": "reward"} if prompts.validation else {}
    train: dict[str, Any] = choose | {"per_device_train_batch_size": 1, "max_length": needed} | recipe.train
    if "num_train_epochs" not in recipe.model_fields_set:
        train.setdefault("max_steps", STEPS)
    if train["max_length"] < needed:
        raise UserError(
            "the context is too short for prompts and answers",
            where="train.max_length",
            value=train["max_length"],
            hint=f"leave it out, or {needed} and more",
        )
    train_rows, held_out = (
        [_stand_in(one, recipe) for one in part] for part in (prompts.train, prompts.validation)
    )
    facts = facts_of(opened, train_rows, held_out, prompts.findings, recipe.adapter)
    steps = len(prompts.train) / asked * recipe.rollout.num_iterations
    settings = tuning_plan.settings(
        train,
        facts,
        adapter=recipe.adapter is not None,
        epochs=recipe.num_train_epochs,
        gentleness=LR_SCALE,
        steps_per_epoch=lambda context, rows, accumulation: steps,
    )
    settings.pop("eval_tokens", None)
    decided = {
        "data": recipe.data,
        "adapter": recipe.adapter,
        "train": settings,
        "rollout": recipe.rollout,
        "rewards": recipe.rewards,
        **tables,
    }
    config = build(kind, decided, where="recipe")
    return RLSetup(opened, prompts, config, facts, recipe)


def work(
    session: Session, prepared: RLSetup, objective: Any, credit: Credit, *, even: bool = True, **more: Any
) -> MethodSpec:
    """Rollouts as batches, and looks at held-out prompts."""
    config, tokenizer = prepared.config, prepared.opened.tokenizer
    reward = sources.load(config.rewards, session.backend.device)
    prompts = prepared.prompts
    rollouts = RolloutBatches(
        session.model,
        tokenizer,
        prompts.train,
        reward,
        credit,
        config.rollout,
        session.backend,
        seed=config.train.seed,
        even=even,
        undrawable=tokenizer.undrawable(session.model.config.vocab_size),
    )
    evaluate = None
    if prompts.validation:
        evaluate = held_out_reward(prompts.validation[:LOOKED_AT], tokenizer, reward, config)
    asked = (*prompts.train, *prompts.validation)
    data = fingerprint([_stand_in(one, prepared.config) for one in asked], sources.identity(config.rewards))
    return MethodSpec(
        rollouts,
        objective,
        data,
        evaluate=evaluate,
        sample=lambda model: rollouts.shown(4),
        ahead=0,
        before_update=rollouts.add_to,
        **more,
    )


def looks(session: Session, prepared: RLSetup) -> RolloutScorer:
    """What scores the answers of rollouts."""
    pad, temperature = prepared.opened.tokenizer.pad_id, prepared.config.rollout.temperature
    return RolloutScorer(session.model, session.backend, pad, temperature)


def held_out_reward(
    questions: Sequence[Question], tokenizer: Any, reward: Reward, config: ReinforcementConfig
) -> Callable[[Any], Mapping[str, float]]:
    """Model to the mean reward of its likeliest answers to held-out prompts, the share it ends itself,
    and the mean of each reward by itself where there are several (one of weight 0 is only watched)."""

    def look(model: Any) -> Mapping[str, float]:
        found = complete(
            model,
            [question.ids for question in questions],
            group=1,
            temperature=0.0,
            new_tokens=config.rollout.max_completion_length,
            stops=tokenizer.stop_ids,
            undrawable=tokenizer.undrawable(model.config.vocab_size),
        )
        rows = [
            judged_row(question, one, tokenizer) for question, (one,) in zip(questions, found, strict=True)
        ]
        values = reward(rows)
        known = values[np.isfinite(values)]
        mean = float(known.mean()) if len(known) else float("nan")
        parts = {f"reward_{name}": value for name, value in getattr(reward, "means", {}).items()}
        return {"reward": mean, "ended": float(np.mean([row["ended"] for row in rows])), **parts}

    return torch.no_grad()(look)


def tune_on_rewards(
    prepared: RLSetup,
    out: Path | str,
    make: Callable[[Session], MethodSpec],
    *,
    method: str,
    console: Console | None,
    must_resume: bool,
    force: bool,
    longer: str | None = None,
) -> Tuned:
    """See :func:`congling.methods.tuning.tune`; prompts are to be seen again and again, and may be few."""
    return tune(
        prepared.opened,
        prepared.config,
        prepared.facts,
        out,
        work=make,
        console=console,
        force=force,
        must_resume=must_resume,
        longer=longer,
        beside_the_point=("rows-repeated", "few-rows"),
        recipe=prepared.recipe,
        method=method,
        noun="prompt",
        rows=(len(prepared.prompts.train), len(prepared.prompts.validation)),
        show=lambda session, findings, console: _show(prepared, session, findings, console),
    )


def _show(prepared: RLSetup, session: Session, findings: Sequence[Diagnosis], console: Console) -> None:
    """Say what will be done before it begins."""
    config: Any = session.config
    prompts = prepared.prompts
    show_rows(len(prompts.train), len(prompts.validation), "prompt", prompts.findings, console)
    rollout = config.rollout
    answers = rollout.prompts_per_step * rollout.num_generations
    step = f"{answers} answers ({rollout.prompts_per_step} prompts × {rollout.num_generations})"
    show_work(
        step,
        prepared.facts,
        config.train,
        session.learnt,
        adapter=config.adapter is not None,
        console=console,
        findings=findings,
    )
    rounds = -(-config.train.max_steps // rollout.num_iterations)
    say(console, f"rewards: {', '.join(config.rewards)}; {show_count(rounds * answers)} answers in all")


def _longest(prompts: SplitRows[Question]) -> int:
    return max(len(question.ids) for question in (*prompts.train, *prompts.validation))


def _stand_in(question: Question, config: Any) -> Example:
    """A prompt with a longest answer, as far as counts go."""
    ids = np.array([*question.ids, *[0] * config.rollout.max_completion_length], np.int32)
    learnt = np.zeros(len(ids), bool)
    learnt[len(question.ids) :] = True
    return Example(ids, learnt, 0, str(question.row.place))
