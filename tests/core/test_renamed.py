"""Keys by the names of before: whoever types one is told the name of now, for every entry of the table."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from congling import cli
from congling.core.config import build
from congling.core.errors import UserError
from congling.core.renamed import OPTIONS, RENAMED, Renamed
from congling.model.config import ModelConfig
from congling.model.families import FAMILIES

EARLIER = Path(__file__).parents[1] / "roundtrip" / "earlier"
TYPED: dict[str, list[tuple[str, str, str]]] = {
    "train text.txt": [
        ("model", "ModelRecipe", ""),
        ("model.options", "ModelRecipe.options", ""),
        ("train", "TrainConfig", ""),
        ("train.optimizer", "AdamWConfig", "adamw"),
        ("train.optimizer", "MuonConfig", "muon"),
        ("train.schedule", "WSDConfig", "wsd"),
        ("train.schedule", "CosineConfig", "cosine"),
    ],
    "sft pre --data rows.jsonl": [
        ("", "SFTRecipe", ""),
        ("", "TuningRecipe", ""),
        ("adapter", "AdapterConfig", ""),
        ("train", "TrainConfig", ""),
    ],
    "dpo pre --data pairs.jsonl": [("preference", "PreferenceConfig", "")],
    "reward pre --data pairs.jsonl": [("reward", "RewardConfig", "")],
    "grpo pre --data questions.jsonl --reward exact": [
        ("rollout", "RolloutConfig", ""),
        ("grpo", "PolicyConfig", ""),
        ("grpo", "GRPOConfig", ""),
    ],
    "ppo pre --data questions.jsonl --reward exact": [
        ("ppo", "PolicyConfig", ""),
        ("ppo", "PPOConfig", ""),
    ],
    "distill pre pre/shards --tokenizer pre/tokenizer": [("distill", "DistillConfig", "")],
}
"""Verbs that take recipes; of their tables the key, the class, and the kind where there are several."""
MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ModelConfig": ("llama", ()),
    "AttentionConfig": ("llama", ("attention",)),
    "GatedMLPConfig": ("llama", ("mlp",)),
    "PlainMLPConfig": ("gpt2", ("mlp",)),
    "MoEConfig": ("qwen3-moe", ("mlp",)),
    "SoftmaxRouterConfig": ("qwen3-moe", ("mlp", "router")),
    "SigmoidRouterConfig": ("deepseek-moe", ("mlp", "router")),
    "RMSNormConfig": ("llama", ("norm",)),
    "LayerNormConfig": ("gpt2", ("norm",)),
    "RotaryConfig": ("llama", ("positions",)),
    "LinearScaling": ("llama", ("positions", "rope_scaling")),
    "Llama3Scaling": ("llama", ("positions", "rope_scaling")),
    "ScaledNormalConfig": ("gpt2", ("initial",)),
}
"""Parts of a model: a family that has them, and where."""
SCALINGS = {
    "LinearScaling": {"rope_type": "linear", "factor": 2.0},
    "Llama3Scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 32},
}
RECORDED = {"SFTConfig", "Sizes"}
"""Never typed as keys: what a run records of its recipe, and options of ``prune``."""


def test_every_class_of_the_table_is_tried_here() -> None:
    typed = {name for tables in TYPED.values() for _, name, _ in tables}
    assert RENAMED.keys() == typed | MODELS.keys() | RECORDED


def now(name: Any, family: str = "") -> Renamed:
    """What an entry says a key is called."""
    if isinstance(name, Renamed):
        return name
    return Renamed(name if isinstance(name, str) else name({"family": family}))


def typed() -> Iterator[tuple[str, str, str, str]]:
    """Verb, key of before, the words beside it, and the key of now."""
    for command, tables in TYPED.items():
        for table, name, kind in tables:
            for old, new in RENAMED[name].items():
                beside = f"{table}.kind={kind}" if kind else ""
                if table == "model":
                    yield command, f"model.{old}", "model.family=qwen3-moe", now(new, "qwen3-moe").name
                yield command, f"{table}.{old}".lstrip("."), beside, now(new).name


def refused(monkeypatch: pytest.MonkeyPatch, capfd: Any, folder: Path, *words: str) -> str:
    """What the program says when it refuses these words."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["congling", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    return capfd.readouterr().err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model and rows of every method."""
    return Path(shutil.copytree(EARLIER, tmp_path_factory.mktemp("earlier"), dirs_exist_ok=True))


