"""Typing in a chat: lines are edited, remembered and held together; the keys that end things end those."""

import importlib.util
import io
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from congling.core.errors import UserError
from congling.infer.history import MOST, History, state_directory
from congling.infer.terminal import line_reader, read_message

from .terminals import Terminal

pytest.importorskip("pty")
PROGRAM = Path(__file__).with_name("chat_program.py")
PROMPT, MORE = ">", "…"  # the space behind them may be drawn by moving the cursor
EDITORS = [
    pytest.param(name, marks=pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"no {name}"))
    for name in ("prompt_toolkit", "readline")
]


@pytest.fixture(params=EDITORS)
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Terminal:
    found = Terminal(PROGRAM, str(tmp_path / "state" / "history"), request.param)
    found.until("ready")
    found.until(PROMPT)
    return found


def test_lines_are_edited_remembered_and_held_together(terminal: Terminal, tmp_path: Path):
    terminal.type("天地黄", "left", "玄", "\r")
    terminal.until("<天地玄黄>")
    terminal.until(PROMPT)
    terminal.type("宇宙洪荒x", "back", "\r")
    terminal.until("<宇宙洪荒>")
    terminal.until(PROMPT)
    terminal.type("up", "up", "！", "\r")
    terminal.until("<天地玄黄！>")
    terminal.until(PROMPT)
    terminal.type("one\\", "\r")
    terminal.until(MORE)
    terminal.type("two", "\r")
    terminal.until("<one|two>")
    terminal.until(PROMPT)
    terminal.type('"""three', "\r")
    terminal.until(MORE)
    terminal.type("four", "\r", '"""', "\r")
    terminal.until("<three|four>")
    terminal.until(PROMPT)
    terminal.type("/retry", "\r")
    terminal.until("again>")
    terminal.until(PROMPT)
    terminal.type("/help", "\r")
    assert "/save FILE" in terminal.until("Ctrl-C stops an answer")
    terminal.until(PROMPT)
    terminal.type("ctrl-d")
    terminal.until("left")
    assert terminal.ended() == 0
    file = tmp_path / "state" / "history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert History(file).entries[:3] == ["天地玄黄", "宇宙洪荒", "天地玄黄！"]
    assert "three\nfour" in History(file).entries


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal: Terminal):
    terminal.type("long", "\r")
    terminal.until("begun ")
    terminal.until(".")
    terminal.type("ctrl-c")
    terminal.until("(stopped)")
    terminal.until(PROMPT)
    terminal.type("still here", "\r")
    terminal.until("<still here>")
    terminal.until(PROMPT)
    terminal.type("never sent", "ctrl-c")
    terminal.until("once more")
    terminal.until(PROMPT)
    terminal.type("sent", "\r")
    terminal.until("<sent>")
    terminal.until(PROMPT)
    terminal.type("ctrl-c")
    terminal.until("once more")
    terminal.until(PROMPT)
    terminal.type("ctrl-c")
    terminal.until("left")
    assert terminal.ended() == 0


@pytest.mark.parametrize("closed", ["<&-", "</dev/null", "<&- >&-", "<&- 2>&-"])
def test_without_input_there_is_nothing_to_answer(closed: str, tmp_path: Path):
    command = f'"{sys.executable}" "{PROGRAM}" "{tmp_path / "history"}" readline {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert done.stdout.endswith("left\n") or ">&-" in closed.replace("2>&-", "")
    assert not (tmp_path / "history").exists()


def test_what_is_no_input_is_an_error_for_people(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with (tmp_path / "written").open("w") as file:
        monkeypatch.setattr(sys, "stdin", file)
        with pytest.raises(UserError, match="standard input cannot be read"):
            read_message(line_reader(History(None)))


@pytest.mark.parametrize(("typed", "messages"), [
    ("one\ntwo\n", ["one", "two"]),
    ("a\\\nb\\\nc\nd\n", ["a\nb\nc", "d"]),
    ("a\\", ["a\n"]),
    ('"""a\n\n b\n"""\nc\n', ["a\n\n b", "c"]),
    ('"""a"""\n"""\n"""\nb\n', ["a", "", "b"]),
    ('  """a\nb', ["a\nb"]),
    ('"""\n/quit\n"""\n', ["/quit"]),
])  # fmt: skip
def test_lines_make_messages(typed: str, messages: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    read, found = line_reader(History(None)), []
    with pytest.raises(EOFError):
        while True:
            found.append(read_message(read))
    assert found == messages


def test_history_outlives_the_chat_and_stays_short(tmp_path: Path):
    file = tmp_path / "a" / "history"
    history = History(file)
    for entry in ("one", "one", " ", "two\nlines", "one"):
        history.add(entry)
    assert History(file).entries == history.entries == ["one", "two\nlines", "one"]
    with file.open("a", encoding="utf-8") as stream:
        stream.write('[1]\n"cut off\n' + "".join(f'"{i}"\n' for i in range(2 * MOST)))
    assert History(file).entries == [str(i) for i in range(MOST, 2 * MOST)]
    assert len(file.read_text(encoding="utf-8").splitlines()) == MOST
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in file.parent.iterdir()] == ["history"]


def test_a_history_that_cannot_be_kept_costs_nothing(tmp_path: Path):
    (tmp_path / "target").write_text("another's\n")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "file").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "link", tmp_path / "file" / "below", tmp_path, None):
        history = History(path)
        history.add("typed")
        assert history.entries[-1] == "typed"
    assert (tmp_path / "target").read_text() == "another's\n"


def test_the_file_lies_where_programs_keep_their_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_directory() == tmp_path / "congling"
