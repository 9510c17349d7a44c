"""lm-eval on our Hugging Face export chooses what our own likelihoods choose."""

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from congling.core.artifact import Artifact
from congling.evals import choice, lm_eval
from congling.evals.bench import Bench
from congling.evals.questions import questions
from congling.infer.checkpoints import Loaded
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.tokenizer import store
from congling.tokenizer.config import TokenizerConfig
from congling.tokenizer.training import train

pytestmark = pytest.mark.skipif(
    not lm_eval.available(), reason="lm-eval comes with congling[eval], transformers with congling[hf]"
)
LETTERS = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏"
ROWS = [
    {
        "question": f"{LETTERS[i]}对{LETTERS[i + 1]}？",
        "A": LETTERS[i + 2] * (1 + i % 3),
        "B": LETTERS[i + 3 : i + 7],
        "C": f"{LETTERS[i + 5]}不{LETTERS[i]}",
        "answer": "ABC"[i % 3],
    }
    for i in range(16)
]
ENDINGS = {
    "premise": "天地。",
    "choice1": "玄黄。",
    "choice2": "日月盈昃。",
    "question": "cause",
    "label": 1,
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("lm-eval")
    text = [f"题目：{row['question']}\n答案：{row['A']}" for row in ROWS] * 4
    train(TokenizerConfig(kind="bpe", vocab_size=420), lambda: iter(text), folder / "tokenizer")
    tokenizer = store.load(folder / "tokenizer")
    model = Transformer(
        FAMILIES["llama"](
            vocab_size=tokenizer.vocab_size,
            max_position_embeddings=64,
            num_hidden_layers=1,
            hidden_size=32,
            num_attention_heads=2,
        )
    )
    model.initialise(3)
    for parameter in model.parameters():
        parameter.data.mul_(6)
    return Loaded(model.eval(), tokenizer, Artifact(folder, "checkpoint", "", {}, {}))


def test_the_same_choice_on_every_row(loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: Any, **__: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refused)
    file = tmp_path / "quiz.jsonl"
    file.write_text("\n".join(map(json.dumps, [*ROWS, ENDINGS])), encoding="utf-8")
    bench = Bench(loaded, [str(file)])
    asked = questions(bench.files, bench.findings)
    nats = choice.option_nats(asked, bench, choice.opening)
    right = np.array([question.right for question in asked])
    lengths = [np.array([len(option) for option in question.options]) for question in asked]
    ours = {
        "acc": np.array([row.argmin() for row in nats]) == right,
        "acc_norm": np.array([cost.argmin() for cost in map(np.divide, nats, lengths)]) == right,
    }
    theirs = lm_eval.evaluate(loaded, [(choice.opening(question), question) for question in asked])
    assert {name: hits.tolist() for name, hits in ours.items()} == theirs
    assert 0 < sum(theirs["acc"]) < len(asked) == len(ROWS) + 1
    scores = {score.name: score.value for score in choice.run(bench)}
    assert scores["choice/sum"] == np.mean(theirs["acc"])
    assert scores["choice/normalised"] == np.mean(theirs["acc_norm"])
