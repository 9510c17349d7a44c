"""Logs: whole lines after whatever a crash left, and readers that go past what is none."""

import errno
import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from congling.core import json_lines
from congling.core.disk import Refused
from congling.core.errors import UserError
from congling.core.json_lines import JsonLines, Unread

ROWS = [{"step": 1, "loss": 2.5}, {"step": 2, "text": "云对雨\u2028"}, {"step": 3}]


def log_of(folder: Path, *rows: dict) -> JsonLines:
    log = JsonLines(folder / "metrics.jsonl")
    log.append(*rows)
    return log


@pytest.mark.parametrize("tail", [b'{"step": 3, "lo', b"\0" * 5, b"\0" * 200_000, b"x", b"[1]", b"\xff\xfe"])
def test_rows_begin_after_the_last_whole_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tail: bytes
):
    log = log_of(tmp_path, *ROWS[:2])
    with log.path.open("ab") as stream:
        stream.write(tail)
    assert list(log.rows()) == ROWS[:2]
    log.append(ROWS[2])
    assert list(log.rows()) == ROWS and f"{len(tail):,} bytes" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    assert log.path.read_bytes() == log_of(tmp_path / "other", *ROWS).path.read_bytes()


def test_a_log_of_half_a_line_alone_begins_anew(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_bytes(b"\0" * 70_000)
    assert list(log_of(tmp_path, ROWS[0]).rows()) == ROWS[:1]


def test_a_row_without_its_line_feed_is_a_row(tmp_path: Path):
    log = JsonLines(tmp_path / "metrics.jsonl")
    log.path.write_text('{"step": 1}\n{"step": 2}')
    assert list(log.rows()) == [{"step": 1}, {"step": 2}]
    log.append({"step": 3})
    assert log.path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3}\n'


def test_lines_that_are_no_rows_are_counted_and_named(tmp_path: Path):
    log = log_of(tmp_path, ROWS[0])
    bad = [b"\0\0\0", b"[1, 2]", b"3", b'{"a": ', b"\xff", b"[" * 100_000, b'{"n": ' + b"9" * 5000 + b"9x}"]
    with log.path.open("ab") as stream:
        stream.write(b"\n".join(bad) + b"\n" + b'{"long": "' + b"x" * 2_500_000 + b'"}\n')
    log.append(ROWS[1])
    unread = Unread()
    assert list(log.rows(unread)) == ROWS[:2]
    assert (unread.lines, unread.first) == (len(bad) + 1, 2)
    assert unread.sentence("metrics.jsonl").startswith("8 lines of metrics.jsonl cannot be read")
    assert Unread().sentence("metrics.jsonl") is None


def test_numbers_beyond_all_measure_are_no_numbers(tmp_path: Path):
    texts = ["NaN", "-Infinity", "1e999", "9" * 4000, "-" + "9" * 300, "1e300"]
    line = "{" + ", ".join(f'"{i}": {text}' for i, text in enumerate(texts)) + ', "right": 1e-3, "n": 12}\n'
    (tmp_path / "metrics.jsonl").write_text(line)
    (row,) = JsonLines(tmp_path / "metrics.jsonl").rows()
    assert row == {**{str(i): None for i in range(len(texts))}, "right": 1e-3, "n": 12}


def test_reading_ends_at_a_bound_and_says_so(tmp_path: Path):
    log = log_of(tmp_path, *[{"step": i} for i in range(100)])
    unread = Unread()
    rows = list(log.rows(unread, at_most=200))
    assert 10 < len(rows) < 20 and unread.end == log.size() - sum(len(json.dumps(row)) + 1 for row in rows)
    assert "too long" in unread.sentence("a.jsonl")


class Full:
    """A stream that takes some bytes and then no more."""

    def __init__(self, stream, room: int) -> None:
        self._stream, self._room = stream, room

    def write(self, content: memoryview) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self._stream.write(content[: self._room])
        self._room -= taken
        return taken

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()


def test_on_a_full_disk_all_rows_are_written_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = log_of(tmp_path, ROWS[0])
    before, opened = log.path.read_bytes(), json_lines._opened
    for room in (0, 1, 10, 40):
        monkeypatch.setattr(json_lines, "_opened", lambda path, room=room: Full(opened(path), room))
        with pytest.raises(Refused, match="No space left"):
            log.append(*ROWS[1:])
        assert log.path.read_bytes() == before
    monkeypatch.setattr(json_lines, "_opened", opened)
    log.append(*ROWS[1:])
    assert list(log.rows()) == ROWS


def test_logs_are_not_written_through_a_link(tmp_path: Path):
    (tmp_path / "outside").write_text("precious\n")
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "outside")
    log = JsonLines(tmp_path / "metrics.jsonl")
    for write in (lambda: log.append(ROWS[0]), lambda: log.truncate(0), log.size):
        with pytest.raises(UserError, match="link"):
            write()
    assert (tmp_path / "outside").read_text() == "precious\n"


def test_a_log_is_cut_back_and_its_beginning_has_a_fingerprint(tmp_path: Path):
    log = log_of(tmp_path, *ROWS[:2])
    size = log.size()
    known = log.fingerprint(size)
    log.append(ROWS[2])
    assert log.fingerprint(size) == known != log.fingerprint(log.size())
    log.truncate(size)
    assert list(log.rows()) == ROWS[:2] and log.fingerprint(size + 1) is None
    with pytest.raises(UserError, match="shorter than its checkpoint says"):
        log.truncate(size + 1)
    assert JsonLines(tmp_path / "none.jsonl").fingerprint(1) is None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), at=st.integers(0, 200))
def test_any_bytes_leave_whole_rows_behind_them(tmp_path: Path, content: bytes, at: int):
    log = JsonLines(tmp_path / "events.jsonl")
    whole = b'{"a": 1}\n{"b": null}\n'
    log.path.write_bytes(whole[:at] + content + whole[at:])
    log.append({"last": "云"})
    rows = list(log.rows())
    assert rows[-1] == {"last": "云"}
    for row in rows:
        for value in row.values():
            assert not isinstance(value, float) or math.isfinite(value)
