"""A sample of ``benchmarks/reliability/damages.py``: no damaged file is used without a word."""

import importlib.util
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "reliability" / "damages.py"
_spec = importlib.util.spec_from_file_location("damages", PROGRAM)
program = importlib.util.module_from_spec(_spec)
sys.modules["damages"] = program
_spec.loader.exec_module(program)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damages")
    return list(program.damages(folder, 30, seed=7))


@pytest.mark.parametrize("kind", program.KINDS)
def test_no_damage_is_used_without_a_word(found, kind):
    mine = [one for one in found if one.kind == kind]
    bad = [
        f"{one.file}, {one.how}: {one.outcome} {one.told[-1500:]}"
        for one in mine
        if one.outcome in program.BAD
    ]
    assert len(mine) == 30 and not bad, "\n\n".join(bad)
    noticed = sum(one.outcome in ("refused", "said") for one in mine)
    assert noticed > (6 if kind == "run" else 15)  # most files of a run are older checkpoints and times
