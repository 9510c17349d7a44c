"""Imported models of other classes are counted exactly and trained further: two steps of each method."""

import json
from pathlib import Path

import pytest

from congling.data import corpus, shards
from congling.data.config import DataConfig
from congling.infer.checkpoints import load_checkpoint
from congling.methods import conversion, importing, pretrain, sft
from congling.methods.inputs import open_inputs, read_recipe
from congling.methods.planned import begin_or_go_on
from congling.model.counts import parameters
from congling.plan.cost import estimate
from congling.plan.recipe import Recipe
from congling.tokenizer import store, training
from congling.tokenizer.config import TokenizerConfig
from congling.train.config import TrainConfig

pytest.importorskip("transformers", reason="the originals come with congling[hf]")
from support.foreign_folders import MAKERS
from support.situations import HLM, LAPTOP

CASES = ("ernie", "hunyuan", "smollm3", "minicpm", "internlm2", "minimind, experts")
TINY = (
    "train.max_steps=2",
    "train.per_device_train_batch_size=2",
    "train.device=cpu",
    "train.torch_compile=off",
    "train.sample_tokens=2",
)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents, a tokenizer and rows of instructions."""
    root = tmp_path_factory.mktemp("texts")
    lines = [f"{a}对{b}，{b}对{a}。" for a in "云雨雪风花鸟" for b in "天地山水日月"]
    (root / "text.txt").write_text("\n".join(lines * 3), encoding="utf-8")
    corpus.make(
        DataConfig(sources=(str(root / "text.txt"),), documents="line", deduplicate=False), root / "documents"
    )
    training.train(TokenizerConfig(kind="character"), lambda: iter(lines), root / "tokenizer")
    rows = [{"instruction": line, "output": line} for line in lines]
    (root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return root


@pytest.fixture(scope="module", params=CASES)
def base(request: pytest.FixtureRequest, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An imported checkpoint, in which as many values are counted as the class has."""
    root = tmp_path_factory.mktemp("imported")
    original = MAKERS[request.param][0](root / "folder", store.load(texts / "tokenizer").vocab_size)
    importing.run(root / "folder", root / "base", tokenizer=texts / "tokenizer", verify=False)
    config = load_checkpoint(root / "base", "cpu").model.config
    there = sum(parameter.numel() for parameter in original.parameters())
    assert (
        parameters(config)
        == estimate(config, TrainConfig(max_steps=2, max_length=24), HLM, LAPTOP).total_parameters
        == there
    )
    return root / "base"


def test_pretraining_goes_on_from_it(base: Path, texts: Path, tmp_path: Path) -> None:
    shards.write(texts / "documents", base / "tokenizer", tmp_path / "shards")
    inputs, task = open_inputs(tmp_path / "shards", base / "tokenizer"), pretrain.begun_from(base)
    recipe = read_recipe(Recipe, None, [*TINY, "train.max_length=24"])
    begin_or_go_on(recipe, inputs, tmp_path / "run", force=True, variant=task)
    assert_trained(base, tmp_path / "run", tmp_path)


def test_tuning_goes_on_from_it(base: Path, texts: Path, tmp_path: Path) -> None:
    recipe = sft.read_recipe([*TINY, "train.max_length=48"], [str(texts / "rows.jsonl")])
    sft.run(base, recipe, tmp_path / "run", force=True)
    assert_trained(base, tmp_path / "run", tmp_path)


def assert_trained(base: Path, run: Path, folder: Path) -> None:
    """Every matrix moved, the configuration stayed, and the result goes out again."""
    before, after = load_checkpoint(base, "cpu").model, load_checkpoint(run, "cpu").model
    assert after.config == before.config
    moved = after.state_dict()
    assert all(not moved[name].equal(weight) for name, weight in before.state_dict().items())
    done = conversion.run(run, "hf", folder / "hf", type="F32", verify=False)
    assert (done.path / "config.json").is_file()
