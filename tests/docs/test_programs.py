"""The programs of the README and of the page about Python run as they stand, with a tiny model."""

import json
import re
from pathlib import Path

import pytest

from congling.data.smallworld import generate
from congling.data.smallworld.config import SmallWorldConfig

ROOT = Path(__file__).parents[2]
TINY = {
    "model.num_hidden_layers": 1,
    "model.hidden_size": 32,
    "tokenizer.vocab_size": 1024,
    "train.max_steps": 2,
    "train.per_device_train_batch_size": 2,
    "train.max_length": 32,
    "train.torch_compile": "off",
}
"""Settings of the plan that a test has no time for."""
ANSWER = {
    "messages": [
        {"role": "user", "content": "写一首诗。"},
        {"role": "assistant", "content": "山高月小，水落石出。"},
    ]
}


def programs(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S)


def run(program, name):
    """Run a program, tiny where it trains a model."""
    settings = "settings={"
    if "congling.train(" in program:
        if settings not in program:
            program = program.replace('budget="15m"', 'budget="15m", settings={}')
        more = "".join(f"{key!r}: {value!r}, " for key, value in TINY.items())
        program = program.replace(settings, settings + more).replace('"15m"', '"60s"')
    exec(compile(program, name, "exec"), {})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a person stands, with a text and rows."""
    texts = [document.text for document in generate(SmallWorldConfig(size=30_000, seed=1))]
    (tmp_path / "book.txt").write_text("\n\n".join(texts), encoding="utf-8")
    rows = [
        json.dumps({**ANSWER, "id": i}, ensure_ascii=False).replace("山", "山" * (i + 1)) for i in range(12)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_program_of_the_readme(folder, capsys):
    (program,) = programs("README.md")
    run(program, "README.md")
    assert float(capsys.readouterr().out.split()[0]) > 1
    assert (folder / "runs/book/run/report/report.html").is_file()


def test_the_programs_about_python_one_after_the_other(folder, capsys):
    trained, opened, tuned, measured, fewer, mistaken = programs("docs/en/python.md")
    run(trained, "python.md")
    assert "bits/character, report in runs/book/run/report/report.html" in capsys.readouterr().out
    run(opened, "python.md")
    assert "却说宝玉" in capsys.readouterr().out
    run(tuned, "python.md")
    assert (folder / "runs/poet/adapter").is_dir() and len(capsys.readouterr().out) > 2
    run(measured, "python.md")
    said = capsys.readouterr().out
    assert "{'repetition/" in said and "book.gguf" in said
    assert (folder / "book.gguf").stat().st_size > 10_000
    run(fewer, "python.md")
    assert "bits a weight, 0." in capsys.readouterr().out
    run(mistaken, "python.md")
    assert "no such directory: 'runs/nothing'" in capsys.readouterr().out
