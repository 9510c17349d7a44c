"""Rollouts: answers that the policy samples, with rewards and advantages, as micro-batches.

::

    step ─ prompts of the step ─ answers by the current policy ─ rewards ─ advantages ─ micro-batches
     └ the next updates − 1 steps learn from the same answers, although the model has moved on ┘

Prompts and sampling follow from the step and the place in it alone, however many processes share it. So a
run that stopped between two rollouts goes on exactly; one that stopped within keeps its answers in the
checkpoint.
"""

# A answers of one process to a rollout, G answers to a prompt

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from congling.core.errors import UserError
from congling.data.tuning.examples import Example
from congling.data.tuning.preferences import Question
from congling.infer.completions import Completion, complete
from congling.tokenizer.base import Tokenizer
from congling.train.backends.single import Single
from congling.train.objectives.config import RolloutConfig
from congling.train.rl.rollout_buffer import Rollout, RolloutBatch, micro_batches, pack, unpack

_ORDER, _SAMPLING = 0x726F, 0x7361
Reward = Callable[[Sequence[Mapping[str, Any]]], np.ndarray]
"""Answers, each a mapping with ``messages``, ``text``, ``row``, ``ended``, to their rewards (A,)."""
AdvantageFunction = Callable[[Rollout], Rollout]
"""Fills in what each token is worth."""


