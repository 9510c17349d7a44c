"""Each sign of a wrong reward is seen in made-up curves of it, and in none of healthy runs."""

import random

import pytest

from congling.data.smallworld import generate
from congling.data.smallworld.config import SmallWorldConfig
from congling.evals.collapse import warnings


def codes(metrics, samples=()):
    return {finding.code for finding in warnings(metrics, samples)}


def curve(count=40, **columns):
    return [
        {"step": i, **{name: value(i / (count - 1)) for name, value in columns.items()}} for i in range(count)
    ]


def between(*points):
    """A line through evenly spaced values, as a function of 0 to 1, with a little noise."""
    noise = random.Random(3)

    def value(at):
        place = min(int(at * (len(points) - 1)), len(points) - 2)
        share = at * (len(points) - 1) - place
        middle = points[place] * (1 - share) + points[place + 1] * share
        return middle + 0.01 * noise.uniform(-1, 1) * max(map(abs, points))

    return value


PPO = {
    "reward": (0.13, 0.42, 0.53, 0.13, 0.51, 0.73, 1.06, 1.34, 1.25, 1.28, 1.4),
    "reward_std": (1.62, 1.6, 1.35, 1.52, 1.33, 1.26, 1.28, 1.02, 0.89, 1.13, 0.97),
    "length": (49.1, 47.6, 51.0, 51.2, 48.3, 51.7, 47.9, 49.9, 49.9, 51.5, 48.8),
    "kl": (0.0, 0.004, 0.017, 0.024, 0.039, 0.05, 0.071, 0.067, 0.065, 0.078, 0.066),
    "entropy": (0.72, 0.75, 0.73, 0.73, 0.77, 0.73, 0.75, 0.71, 0.69, 0.67, 0.67),
    "ended": (0.98, 1.0, 1.0, 0.97, 1.0, 1.0, 1.0, 1.0, 1.0, 0.98, 1.0),
}
"""Measured: it won 63 % of stories by rule against the model it began as."""
HELD_OUT = [{"validation_reward": value} for value in (1.34, 1.65, 2.39, 2.06, 2.12)]


def ppo(**changed):
    return curve(80, **{name: between(*points) for name, points in {**PPO, **changed}.items()})


def test_healthy_runs_show_nothing():
    assert codes(ppo() + HELD_OUT) == set()
    dpo = curve(
        93, chosen=between(0.0, 0.08, -0.28), rejected=between(0, -0.8, -7.2), margin=between(0, 0.4, 3.4)
    )
    assert codes(dpo) == set()
    judge = curve(
        132, chosen=between(-0.6, 0.55, 0.97), rejected=between(-0.4, -1, -1.4), accuracy=between(0.5, 0.9)
    )
    assert codes(judge) == set()
    sums = curve(
        160,
        reward=between(0.4, 0.8),
        reward_std=between(0.45, 0.4),
        length=between(4, 4),
        entropy=between(0.5, 0.2),
    )
    assert codes(sums) == set()


def test_chosen_answers_that_fall_are_told_though_accuracy_rises():
    fallen = curve(
        153, chosen=between(0, -3, -10), rejected=between(0, -20, -55), accuracy=between(0.5, 0.95)
    )
    assert codes(fallen) == {"falling-chosen"}
    assert codes(curve(60, chosen=between(-80, -79))) == set()  # simpo's are log-probabilities, not gains
    assert codes(curve(60, chosen=between(-80, -95))) == {"falling-chosen"}


@pytest.mark.parametrize(("last", "told"), [(110, {"length-drift"}), (12, {"length-drift"}), (75, set())])
def test_lengths_that_drift_are_told_whatever_the_reward_does(last, told):
    assert codes(ppo(length=(49, last), reward=(0.5, 0.5))) == told


def test_a_reward_that_rises_in_training_alone_is_told():
    fallen = [{"validation_reward": value} for value in (1.3, 1.4, 1.1, 0.6, 0.5)]
    assert codes(ppo() + fallen) == {"reward-hacking"}
    assert codes(ppo(reward=(1.0, 1.0)) + fallen) == set()


def test_a_rule_beside_the_judge_tells_what_the_judge_does_not_see():
    rules = (0.37, 0.36, 0.25, 0.14, 0.13)
    looks = [
        {
            "validation_reward": 0.1 * i,
            "validation_reward_judge": 0.1 * i,
            "validation_reward_smallworld": rule,
        }
        for i, rule in enumerate(rules)
    ]
    assert codes(ppo() + looks) == {"reward-hacking"}
    steady = [{**look, "validation_reward_smallworld": 0.37} for look in looks]
    assert codes(ppo() + steady) == set()


def test_entropy_that_is_gone_while_the_reward_rises_is_told():
    assert codes(ppo(entropy=(0.7, 0.3, 0.02))) == {"entropy-collapse"}
    assert codes(ppo(entropy=(0.7, 0.3, 0.02), reward=(1.0, 0.5))) == set()


def test_divergence_that_runs_away_is_told():
    assert codes(ppo(kl=(0.0, 0.2, 4.0))) == {"kl-explosion"}


def test_samples_that_say_the_same_more_and_more_are_told():
    stories = [
        document.text for document in generate(SmallWorldConfig(size=20_000, seed=3, mix={"story": 1}))
    ]

    def look(step, texts):
        return [{"step": step, "prompt": f"问{i}？", "text": text} for i, text in enumerate(texts)]

    healthy = [row for step in range(8) for row in look(step, stories[4 * step : 4 * step + 4])]
    assert codes((), healthy) == set()
    phrase = "他们约好明天再来，回家的路上一直在笑。"
    hacked = [
        row
        for step in range(8)
        for row in look(
            step,
            [
                one[: max(20, 100 - 12 * step)] + phrase * (step // 2)
                for one in stories[4 * step : 4 * step + 4]
            ],
        )
    ]
    assert "falling-diversity" in codes((), hacked)
