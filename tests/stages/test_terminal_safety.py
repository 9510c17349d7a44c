"""What comes from a model, a file or a stranger's name never gives orders to the terminal, nor breaks it."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from congling import cli
from congling.infer.chat import Conversation
from congling.infer.sampler import SamplingConfig
from congling.stages import chat
from congling.train.runs.progress import ProgressLine
from support import tiny_checkpoint

FOREIGN = ["云", "\x1b]0;gone\x07", "\x1b[2J", "\r", "\b", "\u202e", "\x9b31m", "雨\n"]
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint.write(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models write orders."""

    def written(*_: Any, **__: Any) -> Iterator[str]:
        yield from FOREIGN

    monkeypatch.setattr("congling.infer.generate.stream", written)
    monkeypatch.setattr("congling.infer.chat.stream", written)
    monkeypatch.setattr("congling.infer.generate.generate", lambda *_, **__: ["".join(FOREIGN)])


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["congling", *words])
    with contextlib.suppress(SystemExit):
        cli.main()


@pytest.mark.parametrize("more", [(), ("--no-stream",)])
def test_generate(
    checkpoint: Path,
    foreign: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
) -> None:
    called(monkeypatch, "generate", str(checkpoint), "-p", "天\x1b[31m", *more)
    said = "".join(capsys.readouterr())
    assert "云" in said and "雨" in said and "天\\x1b" in said and not _OBEYED.search(said)


def test_chat(
    checkpoint: Path, foreign: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from congling.infer.checkpoints import load_checkpoint

    lines = iter(["天"])
    monkeypatch.setattr("builtins.input", lambda *_: next(lines, None) or (_ for _ in ()).throw(EOFError))
    conversation = Conversation(load_checkpoint(checkpoint), sampling=SamplingConfig())
    chat.run(conversation)
    said = "".join(capsys.readouterr())
    assert "云" in said and not _OBEYED.search(said)
    assert "\x1b]0;gone\x07" in str(conversation.messages[-1]["content"])  # the history is what was said


def test_samples_while_training(capsys: pytest.CaptureFixture[str]) -> None:
    ProgressLine(9, 0).note("step 1: " + "".join(FOREIGN))
    said = "".join(capsys.readouterr())
    assert "云" in said and not _OBEYED.search(said)


@pytest.mark.parametrize(
    "name", ["a\x1b]0;gone\x07.txt", "a\u202etxt.exe", "[red]b[bold].txt", "[link=x]b.txt", "a\nb.txt"]
)
def test_names_of_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / name).write_text("云对雨，雪对风。\n" * 9, encoding="utf-8")
    (tmp_path / "texts" / "plain.txt").write_text("晚照对晴空。\n" * 9, encoding="utf-8")
    for words in (
        ("data", "inspect", str(tmp_path / "texts")),
        ("data", "inspect", str(tmp_path / "texts" / name)),
    ):
        called(monkeypatch, *words)
        said = "".join(capsys.readouterr())
        assert "Traceback" not in said and not _OBEYED.search(said)
        assert "[" not in name or name in said
    called(monkeypatch, "generate", str(tmp_path / name))
    said = "".join(capsys.readouterr())
    assert said.startswith("congling: ") and not _OBEYED.search(said)


def run(program: Path, folder: Path, *words: str | bytes, stdin: bytes = b"", **more: str) -> SimpleNamespace:
    """The program, its words and its output as bytes."""
    done = subprocess.run(
        [str(program), *words],
        cwd=folder,
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, "NO_COLOR": "1", **more},
    )
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.mark.parametrize("encoding", ["gbk", "big5", "ascii", "latin-1", "utf-8"])
def test_no_encoding_of_a_terminal_breaks_output(
    program: Path, tmp_path: Path, checkpoint: Path, encoding: str
) -> None:
    (tmp_path / "语料😀.txt").write_text("云对雨，雪对风😀。\n" * 9, encoding="utf-8")
    for words in (
        ("data", "inspect", "语料😀.txt"),
        ("generate", str(checkpoint), "-p", "云对😀", "-n", "3"),
    ):
        done = run(program, tmp_path, *words, PYTHONIOENCODING=encoding)
        assert done.code == 0 and b"Traceback" not in done.err


@pytest.mark.parametrize(
    "variables", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_what_is_typed_in_gbk_is_understood(
    program: Path, tmp_path: Path, checkpoint: Path, variables: dict[str, str]
) -> None:
    name = "云对雨".encode("gbk")
    (tmp_path / os.fsdecode(name + b".txt")).write_bytes("云对雨，雪对风。\n".encode("gbk") * 9)
    asked = run(
        program, tmp_path, "generate", str(checkpoint), "-p", name, "-n", "3", PYTHONIOENCODING="utf-8"
    )
    assert asked.code == 0 and asked.out.decode().startswith("云对雨")
    said = run(
        program, tmp_path, "chat", str(checkpoint), stdin=name + b"\n", PYTHONIOENCODING="utf-8", **variables
    )
    assert said.code == 0 and b"Traceback" not in said.err
    seen = run(program, tmp_path, "data", "inspect", name + b".txt", PYTHONIOENCODING="utf-8", **variables)
    assert seen.code == 0 and "云对雨.txt" in seen.out.decode()
    made = run(program, tmp_path, "data", "make", ".", "--out", "made", PYTHONIOENCODING="utf-8", **variables)
    assert made.code == 0 and b"Traceback" not in made.err
    assert "云对雨.txt" in (tmp_path / "made" / "summary.json").read_text(encoding="utf-8")
    gone = run(program, tmp_path, "data", "inspect", "没有".encode("gbk"), PYTHONIOENCODING="utf-8")
    assert gone.code == 1 and "没有" in gone.err.decode()
