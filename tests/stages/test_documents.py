"""``--json``: one document on standard output, for every verb that reports."""

import json
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from congling.cli import application
from congling.cli.verbs import VERBS, module_of

Call = Callable[..., "subprocess.CompletedProcess[str]"]
WITHOUT = {"chat", "completion", "train-text-from-scratch", "finetune", "export-lora"}
"""Verbs that talk, print a script, or keep to another program's output."""


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - WITHOUT))
def test_every_verb_that_reports_has_it(verb: str) -> None:
    command: Any = typer.main.get_command(application([verb])).commands[verb]  # type: ignore[attr-defined]
    for one in getattr(command, "commands", {verb: command}).values():
        assert any("--json" in parameter.opts for parameter in one.params), one.name
    assert import_module(module_of(verb)).__doc__


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of the small world."""
    from congling.data.smallworld import generate
    from congling.data.smallworld.config import SmallWorldConfig

    folder = tmp_path_factory.mktemp("world")
    texts = [document.text for document in generate(SmallWorldConfig(size=20_000, seed=1))]
    (folder / "book.txt").write_text("\n\n".join(texts), encoding="utf-8")
    return folder


def document(call: Call, *words: str | Path) -> Any:
    done = call(*map(str, words), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_from_text_to_token_files(call: Call, world: Path, tmp_path: Path) -> None:
    inspected = document(call, "data", "inspect", world / "book.txt")
    assert inspected["texts"]["summary"]["files"][0]["bytes"] == (world / "book.txt").stat().st_size
    made = document(call, "data", "make", world / "book.txt", "--out", "documents")
    assert made["out"] == "documents" and made["splits"]["train"]["documents"] > 1
    learnt = document(call, "tokenizer", "documents", "--out", "tokenizer", "tokenizer.vocab_size=600")
    assert learnt["report"]["vocab_size"] <= 600 and 0 < learnt["report"]["characters_per_token"] < 10
    written = document(call, "tokenize", "documents", "tokenizer", "--out", "shards")
    assert written["splits"]["train"]["tokens"] > 100
    plan = document(call, "plan", "--shards", "shards", "budget=1m", "--no-measure")
    assert plan["cost"]["seconds"] > 0
    rows = document(call, "data", "rows", "--count", "5", "--out", "rows.jsonl")
    assert rows["rows"] == 5
    looked = document(call, "data", "inspect", "rows.jsonl", "--tokenizer", "tokenizer")
    assert looked["rows"][0]["rows"] == 5


def test_an_error_leaves_standard_output_empty(call: Call) -> None:
    done = call("plan", "absent.txt", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("congling: no such file or folder")  # behind any progress


def test_in_a_locale_without_chinese_it_is_the_same_document(call: Call, world: Path, tmp_path: Path) -> None:
    (tmp_path / "书.txt").write_text((world / "book.txt").read_text(encoding="utf-8"), encoding="utf-8")
    variables = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    plain = call("data", "inspect", "书.txt", "--json", **variables)
    assert plain.stdout.isascii()
    assert json.loads(plain.stdout) == json.loads(call("data", "inspect", "书.txt", "--json").stdout)


def test_a_whole_run_its_scores_and_its_log(call: Call, world: Path, tmp_path: Path) -> None:
    tiny = [
        "model.num_hidden_layers=1",
        "model.hidden_size=32",
        "tokenizer.vocab_size=600",
        "train.max_steps=2",
        "train.per_device_train_batch_size=2",
    ]
    tiny += ["train.max_length=32", "train.torch_compile=off"]
    made = document(call, "train", world / "book.txt", *tiny, "--out", "x", "--force")
    assert made["held_out"]["loss"]["tokens"] > 100 and Path(tmp_path, made["report"]).is_file()
    scored = document(call, "eval", "x", "--no-copying")
    assert scored["loss"]["nats_per_token"] == made["held_out"]["loss"]["nats_per_token"]
    (listed,) = document(call, "runs", ".")["runs"]
    assert (listed["name"], listed["state"], listed["step"]) == ("x", "finished", 2)
    lines = (tmp_path / "x" / "run" / "log.txt").read_text(encoding="utf-8").splitlines()
    commands = [line.partition(" ")[2] for line in lines if line.partition(" ")[2].startswith("$ ")]
    assert [line.split()[:3] for line in commands] == [["$", "congling", "train"], ["$", "congling", "eval"]]
    assert any("step 2/2" in line for line in lines) and "\x1b" not in "".join(lines)
    assert list(tmp_path.rglob("log.txt")) == [tmp_path / "x" / "run" / "log.txt"]