@pytest.mark.parametrize(("command", "old", "beside", "new"), typed())
@pytest.mark.parametrize("way", ["command line", "recipe"])
def test_a_key_of_before_is_one_error_with_the_name_of_now(
    folder: Path, monkeypatch, capfd, tmp_path: Path, command: str, old: str, beside: str, new: str, way: str
) -> None:
    words = [*command.split(), *filter(None, [beside]), f"{old}=1"]
    if way == "recipe":
        table: dict[str, Any] = {}
        for key, value in (pair.split("=") for pair in words if "=" in pair):
            inner = table
            *tables, last = key.split(".")
            for one in tables:
                inner = inner.setdefault(one, {})
            inner[last] = 1 if value == "1" else value
        if words[0] == "train":
            table["data"] = {"sources": ["text.txt"]}
        (tmp_path / "recipe.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
        kept = [word for word in words if "=" not in word and word != "text.txt"]
        option = ["--recipe"] if words[0] == "distill" else []
        words = [*kept, *option, str(tmp_path / "recipe.toml")]
    said = refused(monkeypatch, capfd, folder, *words, "--out", str(tmp_path / "out"))
    first, _, hint = said.strip().rpartition("\n")
    assert "this key has another name now" in first and f"'{old}'" in first
    assert hint.strip().split()[:3] == ["help:", "write", new]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "old"), [(name, old) for name in MODELS for old in RENAMED[name]])
def test_a_part_of_a_model_is_told_its_name_of_now(name: str, old: str) -> None:
    family, path = MODELS[name]
    values = FAMILIES[family](
        vocab_size=300, max_position_embeddings=64, num_hidden_layers=2, hidden_size=64
    ).model_dump()
    if name in SCALINGS:
        values["positions"]["rope_scaling"] = SCALINGS[name]
    inner = values
    for key in path:
        inner[key] = inner = dict(inner[key])
    new = now(RENAMED[name][old]).name
    if new == "rope_type":
        inner |= {old: inner["rope_type"]}
    else:
        inner[old] = inner.pop(new, 1)
    with pytest.raises(UserError, match="this key has another name now") as told:
        build(ModelConfig, values, where="model.json")
    assert ".".join([*path, old]) in str(told.value) and f"write {new}" in str(told.value)


def test_values_that_were_renamed_are_told_too() -> None:
    from congling.train.config import TrainConfig

    for key, value, hint in (
        ("hand_on", "last", "write load_best_model_at_end = false"),
        ("hand_on", "best", "write load_best_model_at_end = true"),
    ):
        with pytest.raises(UserError, match=hint):
            build(TrainConfig, {"max_steps": 1, "max_length": 8, key: value})


@pytest.mark.parametrize("setting", ["steps=10", "model.steps=10", "data.rate=1"])
def test_a_key_of_before_in_another_table_is_told_where_it_belongs(
    folder: Path, monkeypatch, capfd, tmp_path: Path, setting: str
) -> None:
    said = refused(monkeypatch, capfd, folder, "train", "text.txt", setting, "--out", str(tmp_path / "out"))
    assert "did you mean train." in said


@pytest.mark.parametrize(("verb", "old"), [(verb, old) for verb, names in OPTIONS.items() for old in names])
def test_an_option_of_before_is_one_error_with_the_name_of_now(
    folder: Path, monkeypatch, capfd, verb: str, old: str
) -> None:
    said = refused(monkeypatch, capfd, folder, verb, "pre", f"{old}=1", "--out", "smaller")
    assert (
        said == f"congling: this option has another name now: {old!r}\n  help: write {OPTIONS[verb][old]}\n"
    )
