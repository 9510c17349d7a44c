"""Runs, checkpoints, recipes and settings written before keys had the names of now, in ``earlier/``.

The program of then trained a mixture of experts with Muon and one model by every method after it, and was
stopped in the middle of each; ``configs/`` holds the settings of further families as it wrote them. Here they
are opened, explained, generated from and gone on with, by the commands of then in the words of now.
"""

import json
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from congling import cli
from congling.core import renamed
from congling.core.config import load
from congling.methods.recipes import PretrainConfig
from congling.model.transformer import Transformer
from congling.plan.recipe import Recipe

EARLIER = Path(__file__).parent / "earlier"
FILES = ("text.txt", "rows.jsonl", "pairs.jsonl", "questions.jsonl")
DEVICE = "train.device=cpu train.precision=fp32 train.torch_compile=off"
ADAPTER = "adapter.r=2 adapter.target_modules=['attention']"
SAVES = "train.save_steps=10 train.save_total_limit=1"
ROLLOUT = (
    "rollout.num_generations=2 rollout.max_completion_length=4 rollout.prompts_per_step=2 "
    f"train.max_steps=12 train.save_steps=4 train.save_total_limit=1 train.eval_steps=6 {ADAPTER}"
)
COMMANDS = {
    "sft": f"pre --data rows.jsonl neftune_noise_alpha=5 train.max_steps=40 {ADAPTER} {SAVES}",
    "dpo": "pre --data pairs.jsonl preference.loss_type=ipo preference.rpo_alpha=0.1 train.max_steps=40 "
    f"train.per_device_train_batch_size=2 {ADAPTER} {SAVES}",
    "reward": "pre --data pairs.jsonl reward.center_rewards_coefficient=0.02 train.max_steps=40 "
    f"train.eval_steps=20 {SAVES}",
    "grpo": f"pre --data questions.jsonl --reward exact grpo.loss_type=grpo "
    f"grpo.dynamic_sampling=false grpo.epsilon_high=0.3 rollout.truncated_reward=0 {ROLLOUT}",
    "ppo": f"pre --data questions.jsonl --reward exact ppo.lam=0.9 {ROLLOUT}",
    "distill": "pre pre/shards --tokenizer pre/tokenizer distill.lmbda=0.5 distill.prefix_tokens=4 "
    "model.family=llama model.num_hidden_layers=1 model.hidden_size=8 model.num_attention_heads=2 "
    f"train.max_length=32 train.per_device_train_batch_size=4 train.max_steps=40 {SAVES}",
    "train": "text.txt data.documents=line data.deduplicate=false tokenizer.kind=character "
    "model.family=qwen3-moe model.num_hidden_layers=1 model.hidden_size=8 model.num_attention_heads=2 "
    "model.moe_intermediate_size=8 model.max_position_embeddings=32 model.options.num_experts=4 "
    "train.max_length=32 train.per_device_train_batch_size=4 train.gradient_accumulation_steps=2 "
    "train.max_steps=80 train.save_steps=20 train.eval_steps=30 train.save_total_limit=1 "
    "train.max_grad_norm=0.5 train.ema_decay=0.9",
}
"""What each run was begun with, without ``--out`` and the device."""

