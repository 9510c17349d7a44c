"""Every verb that draws, with a base whose vocabulary was padded: ids that stand for no token never come."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from congling.core import artifact
from congling.core.rundir import RunDirectory
from congling.data.batches import Batch
from congling.infer.chat import Conversation
from congling.infer.checkpoints import load_checkpoint
from congling.infer.sampler import SamplingConfig
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.methods import evaluation, grpo, pairs, ppo, sft
from congling.model.checkpoint import save_model
from congling.model.transformer import Transformer
from congling.stages import generate
from congling.tokenizer.base import Roles
from congling.tokenizer.imported.hf_json import HuggingFaceTokenizer
from congling.train.backends.single import Single
from congling.train.config import TrainConfig
from congling.train.rl.on_policy_texts import OwnTextBatches
from support.tuning_doubles import TINY, make_base

PADDING = 24


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose rows without a token are by far the likeliest, beside the files of rows."""
    root = make_base(tmp_path_factory.mktemp("padded"))
    loaded = load_checkpoint(root / "base", "cpu")
    size = loaded.tokenizer.vocab_size
    config = loaded.model.config.replace(vocab_size=size + PADDING, tie_word_embeddings=False)
    model = Transformer(config)
    torch.manual_seed(0)
    with torch.no_grad():
        model.output_layer().weight[size:] = 30 * torch.randn(PADDING, config.hidden_size)  # type: ignore[index]
    with artifact.writing(root / "padded", "checkpoint", facts={"chat": True, "step": 1}) as folder:
        save_model(model, folder)
        shutil.copytree(root / "tokenizer", folder / "tokenizer")
    return root


def likeliest(base: Path) -> int:
    loaded = load_checkpoint(base / "padded", "cpu")
    return int(loaded.model.logits(loaded.model(torch.tensor([[1, 4, 5]])))[0, -1].argmax())


def test_the_base_would_draw_them(base: Path):
    assert likeliest(base) >= load_checkpoint(base / "padded", "cpu").tokenizer.vocab_size


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generate_and_chat(base: Path, temperature: float):
    sampling = SamplingConfig(temperature=temperature)
    texts = generate.run(base / "padded", ["问", "", "天地"], max_new_tokens=20, sampling=sampling)
    assert len(texts) == 3
    talk = Conversation(load_checkpoint(base / "padded", "cpu"), sampling=sampling, max_new_tokens=9)
    "".join(talk.answer("问天"))
    assert talk.messages[-1]["role"] == "assistant"


def test_a_packed_base_in_a_gguf_file(base: Path, tmp_path: Path):
    loaded = load_checkpoint(base / "padded", "cpu")
    foreign = ForeignModel(loaded.model.config, loaded.model.state_dict(), loaded.tokenizer, {"chat": True})
    gguf_model.write(foreign, tmp_path / "padded.gguf", "Q8_0")
    assert generate.run(tmp_path / "padded.gguf", ["问"], max_new_tokens=20) != [None]


def test_eval_by_tasks(base: Path, tmp_path: Path):
    texts = tmp_path / "texts.jsonl"
    lines = [{"text": "天地玄黄宇宙洪荒日月盈昃" * (6 + i)} for i in range(3)]
    texts.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines), encoding="utf-8")
    scores, _ = evaluation.measure(
        base / "padded", "continuation,repetition", [str(texts)], prefixes=(10,), chat=False
    )
    assert scores


def test_pairs(base: Path, tmp_path: Path):
    (base / "length.py").write_text("def length(row, text):\n    return float(len(text))\n", encoding="utf-8")
    kept, asked = pairs.run(
        base / "padded",
        [str(base / "prompts.jsonl")],
        [f"{base}/length.py:length"],
        tmp_path / "pairs.jsonl",
        answers=24,
        max_new_tokens=12,
        temperature=3.0,
    )
    assert asked == 12 and kept


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_reinforcement(base: Path, tmp_path: Path, method: str):
    stages: dict[str, Any] = {"grpo": grpo, "ppo": ppo}
    settings = [
        "rollout.max_completion_length=4",
        "rollout.prompts_per_step=2",
        "rollout.num_generations=2",
        "rollout.num_iterations=2",
        "train.max_steps=2",
        "train.sample_steps=1",
        "train.eval_steps=1",
    ]
    recipe = stages[method].read_recipe(
        [*TINY, *settings], [str(base / "prompts.jsonl")], [f"{base}/rules.py:plain"]
    )
    stages[method].run(base / "padded", recipe, tmp_path / "run")
    rows = list(RunDirectory(tmp_path / "run").log("metrics").rows())
    assert [row["step"] for row in rows if "loss" in row] == [1, 2]


def test_samples_of_sft(base: Path, tmp_path: Path):
    settings = [*TINY, "train.max_steps=1", "train.sample_steps=1", "train.optimizer.learning_rate=1e-9"]
    sft.run(base / "padded", sft.read_recipe(settings, [str(base / "prompts.jsonl")]), tmp_path / "run")
    assert list(RunDirectory(tmp_path / "run").log("samples").rows())


def test_texts_that_a_student_writes_itself(base: Path):
    loaded, settings = (
        load_checkpoint(base / "padded", "cpu"),
        TrainConfig(max_steps=1, max_length=16, device="cpu"),
    )
    barred = loaded.tokenizer.undrawable(loaded.model.config.vocab_size)
    tokens = np.full((3, 16), 5)
    batches = OwnTextBatches(
        lambda step, rank, world: [Batch(tokens, tokens, count=48.0)],
        loaded.model,
        share=1.0,
        prefix=4,
        seed=0,
        backend=Single(settings),
        undrawable=barred,
    )
    (own,) = batches(0)
    assert own.targets.max() < loaded.tokenizer.vocab_size


def test_holes_in_a_vocabulary_are_never_drawn_and_unused_tokens_may_be():
    vocabulary = {"a": 0, "b": 1, "<unused0>": 3, "c": 6, "</s>": 8}
    content = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": 8,
                "content": "</s>",
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
        ],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "truncation": None,
        "padding": None,
        "model": {
            "type": "BPE",
            "vocab": vocabulary,
            "merges": [],
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
        },
    }
    roles = Roles(None, 8, 8, frozenset({8}))
    tokenizer = HuggingFaceTokenizer.parsed(json.dumps(content), Path("here"), None, "", "", roles)
    assert tokenizer.undrawable(12) == [2, 4, 5, 7, 9, 10, 11]
