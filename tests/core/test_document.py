"""One JSON document on standard output, and nothing else there."""

import io
import json
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch

from congling.core.diagnosis import Diagnosis
from congling.core.document import only_document, plain, print_document
from congling.train.config import WSDConfig


class Sort(Enum):
    A = "a"


@dataclass
class Inner:
    name: str
    path: Path
    value: float


VALUES = {
    "a number in full": (0.1 + 0.2, 0.30000000000000004),
    "no number": ([float("nan"), float("inf"), -float("inf")], [None, None, None]),
    "a flag": (True, True),
    "NumPy": ({"a": np.float32(0.5), "b": np.arange(2), "c": np.int64(3)}, {"a": 0.5, "b": [0, 1], "c": 3}),
    "NumPy without a number": (np.array([np.nan, 1.0]), [None, 1.0]),
    "torch": ((torch.tensor(2), torch.tensor([1.5])), [2, [1.5]]),
    "a dataclass": (Inner("x", Path("a"), float("inf")), {"name": "x", "path": "a", "value": None}),
    "an enumeration": ({Sort.A: Sort.A}, {"a": "a"}),
    "a configuration": (WSDConfig(warmup_ratio=0.25), WSDConfig(warmup_ratio=0.25).model_dump(mode="json")),
    "what knows itself": ([Diagnosis("note", "c", "w", "y", "r")],
                          [{"severity": "note", "code": "c", "what": "w", "why": "y", "remedy": "r"}]),
    "sets and generators": ((frozenset({1}), (i for i in (1, 2))), [[1], [1, 2]]),
    "keys of other kinds": ({1: 2, None: 3}, {"1": 2, "None": 3}),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_values_as_json_has_them(name):
    value, expected = VALUES[name]
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == expected


@pytest.mark.parametrize("value", [object(), b"bytes", int])
def test_what_json_has_nothing_for_is_refused(value):
    with pytest.raises(TypeError, match="JSON has nothing for"):
        plain(value)


def test_everything_else_goes_to_standard_error(capsys):
    with only_document(True):
        print("a table")
        print_document({"loss": float("nan"), "text": "却说"})
        print("a note")
    out, err = capsys.readouterr()
    assert json.loads(out) == {"loss": None, "text": "却说"}
    assert err == "a table\na note\n"


def test_when_nothing_was_asked_for_nothing_is_different(capsys):
    with only_document(False):
        print("a table")
    assert capsys.readouterr().out == "a table\n"


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "utf-8", "latin-1"])
def test_any_encoding_gives_the_same_document(monkeypatch, encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="replace")
    monkeypatch.setattr(sys, "stdout", stream)
    print_document({"file": "书\udcff", "texts": ["小猫", "😀"]})
    assert json.loads(raw.getvalue().decode(encoding)) == {"file": "书\udcff", "texts": ["小猫", "😀"]}


def test_of_several_processes_the_first_alone_prints(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    print_document({})
    assert capsys.readouterr().out == ""
