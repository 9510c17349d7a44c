"""Rewards by name: what they give, and that a failing one costs an answer its reward and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from congling.core.errors import UserError
from congling.data.problems import Place
from congling.data.sources.fields import Log
from congling.data.tuning.preference_rows import question_of
from congling.methods import rewards

FUNCTIONS = """
import math, sys
import numpy as np
import torch

class Odd:
    def __repr__(self): raise RuntimeError("no")

class OddError(Exception):
    def __str__(self): raise RuntimeError("no")

def length(row, text): return len(text)
def flag(row, text): return text == "a"
def half(row, text): return np.float32(0.5)
def raises(row, text): raise ValueError("bad " + text)
def nan(row, text): return math.nan
def infinite(row, text): return -math.inf
def huge(row, text): return 10 ** 400
def text(row, text): return "1"
def nothing(row, text): pass
def tensor(row, text): return torch.ones(3)
def odd(row, text): return Odd()
def odd_error(row, text): raise OddError()
def leaves(row, text): sys.exit(3)
def many(row, text, more): return 1
def deep(row, text): return deep(row, text)
def sometimes(row, text): return 1 / (len(text) - 2)
number = 5
"""
RAISING = {
    "raises": "raises ValueError", "nan": "gives no finite number", "infinite": "gives no finite number",
    "huge": "gives no finite number", "text": "gives no finite number", "nothing": "gives no finite number",
    "tensor": "gives no finite number", "odd": "gives no finite number", "odd_error": "raises OddError",
    "leaves": "raises SystemExit", "many": "raises TypeError", "deep": "raises RecursionError",
}  # fmt: skip


WHOLE = """
from __future__ import annotations
from dataclasses import dataclass
from helper_of_rules import bonus
@dataclass
class Rule:
    weight: float
def judged(row, text):
    import other_of_rules
    return Rule(bonus).weight + other_of_rules.more
def greedy(row, text):
    row["prompt"] = row["tags"].append("changed") or "changed"
    return 1
