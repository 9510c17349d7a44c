"""Reward models: trained, gone on with, opened again, asked, and handed to PPO."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from congling.core import artifact
from congling.core.errors import UserError
from congling.infer.checkpoints import load_checkpoint
from congling.infer.reward_model import load_reward_model
from congling.interop.source import locate_checkpoint
from congling.methods import ppo, reward_model
from congling.methods.session import Tuned
from support.tuning_doubles import TINY, make_base, make_packed, require_same_after, rows_of

RUN = (
    "train.max_steps=8",
    "train.per_device_train_batch_size=2",
    "train.gradient_accumulation_steps=2",
    "train.save_steps=1",
    "train.eval_steps=4",
)
QUESTION = {"role": "user", "content": "问天"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("reward"))


def tuned(base: Path, out: Path, *settings: str, model: Path | None = None, **options: Any) -> Tuned:
    recipe = reward_model.read_recipe([*TINY, *RUN, *settings], [str(base / "pairs.jsonl")])
    return reward_model.run(model or base / "base", recipe, out, **options)


@pytest.fixture(scope="module")
def judge(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned(base, tmp_path_factory.mktemp("reward") / "judge").out


def talks(*texts: str) -> list[list[dict[str, str]]]:
    return [[QUESTION, {"role": "assistant", "content": text}] for text in texts]


def test_better_answers_have_higher_rewards(judge: Path):
    assert rows_of(judge, "loss")[-1] < rows_of(judge, "loss")[0] and rows_of(judge, "accuracy")[-1] == 1.0
    better, worse = load_reward_model(judge, "cpu")(talks("天", "地"))
    assert better > worse


def test_rewards_do_not_depend_on_what_is_scored_beside_them(judge: Path):
    model = load_reward_model(judge, "cpu")
    texts = [("天地玄黄"[: 1 + i % 4]) * (1 + i % 3) for i in range(40)]
    together = model(talks(*texts))
    alone = [model(talks(text))[0] for text in texts]
    assert together == pytest.approx(alone, rel=1e-4, abs=1e-5)
    assert all(map(torch.tensor(together).isfinite().tolist().__getitem__, range(40)))
    (beyond,) = model(talks("天" * 500))
    assert abs(beyond) < 1e3


@pytest.mark.parametrize("settings", [(), ("train.ema_decay=0.5",)])
def test_a_stopped_run_goes_on_with_the_same_bytes(base: Path, tmp_path: Path, settings: tuple[str, ...]):
    done = tuned(base, tmp_path / "run", "train.max_steps=4", *settings)
    assert (tmp_path / "run/checkpoints/step-00000004/scalar_head.safetensors").is_file()
    require_same_after(done.out, [2], lambda out: tuned(base, out, "train.max_steps=4", *settings), tmp_path)


def test_pairs_that_fill_the_context_are_judged_at_their_end(base: Path, tmp_path: Path):
    rows = [{"prompt": "问地"[: 1 + n % 2], "chosen": "天" * n, "rejected": "地" * n} for n in range(38, 60)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "long.jsonl").write_text(text, encoding="utf-8")
    recipe = reward_model.read_recipe([*TINY, *RUN, "train.max_steps=2"], [str(tmp_path / "long.jsonl")])
    done = reward_model.run(base / "base", recipe, tmp_path / "run")
    assert done.before is not None and 0 < done.before < 5


def test_it_stays_a_language_model(judge: Path):
    loaded = load_checkpoint(judge, "cpu")
    assert not hasattr(loaded.model, "scalar_head")


def test_only_whole_models_are_trained(base: Path, tmp_path: Path):
    with pytest.raises(UserError, match="a reward model is trained whole"):
        tuned(base, tmp_path / "run", model=make_packed(base))
    with pytest.raises(UserError, match="a reward model is trained whole"):
        tuned(base, tmp_path / "run", "adapter.r=2")


def test_a_model_without_a_head_is_no_judge(base: Path):
    with pytest.raises(UserError, match="no reward model"):
        load_reward_model(base / "base", "cpu")
    with pytest.raises(UserError, match="no reward model"):
        load_reward_model(make_packed(base), "cpu")


def test_ppo_learns_from_a_judge_and_goes_on_only_with_it(base: Path, judge: Path, tmp_path: Path):
    copy = tmp_path / "judge"
    shutil.copytree(judge, copy)
    settings = (
        *TINY,
        "train.max_steps=2",
        "rollout.max_completion_length=3",
        "rollout.prompts_per_step=4",
        "train.save_steps=1",
    )
    recipe = ppo.read_recipe(settings, [str(base / "prompts.jsonl")], [f"{copy}=2"])
    done = ppo.run(base / "base", recipe, tmp_path / "run")
    assert len(rows_of(done.out, "reward")) == 2
    shutil.rmtree(locate_checkpoint(copy))
    for name in ("BEST", "LATEST"):
        other = sorted((copy / "checkpoints").iterdir())[0].name
        artifact.write_text(copy / name, other + "\n")
    with pytest.raises(UserError, match="made from other data"):
        ppo.run(base / "base", recipe, tmp_path / "run")
