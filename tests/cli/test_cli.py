"""The command line: mistakes in one message, Ctrl-C in one word."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from congling import __version__, cli
from congling.core import artifact
from congling.data import corpus
from congling.data.config import DataConfig

Call = Callable[..., "subprocess.CompletedProcess[str]"]


def test_the_version_is_told(call: Call) -> None:
    shown = call("--version")
    assert (shown.returncode, shown.stdout) == (0, f"congling {__version__}\n")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What people point at by mistake, and one finished directory."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "book.txt").write_text("却说那日天气晴和，众人在园中闲坐。\n" * 40, encoding="utf-8")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "binary.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)
    (folder / "recipe.toml").write_text('[data]\nsources = ["absent.txt"]\n', encoding="utf-8")
    (folder / "broken.toml").write_text("[data\n", encoding="utf-8")
    (folder / "nothing").mkdir()
    corpus.make(DataConfig(sources=(str(folder / "book.txt"),)), folder / "documents")
    assert artifact.exists(folder / "documents")
    return folder


MISTAKES = {
    "a missing file": ("train absent.txt --out run", "no such file or folder: 'absent.txt'"),
    "an empty file": ("train empty.txt --out run", "empty.txt"),
    "a binary file": ("train binary.txt --out run", "binary.txt"),
    "an empty folder": ("train nothing --out run", "nothing"),
    "a recipe naming a missing file": ("train recipe.toml --out run", "absent.txt"),
    "a missing recipe": ("train absent.toml --out run", "absent.toml"),
    "a broken recipe": ("train broken.toml --out run", "no valid TOML"),
    "an unknown key": ("train book.txt train.max_setps=3 --out run", "did you mean 'max_steps'?"),
    "an unknown table": ("train book.txt modle.layers=3 --out run", "did you mean 'model'?"),
    "an unknown key of data": ("data inspect book.txt data.splti.seed=1", "did you mean 'split'?"),
    "a wrong value": (
        "train book.txt model.num_hidden_layers=many --out run",
        "'many' (in command line, key model.num_hidden_layers)",
    ),
    "no duration": ("train book.txt --budget soon --out run", "'soon' is no duration; write 90s, 15m"),
    "no time": ("train book.txt --budget 0s --out run", "greater than 0"),
    "an existing --out": ("data make book.txt --out documents", "--overwrite"),
    "other settings": (
        "train book.txt data.split.seed=5 --out .",
        "other settings: 'split.seed' (in documents)\n  help: split.seed 0 → 5; ",
    ),
    "documents for a model": ("generate documents", "this is a documents directory, but a checkpoint"),
    "documents for a tokenizer": (
        "tokenize documents documents --out s",
        "but a tokenizer directory is needed",
    ),
    "documents for a run": ("report documents", "documents"),
    "a folder for documents": ("tokenizer nothing --out t", "holds no finished documents"),
    "no model": ("chat absent", "no such directory: 'absent'"),
    "a plan of nothing": ("plan absent.txt", "no such file or folder"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_message(
    mistake: str, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line, expected = MISTAKES[mistake]
    monkeypatch.setattr("congling.core.progress.PATIENCE", 600.0)  # a busy machine has more to say
    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "argv", ["congling", *line.split()])
    before = sorted(file for file in files.rglob("*") if file.is_file())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith("congling: ") and expected in said
    assert len(said.splitlines()) <= 3
    assert sorted(file for file in files.rglob("*") if file.is_file()) == before


@pytest.mark.parametrize(
    ("line", "expected"),
    [("trian book.txt", "Did you mean 'train'"), ("data mkae", "'make'"), ("train --out run", "TEXTS")],
)
def test_a_command_that_is_none_is_explained(call: Call, line: str, expected: str) -> None:
    done = call(*line.split())
    assert done.returncode == 2  # the usual status of a wrong command line
    assert expected in done.stderr and "Traceback" not in done.stderr


def test_no_words_are_help(call: Call) -> None:
    done = call()
    assert done.returncode == 2 and "Usage: congling SUBCOMMAND" in done.stdout + done.stderr


@pytest.mark.parametrize("buffered", [True, False])
def test_output_that_goes_nowhere_is_one_line(program: Path, buffered: bool) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment |= {} if buffered else {"PYTHONUNBUFFERED": "1"}
    for words in (["--version"], ["--help"], *([["eval", ".", "--tasks", "list"]] if buffered else [])):
        with Path("/dev/full").open("w") as full:
            ended = subprocess.run(
                [str(program), *words],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                env=environment,
            )
        assert ended.returncode == 1 and "Traceback" not in ended.stderr and "Exception" not in ended.stderr
        said = "congling: cannot be written (No space left on device): 'what is printed'"
        assert said in ended.stderr.splitlines()


def test_a_reader_that_has_gone_is_no_error_worth_words(program: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [str(program), "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert ended.returncode and not ended.stderr


@pytest.mark.parametrize("words", [["explain", "run"], ["report", "run"], ["compare", "run", "run"]])
def test_logs_that_may_not_be_read_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """Rights do not bind whoever is root, so the system's answer is made up."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1, "tokens": 2, "loss": 3.0}\n')
    opened = Path.open

    def denied(self: Path, *given: Any, **named: Any) -> Any:
        if self.name == "metrics.jsonl":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return opened(self, *given, **named)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["congling", *words])
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", denied)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1 and "cannot be read (Permission denied)" in said and "metrics.jsonl" in said


def test_what_the_system_refuses_somewhere_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "somewhere")

    monkeypatch.setattr(Path, "is_file", refused)
    monkeypatch.setattr(sys, "argv", ["congling", "chat", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1 and "Too many open files" in said and "Traceback" not in said


def test_ctrl_c_is_one_word(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("congling.report.listing.listed", interrupted)
    monkeypatch.setattr(sys, "argv", ["congling", "runs"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith("\nstopped")