"""


def test_a_file_loads_as_if_it_were_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules.py").write_text(WHOLE, encoding="utf-8")
    (tmp_path / "helper_of_rules.py").write_text("bonus = 0.25", encoding="utf-8")
    (tmp_path / "other_of_rules.py").write_text("more = 0.5", encoding="utf-8")
    loaded = rewards.load([f"{tmp_path / 'rules.py'}:judged"])
    assert list(loaded(answers("a"))) == [0.75]
    assert f"runs the code of {tmp_path / 'rules.py'}" in capsys.readouterr().err


def test_a_function_cannot_change_rows(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(WHOLE.replace("from helper_of_rules import bonus", ""), "utf-8")
    loaded, record = rewards.load([f"{tmp_path / 'rules.py'}:greedy"]), {"prompt": "问", "tags": ["a"]}
    asked = answers("a", "b", record=record)
    assert list(loaded(asked)) == [1, 1]
    assert record == {"prompt": "问", "tags": ["a"]}
    assert all(dict(one["row"].fields) == record for one in asked)


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rewards") / "rules.py"
    path.write_text(FUNCTIONS, encoding="utf-8")
    return path


def answers(*texts: str, record: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    row = question_of(record or {"prompt": "问", "answer": "a"}, Place("rows", 1), Log())
    return [{"row": row, "text": text, "messages": row.prompt, "ended": True} for text in texts]


def test_functions_see_the_row_and_the_text(functions: Path):
    found = rewards.load([f"{functions}:length"])(answers("a", "abc", ""))
    assert found.tolist() == [1.0, 3.0, 0.0]
    assert rewards.load([f"{functions}:flag"])(answers("a", "b")).tolist() == [1.0, 0.0]
    assert rewards.load([f"{functions}:half"])(answers("a")).tolist() == [0.5]


def test_several_are_weighted_and_added_up(functions: Path):
    found = rewards.load([f"{functions}:length=0.5", "exact=-2", f"{functions}:flag"])(answers("a", "abc"))
    assert found.tolist() == [0.5 - 2 + 1, 1.5]


@pytest.mark.parametrize("record", [
    {"prompt": "问", "answer": "a"}, {"prompt": "问", "solution": "a"}, {"question": "问", "答案": "a"},
    {"prompt": "问", "answers": ["a", "b"]},
    {"messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "a"}]},
])  # fmt: skip
def test_exact_compares_with_the_answer_however_the_row_names_it(record: dict[str, Any]):
    assert rewards.load(["exact"])(answers("a", " a\n", "A", record=record)).tolist() == [1, 1, 0]
    assert rewards.load(["exact"])(answers("4", record={"prompt": "问", "answer": 4})).tolist() == [1]


@pytest.mark.parametrize("name", sorted(RAISING))
def test_a_failing_function_leaves_its_answers_out(
    functions: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    judge = rewards.load([f"{functions}:length", f"{functions}:{name}"])
    assert np.isnan(judge(answers("a", "bb", "ccc"))).all()
    assert judge.faults == {f"{functions}:{name} {RAISING[name]}": 3}
    said = capsys.readouterr().err
    assert said.count("warning") == 1 and RAISING[name] in said and len(said) < 500


def test_only_the_answers_that_fail_are_left_out(functions: Path, capsys: pytest.CaptureFixture[str]):
    judge = rewards.load([f"{functions}:sometimes"])
    found = judge(answers("abc", "ab", "abcd"))
    assert found[[0, 2]].tolist() == [1.0, 0.5] and np.isnan(found[1])
    assert "raises ZeroDivisionError" in capsys.readouterr().err


def test_a_row_without_an_answer_cannot_be_compared(capsys: pytest.CaptureFixture[str]):
    judge = rewards.load(["exact"])
    assert np.isnan(judge(answers("a", record={"prompt": "问"}))).all()
    assert judge.faults == {"exact refuses": 1} and "no answer to compare with" in capsys.readouterr().err


def test_rows_of_another_world_are_refused_by_name(capsys: pytest.CaptureFixture[str]):
    assert np.isnan(rewards.load(["smallworld"])(answers("a"))).all()
    assert "needs its kind" in capsys.readouterr().err


@pytest.mark.parametrize(("names", "reason"), [
    ((), "nothing says which answers are good"),
    (("exakt",), "no such reward"),
    (("nowhere.py:f",), "does not exist"),
    (("FUNCTIONS:lenght",), "no such function"),
    (("FUNCTIONS:number",), "no such function"),
    (("FUNCTIONS:",), "no such function"),
    (("FUNCTIONS",), "no such reward"),
    (("exact=much",), "weight of a reward"),
    (("exact=nan",), "weight of a reward"),
    (("exact=inf",), "weight of a reward"),
    (("FOLDER",), "."),
    (("BROKEN:f",), "does not load: SyntaxError"),
    (("LEAVING:f",), "does not load: SystemExit"),
])  # fmt: skip
def test_mistakes_are_named(functions: Path, tmp_path: Path, names: tuple[str, ...], reason: str):
    (tmp_path / "broken.py").write_text("def f(row, text: return 1", encoding="utf-8")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(1)", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    places = {
        "FUNCTIONS": functions,
        "FOLDER": tmp_path / "folder",
        "BROKEN": tmp_path / "broken.py",
        "LEAVING": tmp_path / "leaving.py",
    }
    for key, place in places.items():
        names = tuple(name.replace(key, str(place)) for name in names)
    with pytest.raises(UserError, match=reason):
        rewards.load(names)


def test_other_functions_are_other_rewards(tmp_path: Path):
    file = tmp_path / "rules.py"
    file.write_text("def f(row, text): return 1", encoding="utf-8")
    before = rewards.identity([f"{file}:f=2", "exact"])
    assert rewards.identity([f"{file}:f=2", "exact"]) == before
    assert rewards.identity([f"{file}:f=3", "exact"]) != before
    file.write_text("def f(row, text): return 2", encoding="utf-8")
    assert rewards.identity([f"{file}:f=2", "exact"]) != before
