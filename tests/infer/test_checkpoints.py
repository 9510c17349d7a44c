"""Finding checkpoints: every way a person may name one, and clear words when there is none."""

from pathlib import Path

import pytest

from congling.core.errors import UserError
from congling.infer.checkpoints import load_checkpoint, locate_checkpoint


def test_a_run_leads_to_its_best_checkpoint_and_else_to_the_latest(run: Path, tmp_path: Path):
    best = run / "checkpoints/step-00000002"
    assert locate_checkpoint(run) == best
    assert locate_checkpoint(best) == best
    (tmp_path / "run").symlink_to(run)
    assert locate_checkpoint(tmp_path).samefile(best)
    other = tmp_path / "other"
    other.mkdir()
    (other / "checkpoints").symlink_to(run / "checkpoints")
    (other / "BEST").write_text("step-00000009\n")
    (other / "LATEST").write_text("step-00000001\n")
    assert locate_checkpoint(other).name == "step-00000001"


@pytest.mark.parametrize("name", ["../../../etc", "", "/", "step-00000009", "\x00"])
def test_a_pointer_to_nowhere_is_an_error(name: str, tmp_path: Path):
    (tmp_path / "LATEST").write_text(name)
    with pytest.raises(UserError, match="gone"):
        locate_checkpoint(tmp_path)


def test_nothing_there(tmp_path: Path, tokenizer_path: Path):
    with pytest.raises(UserError, match="no checkpoint"):
        locate_checkpoint(tmp_path)
    with pytest.raises(UserError, match="no such directory"):
        locate_checkpoint(tmp_path / "absent")
    with pytest.raises(UserError, match="is a tokenizer directory"):
        locate_checkpoint(tokenizer_path)


def test_a_damaged_checkpoint_is_not_loaded(run: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    for file in (run / "checkpoints/step-00000001").rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(run / "checkpoints/step-00000001")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    assert load_checkpoint(copy).checkpoint.facts["step"] == 1
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match="checksum"):
        load_checkpoint(copy)
