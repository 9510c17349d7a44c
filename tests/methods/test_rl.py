"""Learning from rewards: the reward rises, and a run stopped between or within rollouts goes on exactly."""

from pathlib import Path
from typing import Any

import pytest

from congling.core.errors import UserError
from congling.infer.checkpoints import load_checkpoint
from congling.methods import grpo, ppo
from congling.methods.session import Tuned
from support.tuning_doubles import (
    REWARD,
    TINY,
    factors_norm,
    make_base,
    make_packed,
    require_same_after,
    rows_of,
)

RUN = (
    "rollout.max_completion_length=4",
    "rollout.prompts_per_step=4",
    "rollout.num_generations=6",
    "train.save_steps=1",
    "train.eval_steps=3",
    "train.sample_steps=1",
)
STAGES: dict[str, Any] = {"grpo": grpo, "ppo": ppo}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("grpo"))


def tuned(
    base: Path,
    out: Path,
    *settings: str,
    method: str = "grpo",
    model: Path | None = None,
    reward: str = "rules.py:plain",
    rows: str = "prompts.jsonl",
    **options: Any,
) -> Tuned:
    stage, rule = STAGES[method], reward.replace("rules.py", str(base / "rules.py"))
    recipe = stage.read_recipe([*TINY, *RUN, *settings], [str(base / rows)], [rule])
    return stage.run(model or base / "base", recipe, out, **options)


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_the_reward_rises(base: Path, tmp_path: Path, method: str):
    done = tuned(
        base,
        tmp_path / "run",
        "train.max_steps=20",
        "train.save_steps=20",
        "rollout.num_iterations=2",
        method=method,
    )
    rewards = rows_of(done.out, "reward")
    assert rewards[-1] > rewards[0] + 0.1, rewards
    assert done.before is not None and done.after is not None and done.after > done.before
    loaded = load_checkpoint(done.out, "cpu")
    assert loaded.tuned_for_chat and not hasattr(loaded.model, "scalar_head")


def test_a_value_head_expects_nothing_at_first(base: Path, tmp_path: Path):
    (base / "one.py").write_text("def one(row, text):\n    return 1.0\n", encoding="utf-8")
    done = tuned(
        base,
        tmp_path / "run",
        "train.max_steps=1",
        "ppo.lam=1",
        "ppo.beta=0",
        method="ppo",
        reward=f"{base / 'one.py'}:one",
    )
    assert rows_of(done.out, "value_loss") == pytest.approx([0.5])  # ½ (0 − 1)² at every token


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("grpo", ("rollout.num_iterations=2", "grpo.beta=0.1", "grpo.loss_type=grpo")),
        ("grpo", ("rollout.num_iterations=2", "grpo.beta=0.1", "adapter.r=2", "adapter.lora_dropout=0.1")),
        (
            "grpo",
            (
                "grpo.dynamic_sampling=true",
                "grpo.scale_rewards=batch",
                "grpo.soft_punish_cache=2",
                "train.ema_decay=0.5",
            ),
        ),
        ("ppo", ("rollout.num_iterations=3", "train.ema_decay=0.5")),
        ("ppo", ("rollout.num_iterations=2", "adapter.r=2", "train.ema_decay=0.5")),
    ],
)
def test_a_stopped_run_goes_on_with_the_same_bytes(
    base: Path, tmp_path: Path, method: str, settings: tuple[str, ...]
):
    settings = ("train.max_steps=5", *settings)
    done = tuned(base, tmp_path / "run", *settings, method=method)
    assert done.adapter is None or factors_norm(done.out) > 0
    require_same_after(
        done.out, [3, 4], lambda out: tuned(base, out, *settings, method=method, must_resume=True), tmp_path
    )


def test_a_packed_base_takes_an_adapter(base: Path, tmp_path: Path):
    done = tuned(
        base, tmp_path / "run", "train.max_steps=2", "adapter.r=2", "grpo.beta=0.1", model=make_packed(base)
    )
    assert done.adapter is not None and factors_norm(done.out) > 0


def test_a_run_goes_on_only_with_its_own_prompts_and_rewards(base: Path, tmp_path: Path):
    few = ("train.max_steps=1", "train.eval_steps=9")
    tuned(base, tmp_path / "run", *few)
    with pytest.raises(UserError, match="other settings: 'rewards'"):
        tuned(base, tmp_path / "run", *few, reward="exact")
    with pytest.raises(UserError, match="made from other data"):
        text = (base / "prompts.jsonl").read_text(encoding="utf-8")
        try:
            (base / "prompts.jsonl").write_text(text.replace("问天", "问问"), encoding="utf-8")
            tuned(base, tmp_path / "run", *few)
        finally:
            (base / "prompts.jsonl").write_text(text, encoding="utf-8")
    try:
        (base / "rules.py").write_text(REWARD.replace("0.2", "0.3"), encoding="utf-8")
        with pytest.raises(UserError, match="made from other data"):
            tuned(base, tmp_path / "run", *few)
    finally:
        (base / "rules.py").write_text(REWARD, encoding="utf-8")


def test_a_reward_that_fails_now_and_then_costs_nothing_but_those_answers(base: Path, tmp_path: Path):
    (base / "shy.py").write_text(
        "def shy(row, text):\n    return 1 / (len(text) - 3) if '天' not in text else None\n",
        encoding="utf-8",
    )
    done = tuned(base, tmp_path / "run", "train.max_steps=2", reward=f"{base / 'shy.py'}:shy")
    assert rows_of(done.out, "unjudged")[0] > 0 and len(rows_of(done.out, "reward")) == 2
    assert "NaN" not in (done.out / "samples.jsonl").read_text() + (done.out / "metrics.jsonl").read_text()


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_a_reward_that_never_says_anything_ends_the_run_with_one_message(
    base: Path, tmp_path: Path, method: str
):
    (base / "mute.py").write_text("def mute(row, text):\n    return float('nan')\n", encoding="utf-8")
    with pytest.raises(UserError, match="no reward could be told for any answer"):
        tuned(base, tmp_path / "run", "train.max_steps=2", method=method, reward=f"{base / 'mute.py'}:mute")


@pytest.mark.parametrize(("settings", "reason"), [
    (("rollout.max_completion_length=48",), "answers fill the whole context"),
    (("rollout.max_completion_length=44",), "nothing to learn"),
    (("rollout.num_generations=1",), "needs several answers to a prompt"),
    (("train.max_length=10",), "too short for prompts and answers"),
    (("rollout.temperature=0",), "greater than 0"),
    (("grpo.epsilno=0.2",), "did you mean 'epsilon'"),
])  # fmt: skip
def test_mistakes_are_named_before_anything_is_written(
    base: Path, tmp_path: Path, settings: tuple[str, ...], reason: str
):
    with pytest.raises(UserError, match=reason):
        tuned(base, tmp_path / "run", "train.max_steps=1", *settings)
    assert not (tmp_path / "run/checkpoints").exists()
