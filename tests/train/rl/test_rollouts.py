"""Rollouts: the same answers however they are shared out, kept across a stop, and dealt out whole."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from congling.core.errors import UserError
from congling.data.problems import Place
from congling.data.tuning.examples import Example
from congling.data.tuning.preference_rows import QuestionRow
from congling.data.tuning.preferences import Question
from congling.train.backends.single import Single
from congling.train.objectives.config import GRPOConfig, RolloutConfig
from congling.train.rl.advantage import group_advantages, loss_denominator, token_weights
from congling.train.rl.rollout_buffer import Rollout, pack, unpack
from congling.train.rl.rollouts import RolloutBatches
from support.training_doubles import settings, small_model

STOP = 7
TOKENIZER: Any = SimpleNamespace(
    stop_ids=frozenset({STOP}), pad_id=0, decode=lambda ids, skip_special: " ".join(map(str, ids))
)
QUESTIONS = [
    Question(
        tuple(range(1, 2 + i % 4)), QuestionRow(({"role": "user", "content": f"{i}"},), None, Place("a", i))
    )
    for i in range(6)
]


class Part(Single):
    """One of several processes, which adds up with the others through threads."""

    def __init__(self, rank: int = 0, world: int = 1, add: Callable[[int, Any], Any] | None = None) -> None:
        super().__init__(settings())
        self.rank, self.world, self._add = rank, world, add

    def all_reduce_sum(self, value: Any) -> Any:
        return value if self._add is None else self._add(self.rank, value)


def together(world: int, work: Callable[[Part], Any]) -> list[Any]:
    """The results of several processes that wait for each other at every sum."""
    barrier, given = Barrier(world), [None] * world

    def add(rank: int, value: Any) -> Any:
        given[rank] = torch.as_tensor(value, dtype=torch.float64).clone()
        barrier.wait()
        total = torch.stack([one for one in given if one is not None]).sum(0)
        barrier.wait()
        return total

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(lambda rank: work(Part(rank, world, add)), range(world)))


def credit(found: Rollout) -> Rollout:
    each = group_advantages(found.rewards, 3, GRPOConfig())
    found.advantages = [np.full(n, one, np.float32) for n, one in zip(found.lengths, each, strict=True)]
    found.weights, found.count = (
        token_weights(found.lengths, 6, "dapo"),
        loss_denominator(found.lengths, "dapo"),
    )
    return found


def length(answers: Sequence[Any]) -> np.ndarray:
    return np.array([float(len(one["answer"].ids)) for one in answers])


def rollouts(
    backend: Single | None = None, reward: Any = length, even: bool = True, **more: Any
) -> RolloutBatches:
    config = RolloutConfig(**{"prompts_per_step": 4, "num_generations": 3, "max_completion_length": 6} | more)
    return RolloutBatches(
        small_model(max_position_embeddings=16),
        TOKENIZER,
        QUESTIONS,
        reward,
        credit,
        config,
        backend or Part(),
        seed=5,
        even=even,
    )


def ids_of(found: Rollout) -> list[tuple[int, ...]]:
    return [tuple(one.input_ids.tolist()) for one in found.examples]


def test_two_processes_write_the_answers_of_one():
    made = rollouts(num_iterations=2)
    whole = [ids_of(made.sample(number, 0, 1)) for number in range(2)]
    assert whole[0] != whole[1] and len(set(whole[0])) > 4

    def work(backend: Part) -> list[list[tuple[int, ...]]]:
        mine = rollouts(backend, num_iterations=2)
        return [ids_of(mine.sample(number, backend.rank, 2)) for number in range(2)]

    first, second = together(2, work)
    assert [a + b for a, b in zip(first, second, strict=True)] == whole


def test_prompts_come_once_a_pass():
    made = rollouts()
    order = made.prompt_order(0, 18)
    assert all(sorted(order[i : i + 6]) == list(range(6)) for i in (0, 6, 12))
    assert order[:6] != order[6:12] or order[6:12] != order[12:]


def test_every_process_takes_its_own_answers_out_of_the_checkpoint():
    def work(backend: Part) -> tuple[Rollout, dict[str, torch.Tensor]]:
        made = rollouts(backend, num_iterations=2)
        made(0, backend.rank, 2)
        assert made.rollout is not None
        return made.rollout, made.tensors()

    parts = together(2, work)
    (one, kept), (other, also) = parts
    assert kept.keys() == also.keys() and all(torch.equal(kept[name], also[name]) for name in kept)
    assert ids_of(one) != ids_of(other)
    for rank, found in enumerate((one, other)):
        again = rollouts(Part(rank, 2), num_iterations=2)
        again.load(kept, 1)
        assert again.rollout is not None and ids_of(again.rollout) == ids_of(found)
        assert again.rollout.measured == found.measured and again.rollout.count == found.count
        for ours, theirs in zip(again(1, rank, 2), rollouts_of(found)(1, rank, 2), strict=True):
            for name in ("tokens", "weights", "advantages", "old", "owner"):
                np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
            assert not ours.fresh and ours.count == theirs.count
        assert again.shown(2) == rollouts_of(found).shown(2) and len(again.shown(2)) == 2
    with pytest.raises(UserError, match="shared by as many processes"):
        rollouts(num_iterations=2).load(kept, 1)


def rollouts_of(found: Rollout) -> RolloutBatches:
    made = rollouts(num_iterations=2)
    made.rollout = found
    return made


def test_missing_rewards_and_parts_survive_the_way_through_a_checkpoint():
    examples = [Example(np.arange(n, dtype=np.int32), np.arange(n) >= 2, 0, "") for n in (3, 6)]
    values = [np.array([0.5], np.float32), np.arange(4, dtype=np.float32)]
    found = Rollout(
        examples,
        np.array([3, 1]),
        np.array([np.nan, 0.1]),
        np.array([True, False]),
        values,
        values,
        np.array([1, 0.25], np.float32),
        5.0,
        returns=values,
        measured={"reward": 1 / 3},
    )
    again = unpack(pack(found, Part()), Part())
    np.testing.assert_array_equal(again.rewards, found.rewards)
    assert again.ended.tolist() == [True, False] and again.questions.tolist() == [3, 1]
    assert again.measured == found.measured and again.values is None and again.returns is not None
    for ours, theirs in zip(again.returns, values, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == np.float32


def test_groups_without_a_difference_give_way_to_others():
    calls: list[int] = []

    def reward(answers: Sequence[Any]) -> np.ndarray:
        calls.append(len(answers))
        dull = [str(one["row"].place) in ("a:0", "a:1", "a:2") for one in answers]
        return np.where(dull, 1.0, length(answers) + np.arange(len(answers)))

    kept, replaced = (rollouts(reward=reward, even=even).sample(0, 0, 1) for even in (True, False))
    assert calls[0] == 12 and len(calls) > 2, "others were drawn"
    dull = [[(found.questions[i : i + 3] < 3).all() for i in range(0, 12, 3)] for found in (kept, replaced)]
    assert sum(dull[1]) < sum(dull[0])
    for i, was in enumerate(dull[0]):
        if not was:
            assert ids_of(kept)[3 * i : 3 * i + 3] == ids_of(replaced)[3 * i : 3 * i + 3]


def test_answers_that_the_limit_cut_off_may_have_a_reward_of_their_own():
    found = rollouts(truncated_reward=-3.0, max_completion_length=10).sample(0, 0, 1)
    assert not found.ended.all() and (found.rewards[~found.ended] == -3).all()
    assert (found.rewards[found.ended] > 0).all()


def test_batches_hold_every_answer_once_and_count_as_one_step():
    made = rollouts()
    batches = made(0)
    assert made.rollout is not None
    total = sum(float((batch.weights * batch.advantages).sum()) for batch in batches)
    wanted = sum(float(one.sum()) for one in made.rollout.advantages)
    assert total == pytest.approx(wanted, abs=1e-4)
    assert sum(batch.count for batch in batches) == pytest.approx(made.rollout.lengths.sum())
    assert sum(float((batch.weights > 0).sum()) for batch in batches) == made.rollout.lengths.sum()
    row: dict[str, Any] = {}
    made.add_to(row)
    assert row["length"] == pytest.approx(made.rollout.lengths.mean())
    assert row["reward"] == pytest.approx(made.rollout.rewards.mean()) and row["unjudged"] == 0
    assert row["reward_std"] == pytest.approx(made.rollout.rewards.std(), rel=1e-6)


def test_micro_batches_are_parts_of_the_whole(monkeypatch: pytest.MonkeyPatch):
    from congling.train.rl import rollout_buffer

    whole = rollouts()(0)
    monkeypatch.setattr(rollout_buffer, "MICRO_TOKENS", 40)
    parts = rollouts()(0)
    assert len(whole) == 1 and len(parts) > 2
    for name in ("weights", "advantages", "old"):
        assert sum(getattr(one, name).sum() for one in parts) == pytest.approx(
            getattr(whole[0], name).sum(), abs=1e-3
        )


def test_prompts_that_cannot_be_shared_out_are_named():
    with pytest.raises(UserError, match="cannot be shared out"):
        rollouts(prompts_per_step=3).sample(0, 0, 2)
