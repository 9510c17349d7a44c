"""Help: every verb in a line, options in groups, examples; quick, and within any window."""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from congling import cli
from congling.cli import usage
from congling.cli.verbs import GROUPS, VERBS, module_of
from congling.core import manual

Call = Callable[..., "subprocess.CompletedProcess[str]"]
RAW = ("train-text-from-scratch", "finetune", "export-lora")
PLAIN = [verb for verb in VERBS if verb not in RAW]
ALL_HELP = """
import sys
from congling.cli import application
for words in (["--help"], *([verb, "-h"] for verb in sys.argv[1:])):
    try:
        application(words)(words)
    except SystemExit as ended:
        assert not ended.code, words
heavy = {"torch", "numpy", "rich", "transformers", "tokenizers", "sentencepiece", "pyarrow", "jinja2"}
sys.exit(f"imported {heavy & sys.modules.keys()}" if heavy & sys.modules.keys() else 0)
"""


def shown(*words: str, columns: int = 80) -> str:
    done = CliRunner().invoke(cli.application(words), list(words), env={"COLUMNS": str(columns)})
    assert done.exit_code == 0, done.output
    return done.output


def test_the_table_of_verbs_is_that_of_the_stages() -> None:
    files = Path(cli.__file__).parents[1].glob("stages/[a-z]*.py")
    assert {f"congling.stages.{file.stem}" for file in files} == {module_of(verb) for verb in VERBS}
    assert len(VERBS) == sum(map(len, GROUPS.values()))  # none is in two groups


def test_help_loads_nothing_heavy() -> None:
    command = [sys.executable, "-c", ALL_HELP, *VERBS]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nExamples\n") == len(PLAIN) + 1


def test_the_program_shows_its_verbs_in_groups(call: Call) -> None:
    done = call("-h", COLUMNS="100")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == call("--help", COLUMNS="100").stdout
    for title, verbs in GROUPS.items():
        assert f"\n{title}\n" in done.stdout
        for verb, line in verbs.items():
            assert re.search(rf"^  {verb} +{re.escape(line)}$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_groups_and_examples(verb: str) -> None:
    text = shown(verb, "-h")
    assert text == shown(verb, "--help")
    assert text.lower().startswith("usage: congling " + verb)
    examples = text[text.lower().index("\nexamples") :]
    assert examples.count(f"  congling {verb}") >= 2
    assert not re.search(r"\[default: (no-|<)|``", text)


@pytest.mark.parametrize("verb", PLAIN)
@pytest.mark.parametrize("columns", [20, 60, 80, 300])
def test_help_fits_the_window(verb: str, columns: int) -> None:
    width = max(usage.NARROWEST, min(usage.WIDEST, columns))
    for line in shown(verb, "-h", columns=columns).splitlines():
        words = line.split()
        names = line.startswith("  -")  # of an option, in one piece
        assert len(line) <= width or names or len(words) == 1 or len(max(words, key=len)) > width - 10, line


def test_an_option_that_no_group_knows_is_a_setting() -> None:
    text = shown("train", "-h")
    settings = text[text.index("\nSettings\n") : text.index("\nResuming\n")]
    assert "--budget" in settings


@pytest.mark.parametrize("sub", ["make", "inspect", "rows"])
def test_help_of_a_verb_below_a_verb_has_its_own_examples(sub: str) -> None:
    text = shown("data", sub, "-h")
    assert f"Usage: congling data {sub}" in text
    examples = text[text.index("\nExamples\n") :]
    assert all(line.startswith((f"  congling data {sub} ", "      ")) for line in examples.splitlines()[2:])


def test_examples_begin_with_the_verb_and_go_on_with_known_ones() -> None:
    for verb in VERBS:
        called = [line.split()[1] for line in manual.examples(import_module(module_of(verb)).__doc__)]
        assert called[0] == verb and set(called) <= VERBS.keys()
