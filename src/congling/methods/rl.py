"""What GRPO and PPO share: prompts read, rollouts set up, held-out rewards, what is shown and logged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from congling.core.console import Console
from congling.core.diagnosis import Diagnosis
from congling.core.errors import UserError
from congling.core.units import show_count
from congling.data.tuning.examples import Example
from congling.data.tuning.preferences import Question, read_questions
from congling.data.tuning.row_reader import SplitRows
from congling.infer.completions import complete
from congling.methods import rewards as sources
from congling.methods import tuning
from congling.methods.base_model import OpenedBase
from congling.methods.ending import say, show_rows, show_work
from congling.methods.recipes import ReinforcementConfig, ReinforcementRecipe
from congling.methods.session import MethodSpec, Session, Tuned, fingerprint
from congling.methods.tuning import Prepared, RunOptions, begin, facts_of, tune
from congling.train.backends.single import Single
from congling.train.rl.reference import RolloutScorer
from congling.train.rl.rollouts import AdvantageFunction, Reward, RolloutBatches, reward_input

LR_SCALE = 0.2
"""Share of the learning rate of ``sft``."""
STEPS = 200
"""Where nobody asks for others."""
EVALUATED = 64
"""Held-out prompts that are answered at each evaluation."""
ALWAYS = ("rows-repeated", "few-rows")
"""Codes of findings that say nothing here: prompts are seen again and again, and may be few."""


@dataclass(frozen=True)
class RLSetup:
    """One run on its way: prompts and rewards, and the model that answers."""

    session: Session
    prompts: SplitRows[Question]
    config: Any

    @property
    def scorer(self) -> RolloutScorer:
        """What scores the answers of rollouts."""
        pad, temperature = self.session.opened.tokenizer.pad_id, self.config.rollout.temperature
        return RolloutScorer(self.session.model, self.session.backend, pad, temperature)

    def spec(
        self, objective: Any, advantage: AdvantageFunction, *, even: bool = True, **more: Any
    ) -> MethodSpec:
        """Rollouts as batches, and the reward of held-out prompts.

        Args:
            objective: what is learnt from rollouts.
            advantage: what each token of an answer is worth.
            even: keep groups whose answers all have the same reward.
            more: for :class:`congling.methods.session.MethodSpec`.
        """
        session, config, prompts = self.session, self.config, self.prompts
        tokenizer, reward = session.opened.tokenizer, sources.load(config.rewards, session.backend.device)
        rollouts = RolloutBatches(
            session.model,
            tokenizer,
            prompts.train,
            reward,
            advantage,
            config.rollout,
            session.backend,
            seed=config.train.seed,
            even=even,
            undrawable=tokenizer.undrawable(session.model.config.vocab_size),
        )
        evaluate = None
        if prompts.validation:
            evaluate = held_out_reward(
                prompts.validation[:EVALUATED], tokenizer, reward, config, session.backend
            )
        rows = [_longest_example(one, config) for one in (*prompts.train, *prompts.validation)]
        return MethodSpec(
            rollouts,
            objective,
            fingerprint(rows, sources.identity(config.rewards)),
            evaluate=evaluate,
            sample=lambda model: rollouts.shown(4),
            prefetch=0,
            before_update=rollouts.add_to,
            **more,
        )


def run(
    kind: type[ReinforcementConfig],
    base: Path | str,
    recipe: ReinforcementRecipe,
    out: Path | str,
    spec: Callable[[RLSetup], MethodSpec],
    *,
    method: str,
    options: RunOptions,
) -> Tuned:
    """Train on rewards; ``spec`` is what the method trains on, once the model is there.

    Raises:
        UserError: base, data or rewards cannot be used, a check found an error, or ``out`` holds another run.
        Interrupted: Ctrl-C; the state is saved.
    """
    opened = begin(base, recipe, out, options)
    prompts = _prompts(opened, recipe)
    learnt, held_out = (
        [_longest_example(one, recipe) for one in part] for part in (prompts.train, prompts.validation)
    )
    facts = facts_of(opened, learnt, held_out, prompts.findings, recipe.adapter)
    steps = len(prompts.train) / recipe.rollout.prompts_per_step * recipe.rollout.num_iterations
    train = _train_table(recipe, prompts)
    config: Any = tuning.decided(kind, recipe, facts, train, lambda *_: steps, lr_scale=LR_SCALE)

    def show(session: Session, findings: Sequence[Diagnosis], console: Console) -> None:
        now, rollout = session.config.train, config.rollout
        show_rows(len(prompts.train), len(prompts.validation), "prompt", prompts.findings, console)
        answers = rollout.prompts_per_step * rollout.num_generations
        show_work(
            f"{answers} answers ({rollout.prompts_per_step} prompts × {rollout.num_generations})",
            facts,
            now,
            session.learnt,
            adapter=config.adapter is not None,
            console=console,
            findings=findings,
        )
        rollouts = -(-now.max_steps // rollout.num_iterations)
        say(console, f"rewards: {', '.join(config.rewards)}; {show_count(rollouts * answers)} answers in all")

    counts = (len(prompts.train), len(prompts.validation))
    prepared = Prepared(method, "prompt", opened, recipe, config, facts, counts, ignored_codes=ALWAYS)
    return tune(
        prepared,
        out,
        spec=lambda session: spec(RLSetup(session, prompts, config)),
        show=show,
        options=options,
    )


def _prompts(opened: OpenedBase, recipe: ReinforcementRecipe) -> SplitRows[Question]:
    """Prompts that leave room for an answer.

    Raises:
        UserError: answers fill the whole context, or no prompt can be used.
    """
    longest, answer = opened.model.max_position_embeddings, recipe.rollout.max_completion_length
    if longest <= answer:
        raise UserError(
            "answers fill the whole context",
            where="rollout.max_completion_length",
            value=answer,
            hint=f"the base reads {longest} tokens",
        )
    return read_questions(recipe.data, opened.tokenizer, longest - answer)


def _train_table(recipe: ReinforcementRecipe, prompts: SplitRows[Question]) -> dict[str, Any]:
    """``[train]`` with what follows from the prompts.

    Raises:
        UserError: rows are shorter than a prompt with its answer.
    """
    longest = max(len(question.ids) for question in (*prompts.train, *prompts.validation))
    needed = longest + recipe.rollout.max_completion_length
    train: dict[str, Any] = {"per_device_train_batch_size": 1, "max_length": needed} | recipe.train
    if prompts.validation:
        train.setdefault("metric_for_best_model", "reward")
    if "num_train_epochs" not in recipe.model_fields_set:
        train.setdefault("max_steps", STEPS)
    if train["max_length"] < needed:
        raise UserError(
            "the context is too short for prompts and answers",
            where="train.max_length",
            value=train["max_length"],
            hint=f"leave it out, or {needed} and more",
        )
    return train


def held_out_reward(
    questions: Sequence[Question],
    tokenizer: Any,
    reward: Reward,
    config: ReinforcementConfig,
    backend: Single,
) -> Callable[[Any], Mapping[str, float]]:
    """Model to the mean reward of its likeliest answers to held-out prompts, the share it ends itself,
    and the mean of each reward by itself where there are several (one of weight 0 is only watched)."""

    def score(model: Any) -> Mapping[str, float]:
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
            reward_input(question, one, tokenizer) for question, (one,) in zip(questions, found, strict=True)
        ]
        values = reward(rows)
        known = values[np.isfinite(values)]
        mean = float(known.mean()) if len(known) else float("nan")
        parts = {f"reward_{name}": value for name, value in getattr(reward, "means", {}).items()}
        return {"reward": mean, "ended": float(np.mean([row["ended"] for row in rows])), **parts}

    @torch.no_grad()
    def evaluate(model: Any) -> Mapping[str, float]:
        found = dict[str, float]()  # by the first process: rewards may be asked of another program

        def once(_: None) -> Sequence[float]:
            found.update(score(model))
            return ()

        backend.each_part(once, [None])
        return found

    return evaluate


def _longest_example(question: Question, config: Any) -> Example:
    """A prompt with a longest answer, as far as counts go."""
    ids = np.array([*question.ids, *[0] * config.rollout.max_completion_length], np.int32)
    loss_mask = np.zeros(len(ids), bool)
    loss_mask[len(question.ids) :] = True
    return Example(ids, loss_mask, 0, str(question.row.place))
