"""``runs``, ``clean`` and ``doctor`` as a person calls them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from congling.core import artifact
from congling.core.installation import Check
from congling.stages import doctor

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two checkpoints, the newer of which is the result."""
    path = tmp_path / "runs" / "a [bold] run"
    for step in (1, 2):
        with artifact.writing(
            path / "checkpoints" / f"step-{step:08d}", "checkpoint", facts={"step": step}
        ) as made:
            (made / "model.safetensors").write_bytes(bytes(10))
    (path / "LATEST").write_text("step-00000002\n", encoding="utf-8")
    (path / "config.toml").write_text("[train]\nmax_steps = 2\n", encoding="utf-8")
    rows = [{"step": step, "tokens": 9, "loss": 2.5, "gradient_norm": 1.0, "lr": 0.1} for step in (1, 2)]
    rows.append(
        {"step": 2, "tokens": 18, "validation_loss": 2.25, "validation_bits_per_character": 3.0000000001}
    )
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (path / "metrics.jsonl").write_text(text, encoding="utf-8")
    (path / "events.jsonl").write_text('{"event": "finished", "step": 2}\n', encoding="utf-8")
    return path


def test_runs_are_listed(call: Call, run: Path) -> None:
    done = call("runs", COLUMNS="160")
    assert (done.returncode, done.stderr) == (0, "")
    assert "a [bold] run" in done.stdout and "3.000 bits/char" in done.stdout and "finished" in done.stdout
    document = json.loads(call("runs", "--json").stdout)
    (one,) = document["runs"]
    assert one["loss"] == 3.0000000001 and one["step"] == 2 and one["seconds"] is None


def test_an_empty_folder_has_no_runs(call: Call, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert call("runs").stdout == "no runs in runs\n"
    assert json.loads(call("runs", "--json").stdout) == {"folder": "runs", "runs": []}
    assert "no such folder" in call("runs", "absent").stderr


def test_clean_shows_first_and_removes_when_told(call: Call, run: Path) -> None:
    shown = call("clean")
    assert "step-00000001" in shown.stdout and "--yes" in shown.stdout
    assert (run / "checkpoints" / "step-00000001").is_dir()
    document = json.loads(call("clean", "--json").stdout)
    assert document["removed"] is False and document["removable"][0]["kind"] == "checkpoint"
    done = call("clean", "--yes")
    assert done.returncode == 0 and "removed: " in done.stdout
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000002"]
    assert call("clean").stdout == "there is nothing to remove\n"


def test_the_doctor_looks_at_everything(call: Call) -> None:
    done = call("doctor", "--json")
    document = json.loads(done.stdout)
    assert document["sound"] is True and done.returncode == 0
    names = {check["name"] for check in document["checks"]}
    assert {
        "python",
        "packages",
        "torch",
        "threads",
        "memory",
        "disk",
        "terminal",
        "settings",
        "speed",
    } <= names
    speed = next(check for check in document["checks"] if check["name"] == "speed")
    assert speed["values"]["flops"] > 1e6


def test_the_doctor_names_what_is_wrong_and_what_mends_it(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.show(
        [
            Check("python", "good", "Python 3.12"),
            Check("torch", "error", "cannot be loaded", "pip install torch"),
            Check("extra hf", "note", "not installed", 'pip install "congling[hf]"'),
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["ERROR    torch: cannot be loaded", "         pip install torch"]
    assert lines[-1] == "to look at: torch"
