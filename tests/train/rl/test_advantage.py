"""Advantages: groups compared, failed rewards left out, and estimation against its definition."""

import numpy as np
import pytest

from congling.train.objectives.config import GRPOConfig, PPOConfig
from congling.train.rl.advantage import (
    gae,
    group_advantages,
    loss_denominator,
    overlong,
    token_weights,
    whitened,
)

NAN = float("nan")


def test_groups_are_compared_with_themselves():
    rewards = np.array([1.0, 2.0, 3.0, 10.0, 10.0, 10.0])
    found = group_advantages(rewards, 3, GRPOConfig())
    np.testing.assert_allclose(found, [-1 / 1.0001, 0, 1 / 1.0001, 0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(
        group_advantages(rewards, 3, GRPOConfig(scale_rewards="none")), [-1, 0, 1, 0, 0, 0]
    )
    batch = group_advantages(rewards, 3, GRPOConfig(scale_rewards="batch"))
    np.testing.assert_allclose(batch, np.array([-1, 0, 1, 0, 0, 0]) / (rewards.std(ddof=1) + 1e-4), rtol=1e-6)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_an_answer_without_a_reward_teaches_nothing_and_shifts_nobody(scale: str):
    config = GRPOConfig(scale_rewards=scale)
    found = group_advantages(np.array([1.0, NAN, 3.0, NAN, NAN, NAN]), 3, config)
    alone = group_advantages(np.array([1.0, 3.0]), 2, config)
    np.testing.assert_allclose(found, [alone[0], 0, alone[1], 0, 0, 0], rtol=1e-6)
    assert np.isfinite(group_advantages(np.full(4, NAN), 2, config)).all()


def test_a_batch_is_that_of_all_processes():
    rewards, config = np.array([1.0, 2.0, 4.0, 8.0]), GRPOConfig(scale_rewards="batch")
    whole = group_advantages(rewards, 2, config)
    parts = shared(
        [lambda total, part=part: group_advantages(part, 2, config, total) for part in np.split(rewards, 2)]
    )
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6)
    tokens = [np.array([1.0, 5.0, 2.0], np.float32), np.array([7.0], np.float32)]
    parts = shared([lambda total, part=part: whitened([part], total)[0] for part in tokens])
    np.testing.assert_allclose(np.concatenate(parts), np.concatenate(whitened(tokens)), rtol=1e-6)


def shared(processes):
    """Run processes side by side, as threads that wait for each other at every sum."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    barrier, given = Barrier(len(processes)), [0.0] * len(processes)

    def of(rank):
        def total(value):
            given[rank] = value
            barrier.wait()
            found = sum(given)
            barrier.wait()
            return found

        return total

    with ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(lambda rank: processes[rank](of(rank)), range(len(processes))))


def test_weights_and_their_divisor_make_the_average_that_is_named():
    lengths, losses = np.array([1, 3, 4]), [np.array([5.0]), np.array([1.0, 2, 3]), np.ones(4)]
    averages = {
        "grpo": np.mean([one.mean() for one in losses]),
        "dapo": np.concatenate(losses).mean(),
        "dr_grpo": sum(one.sum() for one in losses) / (3 * 10),
    }
    for average, wanted in averages.items():
        weights = token_weights(lengths, 10, average)
        total = sum((weight * one).sum() for weight, one in zip(weights, losses, strict=True))
        assert total / loss_denominator(lengths, average) == pytest.approx(wanted, rel=1e-6), average


def test_overlong_answers_lose_up_to_one():
    found = overlong(np.array([1, 6, 7, 8, 9, 10]), 10, 4)
    np.testing.assert_allclose(found, [0, 0, -0.25, -0.5, -0.75, -1])
    assert not overlong(np.array([10]), 10, 0).any()


@pytest.mark.parametrize(("gamma", "trace"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.8, 0.0)])
def test_generalised_advantages_are_their_definition(gamma: float, trace: float):
    random = np.random.default_rng(1)
    rewards = [random.normal(size=n) for n in (1, 4, 9)]
    values = [random.normal(size=n) for n in (1, 4, 9)]
    found, returns = gae(rewards, values, PPOConfig(gamma=gamma, lam=trace))
    for reward, value, advantage, worth in zip(rewards, values, found, returns, strict=True):
        after = np.append(value, 0.0)
        for t in range(len(reward)):
            # A_t = sum over l of (gamma lambda)^l delta_{t+l} (Schulman et al. 2015, equation 16)
            wanted = sum(
                (gamma * trace) ** (k - t) * (reward[k] + gamma * after[k + 1] - value[k])
                for k in range(t, len(reward))
            )
            assert advantage[t] == pytest.approx(wanted, rel=1e-5, abs=1e-6)
            assert worth[t] == pytest.approx(wanted + value[t], rel=1e-5, abs=1e-6)


def test_whitened_advantages_have_mean_0_and_deviation_1():
    found = np.concatenate(whitened([np.arange(5, dtype=np.float32), np.array([40.0], np.float32)]))
    assert found.mean() == pytest.approx(0, abs=1e-6) and found.std() == pytest.approx(1, rel=1e-5)
    assert np.isfinite(np.concatenate(whitened([np.ones(3, np.float32)]))).all()
