"""Every benchmark still runs: smallest sizes, one thread; what they measure here means nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from congling.data.smallworld.config import SmallWorldConfig
from congling.data.smallworld.generator import generate

FOLDER = Path(__file__).parents[2] / "benchmarks"
NAMES = ("heldout", "measuring", "quality_peers", "quality_tables")


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules of ``benchmarks/``, which is a folder of programs and no package."""
    from importlib import import_module

    known = set(sys.modules)
    monkeypatch.syspath_prepend(FOLDER)
    yield SimpleNamespace(**{name: import_module(name) for name in NAMES})
    for name in set(sys.modules) - known:
        if (FOLDER / f"{name}.py").is_file():
            del sys.modules[name]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Twenty chapters of generated stories, the last eight of which are held out."""
    stories = [one.text for one in generate(SmallWorldConfig(size=16_000, seed=0, mix={"story": 1.0}))]
    share = len(stories) // 20
    chapters = ["\n\n".join(stories[i * share : (i + 1) * share]) for i in range(20)]
    path = tmp_path / "book.txt"
    text = "\n\n".join(f"第{i + 1}回　故事\n\n{chapter}" for i, chapter in enumerate(chapters))
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.timeout(900)
def test_all_run_and_leave_json_and_markdown(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    environment = os.environ | {"CONGLING_CORPORA": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(FOLDER / "run.py"), "--tiny", "--out", str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["circumstances"]["versions"].startswith("congling ")
    names = (
        "startup",
        "smallworld",
        "tokenizer",
        "memory",
        "spikes",
        "classic",
        "throughput",
        "lora",
        "adapters",
        "longlora",
        "length",
        "quantisation",
        "tuning",
        "together",
    )
    for name in names:
        assert "skipped" not in found[name]
    assert "hlm" in found["time_to_quality"]["skipped"]  # no corpus in this folder
    for contender in found["throughput"]["contenders"].values():
        assert all(speed > 0 for speed in contender["tokens_per_second"])
    page = out.with_suffix(".md").read_text(encoding="utf-8")
    assert "Training speed" in page and "Not measured: needs hlm" in page


def test_unknown_benchmark_is_an_error() -> None:
    command = [sys.executable, str(FOLDER / "run.py"), "throughputs"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no benchmark named 'throughputs'" in done.stderr


@pytest.mark.parametrize("contender", ["tuned", "plain"])
def test_peers_score_until_the_budget_is_used_up(modules: Any, book: Path, contender: str) -> None:
    pytest.importorskip("transformers")

    class Ticks(modules.heldout.Clock):
        """Nine seconds pass whenever somebody looks."""

        now = 0.0

        def seconds(self) -> float:
            self.now += 9.0
            return self.now

    curve = modules.quality_peers.contend(contender, book, 30.0, compiled=False, clock=Ticks())
    seconds, bits = zip(*curve.points, strict=True)
    assert list(seconds) == sorted(seconds)
    assert seconds[-1] >= 30.0
    assert all(2.0 < value < 15.0 for value in bits)  # bits/character of an untrained model


def test_held_out_score_is_the_entropy_of_a_known_model(modules: Any, book: Path, tmp_path: Path) -> None:
    """The same probability for every token costs log2(V) bits a token, whatever the windows."""
    import math

    import torch

    shards = modules.heldout.prepare(book, tmp_path / "work", "character")
    split = shards["validation"]
    assert split.documents == 8
    flat = lambda tokens: torch.zeros(*tokens.shape, shards.vocab_size)  # noqa: E731
    expected = math.log2(shards.vocab_size) * len(split.tokens) / int(split.characters.sum())
    assert modules.heldout.bits_per_character(flat, split, 32) == pytest.approx(expected, rel=1e-5)


def test_curves_interpolate_and_compare(modules: Any, tmp_path: Path) -> None:
    make = modules.heldout.Curve
    ours = make("congling", 60.0, {"parameters": 10**6}, [(50.0, 6.0)])
    theirs = make("usual", 600.0, {"parameters": 10**6}, [(100.0, 8.0), (300.0, 6.0), (600.0, 5.9)])
    assert theirs.seconds_to(7.0) == pytest.approx(200.0)
    assert theirs.seconds_to(8.5) == 100.0
    assert theirs.seconds_to(5.0) is None
    theirs.write(tmp_path / "curve.json")
    assert make.read(tmp_path / "curve.json") == theirs
    (row,) = modules.quality_tables.speedups([ours, theirs]).rows
    assert row == ("usual", "4.8×", "5.6×", "6.0×", "–")
    assert modules.quality_tables.picture([ours, theirs]).startswith("<svg")


def test_marks_end_with_the_budget(modules: Any) -> None:
    assert modules.heldout.marks(30.0) == [10.0, 14.0, pytest.approx(19.6), pytest.approx(27.44), 30.0]
    assert modules.heldout.marks(5.0) == [5.0]


def test_spread_shows_median_and_range(modules: Any) -> None:
    assert modules.measuring.Spread((3.0, 1.0, 2.0)).show("{:.0f}") == "2 (1–3)"
    assert modules.measuring.ratios([4.0, 9.0], [2.0, 3.0]).values == (2.0, 3.0)


def test_structure_counts_what_a_checkout_holds(tmp_path: Path) -> None:
    source = tmp_path / "src" / "congling"
    files = {
        "__init__.py": '"""The package."""\n',
        "stages/train.py": "def command():\n    from congling.methods import run\n\n    return run\n",
        "stages/generate.py": "from congling.core import files\n",
        "methods/run.py": "import congling.core.files\nfrom congling.train import loop\n",
        "train/loop.py": "from congling.methods import run  # around\nx: Any = run\n",
        "core/files.py": "A = 1\n",
    }
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    out = tmp_path / "numbers.json"
    command = [sys.executable, str(FOLDER / "structure.py"), str(tmp_path), "--json", str(out)]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["files"] == 6 and found["lines"] == 11
    assert found["imports within functions"] == 1 and found["names Any"] == 1
    assert found["cycles of packages"] == [["methods", "train"]] and "methods ↔ train" in page
    assert found["files a reader opens"]["train"] == 3  # the stage, the run and the loop; core is shared
    assert found["longest functions"] == {"congling.stages.train:command": 4}
