"""The single steps, each reading and writing finished directories, as the README shows them."""

import random
import sys
from pathlib import Path

import pytest

from congling import cli

STEPS = {
    "data inspect book.txt": "12 documents by chapter",
    "data make book.txt --out documents": "wrote documents",
    "tokenizer documents --out tokenizer tokenizer.kind=character": "character",
    "tokenize documents tokenizer --out shards": "chars/token",
    "plan --shards shards --no-measure budget=20s": "learning rate, muon",
    "plan book.txt --no-measure budget=20s": "(estimated)",
    "pretrain shards --tokenizer tokenizer --out run --force {small}": "trained: run",
    "pretrain shards --tokenizer tokenizer --out run --resume {small}": "trained: run",
    "eval run --split train --limit-tokens 100 --no-copying": "this model",
    "eval run": "copied from the training text",
    "report run": "run/report/report.html",
    "explain run": "do:",
    "explain run --json": '"severity"',
    "generate run --prompt 天 --prompt 地 --no-stream --max-new-tokens 4": "\n地",
}
"""What is called, one after the other, and what it says among other things."""
SMALL = (
    "model.num_hidden_layers=1 model.hidden_size=64 train.max_steps=3 train.max_length=32"
    " train.per_device_train_batch_size=2 train.sample_tokens=4 "
    "train.torch_compile=off"
)


def test_one_step_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = ("一", "二", "三", "四", "五", "六", "七", "八", "九", "十", "十一", "十二")
    draw = random.Random(0)
    texts = []
    for number in numbers:
        first, second = ("".join(draw.choices("天地山水花鸟风月日春秋", k=60)) for _ in range(2))
        texts.append(f"第{number}回\n{first}。\n{second}。\n")
    (tmp_path / "book.txt").write_text("".join(texts), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for line, expected in STEPS.items():
        monkeypatch.setattr(sys, "argv", ["congling", *line.format(small=SMALL).split()])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        assert not ended.value.code, shown.err
        assert expected in shown.out, line
    assert (tmp_path / "run" / "report" / "report.md").is_file()
