"""The log of a run: lines with times, bounded, and never in the way."""

import re

from congling.core import run_log
from congling.core.run_log import RunLog, command_line


def test_lines_have_times_and_are_appended(tmp_path):
    file = tmp_path / RunLog.NAME
    RunLog(file).add([(0.0, command_line(["/usr/bin/congling", "sft", "my base"])), (1.0, "却说\udcff")])
    RunLog(file).add([(86_400.0, "more")])
    assert file.read_text(encoding="utf-8").splitlines() == [
        "1970-01-01T00:00:00Z $ congling sft 'my base'",
        "1970-01-01T00:00:01Z 却说�",
        "1970-01-02T00:00:00Z more",
    ]


def test_the_program_has_one_name():
    assert command_line(["/x/congling/__main__.py", "runs"]) == command_line(["/bin/congling", "runs"])


def test_it_stays_below_its_bound_and_keeps_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr(run_log, "LARGEST", 4_000)
    log = RunLog(tmp_path / RunLog.NAME)
    for number in range(1_000):
        log.add([(0.0, f"line {number}")])
        assert log.path.stat().st_size <= 4_000
    lines = log.path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "(older lines were removed)" and lines[-1].endswith("line 999")
    numbers = [int(re.sub(r".* ", "", line)) for line in lines[1:]]
    assert numbers == list(range(numbers[0], 1_000))  # whole lines, none missing at the end
    assert [file.name for file in tmp_path.iterdir()] == [RunLog.NAME]


def test_where_it_cannot_be_written_nothing_happens(tmp_path):
    (tmp_path / RunLog.NAME).mkdir()
    RunLog(tmp_path / RunLog.NAME).add([(0.0, "line")])
    RunLog(tmp_path / "absent" / RunLog.NAME).add([(0.0, "line")])
    assert [path.name for path in tmp_path.iterdir()] == [RunLog.NAME]
