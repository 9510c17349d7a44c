"""A folder of each of these families is imported and trained further, by sft and by pretraining."""

import json
import random
from pathlib import Path

import pytest

from congling.data import corpus, shards
from congling.data.config import DataConfig
from congling.interop.foreign import ForeignModel
from congling.interop.formats import read_model
from congling.interop.hf import model as hf
from congling.interop.source import locate_checkpoint
from congling.methods import importing, pretrain, sft
from congling.methods.inputs import open_inputs, read_recipe
from congling.methods.planned import begin_or_go_on
from congling.model.counts import parameters
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.plan.recipe import Recipe
from congling.tokenizer import store, training
from congling.tokenizer.config import TokenizerConfig

FOREIGN = ("olmo2", "glm", "glm4", "gemma3")
TINY = (
    "train.max_steps=2",
    "train.max_length=48",
    "train.per_device_train_batch_size=2",
    "train.torch_compile=off",
    "train.device=cpu",
    "train.sample_tokens=2",
)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, draw = tmp_path_factory.mktemp("foreign"), random.Random(0)
    lines = ["".join(draw.choice("天地山水花鸟风月") for _ in range(30)) for _ in range(30)]
    (root / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    corpus.make(DataConfig(sources=(str(root / "text.txt"),), documents="line"), root / "documents")
    training.train(TokenizerConfig(kind="character"), lambda: iter(lines), root / "tokenizer")
    rows = [{"instruction": line[:5], "output": line[5:9]} for line in lines]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (root / "rows.jsonl").write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize("family", FOREIGN)
def test_it_is_imported_and_trained_further(family: str, material: Path, tmp_path: Path):
    words = store.load(material / "tokenizer")
    config = FAMILIES[family](
        vocab_size=words.vocab_size,
        max_position_embeddings=64,
        num_hidden_layers=2,
        hidden_size=32,
        num_attention_heads=2,
    )
    model = Transformer(config)
    assert sum(tensor.numel() for tensor in model.parameters()) == parameters(config)
    hf.write(ForeignModel(config, model.state_dict(), words), tmp_path / "hf")
    importing.run(tmp_path / "hf", tmp_path / "base", verify=False)
    tuned = sft.read_recipe([*TINY], [str(material / "rows.jsonl")])
    sft.run(tmp_path / "base", tuned, tmp_path / "sft")
    asked = read_recipe(Recipe, None, TINY)
    shards.write(material / "documents", tmp_path / "base" / "tokenizer", tmp_path / "shards")
    inputs = open_inputs(tmp_path / "shards", tmp_path / "base" / "tokenizer")
    run = begin_or_go_on(
        asked, inputs, tmp_path / "run", force=True, variant=pretrain.begun_from(tmp_path / "base")
    )
    assert [row["step"] for row in run.log("metrics").rows() if "loss" in row] == [1, 2]
    before = read_model(tmp_path / "hf").weights
    after = read_model(locate_checkpoint(tmp_path / "run")).weights
    moved = [name for name in before if not before[name].equal(after[name])]
    assert sorted(moved) == sorted(before)