class RolloutBatches:
    """Batches for the loop: a callable of (step, rank, world) that writes when new answers are due.

    Args:
        model: what is trained.
        tokenizer: ends answers and turns them into text.
        questions: the prompts; each fits into the context together with a longest answer.
        reward: of answers.
        advantage: makes advantages of rewards.
        config: how many answers of which kind.
        backend: tells the device, and sums over processes.
        seed: of prompts and sampling.
        even: whether groups without any difference count; if not, other prompts take their place.
        undrawable: ids that stand for no token.
    """

    TRIES = 4
    """How often other prompts are drawn for groups without difference."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        questions: Sequence[Question],
        reward: Reward,
        advantage: AdvantageFunction,
        config: RolloutConfig,
        backend: Single,
        *,
        seed: int,
        even: bool = True,
        undrawable: Sequence[int] = (),
    ) -> None:
        self.model, self.tokenizer, self.questions = model, tokenizer, questions
        self.reward, self.advantage, self.config, self.backend = reward, advantage, config, backend
        self.seed, self.even, self.undrawable = seed, even, undrawable
        self.rollout: Rollout | None = None
        self._kept: dict[str, Tensor] = {}
        """The answers of all processes, where they are used again."""

    @property
    def period(self) -> int:
        """Batches that are made together; only as many at once can be passed over."""
        return self.config.num_iterations

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> list[RolloutBatch]:
        """Micro-batches of one rank for one step; equally many on every rank.

        Raises:
            UserError: no answer has a reward, or prompts cannot be shared out.
        """
        number, within = divmod(step, self.config.num_iterations)
        if within == 0:
            self.rollout = self.sample(number, rank, world)
        assert self.rollout is not None, "a run goes on in the middle of a rollout with its answers"
        return self.batches_of(self.rollout, fresh=within == 0)

    def batches_of(self, found: Rollout, *, fresh: bool) -> list[RolloutBatch]:
        """A rollout with advantages in micro-batches; ``fresh`` where the model is the one that wrote it."""
        longest = max(len(one.ids) for one in self.questions) + self.config.max_completion_length
        context, pad = self.model.config.max_position_embeddings, self.tokenizer.pad_id
        return micro_batches(found, context, pad, longest=longest, fresh=fresh)

    def add_to(self, row: dict[str, Any]) -> None:
        """Put what the last rollout measured into the loop's row: reward, its spread, length, share ended."""
        assert self.rollout is not None
        row.update(sorted(self.rollout.measured.items()))  # the same bytes in the log, restored or not

    def shown(self, count: int) -> list[dict[str, Any]]:
        """An answer each to the first prompts of the last rollout, for whoever watches."""
        if self.rollout is None:
            return []
        found = []
        for index in range(0, len(self.rollout.examples), self.config.num_generations)[:count]:
            example, ended = self.rollout.examples[index], bool(self.rollout.ended[index])
            ids, reward = example.input_ids[example.loss_mask].tolist(), float(self.rollout.rewards[index])
            question = self.questions[int(self.rollout.questions[index])]
            found.append(
                {
                    "prompt": f"{question.row.prompt[-1]['content']}\n",
                    "text": self.tokenizer.decode(ids[:-1] if ended else ids, skip_special=True),
                    "reward": reward if np.isfinite(reward) else None,
                    "ended": ended,
                }
            )
        return found

    def tensors(self) -> dict[str, Tensor]:
        """The answers, where the next step learns from them again."""
        return self._kept

    def load(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Restore the answers of a rollout that ``step`` stands within.

        Raises:
            UserError: they were written by another number of processes.
        """
        if step % self.config.num_iterations:
            self.rollout, self._kept = unpack(tensors, self.backend), dict(tensors)

    def sample(self, number: int, rank: int, world: int) -> Rollout:
        """Write and reward the answers of one process, of the rollout with this number.

        Raises:
            UserError: the prompts cannot be shared out among so many processes.
        """
        prompts, odd = divmod(self.config.prompts_per_step, world)
        if odd:
            raise UserError(
                "the prompts of a step cannot be shared out",
                where="rollout.prompts_per_step",
                value=f"{self.config.prompts_per_step} prompts, {world} processes",
            )
        first = rank * prompts
        chosen = self.prompt_order(number * self.config.prompts_per_step + first, prompts)
        written = self._written(chosen, [(number, first + i, 0) for i in range(prompts)])
        for attempt in range(1, self.TRIES if not self.even else 1):
            dull = [i for i, group in enumerate(written) if _same([one["reward"] for one in group])]
            if not dull:
                break
            places = [(number, first + i, attempt) for i in dull]
            others = [self._drawn(place) for place in places]
            for i, group in zip(dull, self._written(others, places), strict=True):
                written[i] = group
        found = _round([one for group in written for one in group])
        found.measured = self._summary(found)
        found = self.advantage(found)
        if self.config.num_iterations > 1:
            self._kept = pack(found, self.backend)
        return found

    def _written(
        self, chosen: Sequence[int], places: Sequence[tuple[int, ...]]
    ) -> list[list[dict[str, Any]]]:
        """Answers to some questions, rewarded: G for each. Places tell random numbers apart."""
        questions = [self.questions[i] for i in chosen]
        training = self.model.training
        self.model.eval()
        with self.backend.eval_context():
            answers = complete(
                self.model,
                [question.ids for question in questions],
                group=self.config.num_generations,
                new_tokens=self.config.max_completion_length,
                stops=self.tokenizer.stop_ids,
                temperature=self.config.temperature,
                top_k=self.config.top_k,
                seeds=[self._seed(place) for place in places],
                undrawable=self.undrawable,
            )
            rows = [
                [reward_input(question, one, self.tokenizer) | {"question": index} for one in same]
                for index, question, same in zip(chosen, questions, answers, strict=True)
            ]
            flat = [row for same in rows for row in same]
            rewards = self.reward(flat)
        self.model.train(training)
        for row, value in zip(flat, rewards.tolist(), strict=True):
            cut = self.config.truncated_reward is not None and not row["ended"]
            row["reward"] = self.config.truncated_reward if cut else value
        return rows

    def prompt_order(self, start: int, count: int) -> list[int]:
        """Questions at some places of an endless order, every pass another one."""
        places = [divmod(place, len(self.questions)) for place in range(start, start + count)]
        orders = {
            epoch: np.random.default_rng([_ORDER, self.seed, epoch]).permutation(len(self.questions))
            for epoch, _ in places
        }
        return [int(orders[epoch][within]) for epoch, within in places]

    def _seed(self, place: Sequence[int]) -> int:
        return int(np.random.default_rng([_SAMPLING, self.seed, *place]).integers(2**62))

    def _drawn(self, place: Sequence[int]) -> int:
        """A question to take the place of one that teaches nothing."""
        return int(np.random.default_rng([_ORDER, self.seed, *place, 1]).integers(len(self.questions)))

    def _summary(self, found: Rollout) -> dict[str, float]:
        """Means over all processes."""
        known = np.isfinite(found.rewards)
        if not self.backend.all_reduce_sum(float(known.sum())):
            raise UserError(
                "no reward could be told for any answer of a whole step",
                hint="look at the warnings of the reward function above",
            )
        rewards, lengths = found.rewards[known], found.lengths
        sums = [
            float(len(rewards)),
            rewards.sum(),
            (rewards**2).sum(),
            float(len(lengths)),
            lengths.sum(),
            found.ended.sum(),
            float((~known).sum()),
        ]
        with_reward, total, squares, answers, tokens, ended, lost = (
            float(self.backend.all_reduce_sum(float(one))) for one in sums
        )
        mean = total / with_reward
        return {
            "reward": mean,
            "reward_std": max(0.0, squares / with_reward - mean**2) ** 0.5,
            "length": tokens / answers,
            "ended": ended / answers,
            "unjudged": lost,
        }


def reward_input(question: Question, answer: Completion, tokenizer: Tokenizer) -> dict[str, Any]:
    """An answer as a reward function sees it, and as it is learnt from."""
    ids = answer.ids[:-1] if answer.ended else answer.ids
    return {
        "messages": question.row.prompt,
        "row": question.row,
        "ended": answer.ended,
        "text": tokenizer.decode(ids, skip_special=True),
        "prompt_ids": question.ids,
        "answer": answer,
    }


def _round(rows: Sequence[Mapping[str, Any]]) -> Rollout:
    examples = []
    for row in rows:
        ids = np.array([*row["prompt_ids"], *row["answer"].ids], np.int32)
        learnt = np.zeros(len(ids), bool)
        learnt[len(row["prompt_ids"]) :] = True
        examples.append(Example(ids, learnt, 0, str(row["row"].place)))
    old = [np.array(row["answer"].log_probs, np.float32) for row in rows]
    rewards = np.array([row["reward"] for row in rows], np.float64)
    return Rollout(
        examples,
        np.array([row["question"] for row in rows]),
        rewards,
        np.array([row["ended"] for row in rows]),
        old,
    )


def _same(rewards: Sequence[float]) -> bool:
    known = [reward for reward in rewards if np.isfinite(reward)]
    return not known or max(known) - min(known) < 1e-9