Call = Callable[..., str]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Call the program in this process; what it said."""

    def called(*words: str, folder: Path) -> str:
        monkeypatch.chdir(folder)
        monkeypatch.setattr("sys.argv", ["congling", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capfd.readouterr()
        assert ended.value.code == 0, said.err
        return said.out

    return called


def laid_out(folder: Path, *runs: str) -> Path:
    """A folder with the data, and copies of some of the runs of then."""
    folder.mkdir()
    for name in FILES:
        shutil.copy(EARLIER / name, folder / name)
    for name in runs:
        shutil.copytree(EARLIER / name, folder / name)
    return folder


def weights(run: Path) -> dict[str, torch.Tensor]:
    """All that a run learnt, by checkpoint and name."""
    files = sorted(run.glob("**/checkpoints/step-*/*.safetensors"))
    return {
        f"{file.relative_to(run)}: {name}": tensor
        for file in files
        for name, tensor in load_file(file).items()
    }


def losses(run: Path) -> list[Any]:
    """The loss of every step."""
    rows = map(json.loads, next(run.glob("**/metrics.jsonl")).read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


RUNS = ("pre/run", "sft", "dpo", "reward", "grpo", "ppo", "distill")


@pytest.mark.parametrize("run", RUNS)
def test_a_run_is_explained_and_reported_in_the_words_of_now(call: Call, tmp_path: Path, run: str):
    folder = laid_out(tmp_path / "folder", *{"pre", run.partition("/")[0]})
    told = call("explain", run, folder=folder)
    call("report", run, "--out", "page", folder=folder)
    page = next(folder.glob("page*/*.md")).read_text()
    for text in (told, page.partition("```")[0]):  # there the command stands as it was typed
        assert text and not OLD.search(text), OLD.search(text)
    assert "max_steps" in page


OLD = re.compile(
    r"\b(?:train\.(?:steps|rows|context|clip)|adapter\.(?:rank|targets)|train\.optimizer\.rate)\b"
)
"""Some of the keys of before, which nothing that is shown may name."""


def test_text_goes_on_in_models_of_before(call: Call, tmp_path: Path):
    folder = laid_out(tmp_path / "folder", "pre", "distill", "reward", "sft")
    for words in (["pre"], ["distill"], ["reward"], ["pre", "--lora", "sft/checkpoints/step-00000011"]):
        text = call(
            "generate", *words, "--prompt", "天", "--max-new-tokens", "4", "--temperature", "0", folder=folder
        )
        assert text.startswith("天") and len(text.strip()) == 5


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_run_goes_on_to_the_bits_of_one_that_was_never_stopped(call: Call, tmp_path: Path, verb: str):
    out = "pre" if verb == "train" else verb
    resumed = laid_out(tmp_path / "resumed", *{"pre", out})
    whole = laid_out(tmp_path / "whole", *({"pre"} - {out}))
    before = losses(EARLIER / out)
    for folder in (resumed, whole):
        new = [] if folder == resumed else ["train.sums=sequential"]  # as every run of then
        call(verb, *COMMANDS[verb].split(), *DEVICE.split(), *new, "--out", out, folder=folder)
    assert "resumed" in next((resumed / out).glob("**/events.jsonl")).read_text()
    assert "finished" in next((resumed / out).glob("**/events.jsonl")).read_text()
    found, expected = weights(resumed / out), weights(whole / out)
    assert found and found.keys() == expected.keys()
    exact = losses(whole / out)[: len(before)] == before  # else another machine computes here than then
    for name in expected:
        if exact:
            assert torch.equal(found[name], expected[name]), name
        else:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-2, atol=1e-3)


def leaves(table: Any) -> Counter[str]:
    """The values of a table, in whatever place."""
    if isinstance(table, Mapping):
        return sum((leaves(value) for value in table.values()), Counter[str]())
    return Counter([repr(VALUES.get(table, table) if isinstance(table, str) else table)])


VALUES = {"best": True, "last": False, "spectral": "original", "rms": "match_rms_adamw"}
"""Values that have other names now, as settings of pretraining hold them."""


@pytest.mark.parametrize("file", sorted(EARLIER.glob("configs/*.toml")), ids=lambda file: file.stem)
def test_settings_of_before_are_read_value_for_value(file: Path):
    config = load(PretrainConfig, file, recorded=True)
    before, now = tomllib.loads(file.read_text()), tomllib.loads(config.to_toml())
    assert not leaves(before["model"]) - leaves(now["model"])
    assert not leaves(before["train"]) - leaves(now["train"])
    assert len(list(Transformer(config.model).parameters())) > 0


@pytest.mark.parametrize("file", sorted(EARLIER.glob("recipes/*.toml")), ids=lambda file: file.stem)
def test_recipes_that_runs_keep_are_read_value_for_value(file: Path):
    recipe = load(Recipe, file, recorded=True)
    assert not leaves(tomllib.loads(file.read_text())) - leaves(tomllib.loads(recipe.to_toml()))


def test_every_key_of_the_table_is_in_something_recorded_here():
    text = "".join(
        file.read_text()
        for pattern in ("**/*.toml", "**/plan.json", "**/adapter.json")
        for file in EARLIER.glob(pattern)
    )
    recorded = {name: keys for name, keys in renamed.RENAMED.items() if name not in {"Sizes", "TuningRecipe"}}
    missing = {
        f"{name}.{key}"
        for name, keys in recorded.items()
        for key in keys
        if not re.search(rf"(?m)(?:^{key} =|\b{key}\]$|\"{key}\":)", text)
    }
    assert not missing
