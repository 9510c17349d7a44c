"""Logs, plans, results and manifests that say impossible things: read past, or one clear error."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from congling.core.errors import UserError
from congling.evals import collapse
from congling.report import comparison_pages, pages, record
from congling.report.comparison import compare
from congling.report.content import content
from congling.report.explain import everything
from congling.report.sides import summaries
from congling.train.runs.train import RunParts, train
from support.synthetic import make_run
from support.training_doubles import settings, trainer

MUTANTS = 80
VALUES = (
    "1e999", "-1e999", "NaN", "-Infinity", "9" * 400, "-" + "9" * 400, "9" * 5000, "1e300", "-1e300",
    "5e-324", "1e30", "-1", "0", "-0.0", "1.5", "true", "false", "null", '"x"', '""', '"1e999"', "[]",
    "[[1]]", "{}", '{"a": [1]}', '"\\ud83d"', '"\\u0000"', '"' + "x" * 300 + '"',
)  # fmt: skip
"""JSON texts of values that stand where another is expected; Python can write most of them no more."""
FILES = ("metrics.jsonl", "timing.jsonl", "samples.jsonl", "events.jsonl", "plan.json", "results.json")
NAMES = ("step", "tokens", "loss", "kl", "reward", "length", "entropy", "chosen", "ended", "text", "code")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("hostile") / "run", steps=60)
    checkpoint = run / "checkpoints" / "step-00000060"
    checkpoint.mkdir(parents=True)
    manifest = {
        "kind": "checkpoint",
        "format_version": 1,
        "command": ["congling", "sft"],
        "parents": {},
        "facts": {"step": 60},
        "files": {},
    }
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest))
    (checkpoint / "model.json").write_text(
        json.dumps({"vocab_size": 100, "num_hidden_layers": 2, "hidden_size": 32})
    )
    (run / "LATEST").write_text("step-00000060\n")
    with (run / "events.jsonl").open("a") as log:
        log.write(json.dumps({"event": "warning", "step": 9, "code": "kl-explosion", "what": "far"}) + "\n")
    return run


def replaced(value: Any, draw: random.Random, marks: list[str]) -> Any:
    """The value with some of what is in it replaced by marks, behind which hostile texts are put."""
    if draw.random() < (0.5 if not isinstance(value, (dict, list)) else 0.04):
        marks.append(draw.choice(VALUES))
        return f"@@{len(marks) - 1}@@"
    if isinstance(value, dict):
        chosen = draw.choice([*value, ""])
        changed = {key: replaced(one, draw, marks) if key == chosen else one for key, one in value.items()}
        if draw.random() < 0.2:
            changed[draw.choice(NAMES)] = replaced(0, draw, marks)
        return changed
    if isinstance(value, list) and value:
        at = draw.randrange(len(value))
        return [replaced(one, draw, marks) if i == at else one for i, one in enumerate(value)]
    return value


def written(value: Any, marks: list[str]) -> str:
    text = json.dumps(value)
    for number, mark in enumerate(marks):
        text = text.replace(f'"@@{number}@@"', mark)
    return text


def made_hostile(run: Path, draw: random.Random) -> None:
    for name in draw.sample(FILES, 3):
        file = run / name
        lines = (
            file.read_text(encoding="utf-8").splitlines() if name.endswith("l") else [file.read_text("utf-8")]
        )
        for at in draw.sample(range(len(lines)), min(len(lines), draw.choice((1, 5, 60)))):
            marks: list[str] = []
            lines[at] = written(replaced(json.loads(lines[at]), draw, marks), marks)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in draw.sample(
        ("checkpoints/step-00000060/MANIFEST.json", "checkpoints/step-00000060/model.json"), 1
    ):
        marks = []
        value = replaced(json.loads((run / name).read_text()), draw, marks)
        (run / name).write_text(written(value, marks))


def test_whatever_a_run_says_it_is_read_reported_and_compared(whole: Path, tmp_path: Path) -> None:
    kept = 0
    for seed in range(MUTANTS):
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run)
        made_hostile(run, random.Random(seed))
        try:
            found = record.read(run)
            everything(found)
            collapse.watch(found.metrics, list(map(vars, found.samples)))
            said = content(found)
            assert pages.html(said) and pages.markdown(said)
            assert not any("nan" in chart.svg or "inf" in chart.svg for chart in said.charts)
            comparison_pages.write(compare(summaries([run, whole])), tmp_path / "compare.html")
            kept += 1
        except UserError as error:
            assert str(error), f"seed {seed}"
        except Exception as error:  # which seed it was is all that helps
            raise AssertionError(f"seed {seed}") from error
    assert kept > MUTANTS // 2  # most are read past


def test_what_is_left_out_is_said(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    with (run / "metrics.jsonl").open("ab") as log:
        log.write(b"\0\0\0\n{\n")
    (run / "results.json").write_text("[")
    (run / "config.toml").write_text("=")
    told = [finding.what for finding in everything(record.read(run)) if finding.code == "damaged-record"]
    assert len(told) == 3
    assert told[0].startswith("2 lines of metrics.jsonl cannot be read")
    assert {text.partition(" ")[0] for text in told[1:]} == {"results.json", "config.toml"}
    assert "2 lines of metrics.jsonl" in pages.html(content(record.read(run)))
    (warned,) = [
        table for table in compare(summaries([run, whole])).tables if table.title == "What stands out"
    ]
    assert any("metrics.jsonl" in row[-1] for row in warned.rows)


def test_results_that_cannot_be_read_are_kept_aside(whole: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "results.json").write_text('{"held_out": ')
    record.add_result(tmp_path, "seconds", 3.0)
    assert json.loads((tmp_path / "results.json").read_text()) == {"seconds": 3.0}
    assert (tmp_path / "results.json.damaged").read_text() == '{"held_out": '
    assert "cannot be read" in capsys.readouterr().err


def trained(out: Path) -> dict[str, bytes]:
    """A run of a few steps that looks into its own logs; the files of its last checkpoint."""
    config = settings(max_steps=6, save_steps=2, eval_steps=2, sample_steps=2)
    parts = RunParts(
        config,
        evaluate=lambda model: {"loss": 2.0},
        watch=collapse.watch,
        sample=lambda model: [{"prompt": "云", "text": "雨" * 9}],
    )
    last = train(trainer(config), out, parts).checkpoint(6)
    return {file.name: file.read_bytes() for file in last.rglob("*") if file.name in ("model.safetensors",)}


def test_a_run_goes_on_whatever_its_logs_say(tmp_path: Path) -> None:
    whole = trained(tmp_path / "run")
    for seed in range(12):
        draw, run = random.Random(seed), tmp_path / str(seed)
        shutil.copytree(tmp_path / "run", run)
        shutil.rmtree(run / "checkpoints/step-00000006")
        for name in ("metrics", "samples", "events", "timing"):
            lines = (run / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
            for at in range(len(lines)):
                marks: list[str] = []
                lines[at] = written(replaced(json.loads(lines[at]), draw, marks), marks)
            lines.insert(draw.randrange(len(lines)), draw.choice(("\0" * 9, "[[", '{"step": 1')))
            (run / f"{name}.jsonl").write_text("\n".join(lines) + draw.choice(("\n", "\0\0", '\n{"st')))
        assert trained(run) == whole, f"seed {seed}"
