"""Completion: verbs, options, values and keys, quickly, and in the shell's own way."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from congling.cli.completion import answers, keys_of
from congling.core.shells import SCRIPTS, VARIABLE
from congling.plan.recipe import Recipe
from congling.train.config import TrainConfig

Call = Callable[..., "subprocess.CompletedProcess[str]"]
LIGHT = """
import sys
from congling.cli.completion import answers
assert answers(["train", "book.txt", "train.optim"]) and answers(["sft", "base", "adapter."])
heavy = {"torch", "numpy", "rich", "tokenizers"} & sys.modules.keys()
sys.exit(f"imported {heavy}" if heavy else 0)
"""
WORDS = {
    "verbs": ("tok", {"tokenizer", "tokenize"}),
    "a verb below a verb": ("data ins", {"inspect"}),
    "options": ("train book.txt --bu", {"--budget"}),
    "options of one below": ("data rows --mi", {"--mix"}),
    "options of one that parses itself": ("export-lora --lora-sc", {"--lora-scaled"}),
    "values of an option": ("prune run --score a", {"activation"}),
    "values of an argument": ("completion z", {"zsh"}),
    "tables": ("train book.txt tok", {"tokenizer."}),
    "a key on top": ("plan book.txt bud", {"budget="}),
    "keys of a table in a table": ("pretrain s train.optimizer.embedding_l",
                                   {"train.optimizer.embedding_learning_rate="}),
    "a key behind options": ("train --out run book.txt model.num_h", {"model.num_hidden_layers="}),
    "values of a key": ("sft base train.precision=b", {"train.precision=bf16"}),
    "values of a switch": ("sft base train.gradient_checkpointing=", {"train.gradient_checkpointing=true",
                                                            "train.gradient_checkpointing=false"}),
    "values that tables of a union have": ("train b train.optimizer.kind=", {"train.optimizer.kind=muon",
                                                                             "train.optimizer.kind=adamw"}),
    "keys of a method": ("dpo base preference.lo", {"preference.loss_type="}),
    "keys of the tokenizer": ("tokenizer docs tokenizer.vo", {"tokenizer.vocab_size="}),
    "keys of data": ("data make book.txt data.split.v", {"data.split.validation="}),
    "files are the shell's": ("train ", set()),
    "no verb": ("nonsense x", set()),
}  # fmt: skip


@pytest.mark.parametrize("case", WORDS)
def test_what_may_stand_there(case: str) -> None:
    line, expected = WORDS[case]
    assert {value for value, _ in answers(line.split(" "))} == expected


def test_every_key_of_a_recipe_is_known_once() -> None:
    keys = [key for key, *_ in keys_of(Recipe)]
    assert len(keys) == len(set(keys))
    assert {f"train.{name}" for name in TrainConfig.model_fields} - set(keys) == {
        "train.optimizer",
        "train.schedule",
    }
    assert {"budget", "data.split.validation", "train.optimizer.betas", "train.schedule.decay_ratio"} <= set(
        keys
    )


def test_completion_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_program_answers_in_lines(call: Call) -> None:
    done = call("train", "b", "train.optim", **{VARIABLE: "1"})
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert ["train.optimizer.learning_rate=", "default 0.013"] in rows


def test_what_cannot_be_answered_is_no_error(call: Call) -> None:
    done = call("\udcff", "--", "=", **{VARIABLE: "1"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_there_is_a_script_for_each_shell(call: Call, shell: str) -> None:
    done = call("completion", shell)
    assert done.stdout == SCRIPTS[shell] and VARIABLE in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(tmp_path: Path) -> None:
    """As readline calls it: words parted at ``=``, and only what stands behind it is replaced."""
    asked = [
        ["congling", "tok"],
        ["congling", "train", "b", "train.optimizer.kind", "=", "m"],
        ["congling", "train", "b", "train.optimizer.kind", "="],
        ["congling", "train", "b", "train.optimizer.le"],
        ["congling", "train", ""],
    ]
    program = f'congling() {{ "{sys.executable}" -m congling "$@"; }}\n{SCRIPTS["bash"]}'
    for words in asked:
        listed = " ".join(f"'{word}'" for word in words)
        program += f"COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; _congling_completion congling\n"
        program += 'printf "%s " "${COMPREPLY[@]}"; echo\n'
    file = tmp_path / "asked.sh"
    file.write_text(program, encoding="utf-8")
    done = subprocess.run(["bash", str(file)], capture_output=True, text=True, check=False)
    assert [set(line.split()) for line in done.stdout.splitlines()] == [
        {"tokenizer", "tokenize"},
        {"muon"},
        {"muon", "adamw"},
        {"train.optimizer.learning_rate="},
        set(),
    ], done.stderr
