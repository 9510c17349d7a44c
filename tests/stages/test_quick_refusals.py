"""Settings that are wrong are refused before torch is loaded, so at once."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from congling import cli
sys.argv = ["congling", *sys.argv[1:]]
try:
    code = cli.main()
except SystemExit as end:
    code = end.code
print(code, "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["train", "text.txt", "train.rate=1"],
        ["train", "nowhere.txt"],
        ["sft", "base", "--data", "text.txt", "train.nothing=1"],
        ["dpo", "base", "--data", "text.txt", "preference.nothing=1"],
        ["reward", "base", "--data", "text.txt", "reward.nothing=1"],
        ["grpo", "base", "--data", "text.txt", "--reward", "exact", "grpo.nothing=1"],
        ["ppo", "base", "--data", "text.txt", "--reward", "exact", "ppo.nothing=1"],
    ],
    ids=" ".join,
)
def test_what_is_typed_is_checked_before_torch_is_loaded(words, tmp_path):
    (tmp_path / "text.txt").write_text("从前有一座山。\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words, "--out", "out"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split() == ["1", "False"], done.stderr
    assert done.stderr.startswith("congling: ")


@pytest.mark.parametrize("words", [["plan", "nowhere.txt"], ["plan", "run", "--json"]], ids=" ".join)
def test_a_plan_tells_what_it_is_given_without_torch(words, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split() == ["1", "False"], done.stderr
    assert "no such file or folder" in done.stderr
