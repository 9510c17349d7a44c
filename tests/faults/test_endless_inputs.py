"""Inputs without an end, or that unpack to far more than they are, end in one error within bounded memory."""

import gzip
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from congling.core.errors import UserError
from congling.data import corpus
from congling.data.config import DataConfig
from congling.data.problems import ReadingLog
from congling.data.sources import stream
from congling.interop.detect import kind_of
from congling.interop.gguf.file import GGUFFile
from congling.tokenizer.imported import read as foreign

NAMES = ("x", "x.txt", "x.jsonl", "x.json", "x.csv", "x.parquet", "x.arrow", "x.gguf", "x.toml", "x.gz")


def read(path: Path) -> tuple[list[str], ReadingLog]:
    """The texts of a source, and what was told."""
    findings = ReadingLog()
    config = DataConfig(sources=(str(path),), deduplicate=False)
    return [one.text for one, _ in corpus.prepared(config, findings, lambda *_: None)], findings


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    folder = Path.cwd()
    os.chdir(path.parent)  # the names of sockets are short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)
    os.chdir(folder)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def terminal(path: Path) -> None:
    path.symlink_to("/dev/tty")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [pipe, listening, device, terminal])
def test_what_never_ends_is_refused_as_a_text(
    tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(UserError, match=r"not a file|No such|cannot be read"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_what_never_ends_is_left_out_of_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("云对雨，雪对风。", encoding="utf-8")
    pipe(tmp_path / name)
    texts, findings = read(tmp_path)
    assert texts == ["云对雨，雪对风。"] and findings.counts["other file"] == 1


@pytest.mark.parametrize("make", [pipe, listening, device])
@pytest.mark.parametrize("opened", [kind_of, foreign.read, GGUFFile.open])
def test_what_never_ends_is_no_model(
    tmp_path: Path, make: Callable[[Path], None], opened: Callable[[Path], Any]
) -> None:
    make(tmp_path / "x")
    with pytest.raises(UserError):
        opened(tmp_path / "x")


@pytest.mark.parametrize("file", [
    "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "tokenizer.model",
    "generation_config.json", "chat_template.jinja", "vocab.json", "adapter_config.json", "MANIFEST.json",
    "model.bin", "adapter_model.safetensors", "pytorch_model.bin", "model.json",
])  # fmt: skip
def test_a_pipe_within_a_model_is_one_error(tmp_path: Path, file: str) -> None:
    from congling.interop.formats import read_model

    for other in ("config.json", "model.safetensors"):
        (tmp_path / other).write_text("{}")
    (tmp_path / file).unlink(missing_ok=True)
    pipe(tmp_path / file)
    with pytest.raises(UserError):
        read_model(tmp_path)


@pytest.mark.parametrize("place", ["/proc", "/sys/kernel", "/dev", "/proc/self/fd"])
def test_folders_of_the_system_are_no_corpora(place: str) -> None:
    with pytest.raises(UserError, match="belongs to the system"):
        read(Path(place))


BLOCK = b"0123456789abcde\n" * 2**16  # a megabyte
BOMBS = {
    "x.txt.gz": gzip.compress(BLOCK, mtime=0),
    "x.jsonl.gz": gzip.compress(b'{"text": "a"}\n' * 2**13, mtime=0),
    "x.txt.zst": zstandard.compress(BLOCK),
    "x.json.zst": zstandard.compress(b" " * 2**20),
    "zeros.txt.gz": gzip.compress(bytes(2**20), mtime=0),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BOMBS[name] * (3200 if "jsonl" in name else 400))
    with pytest.raises(UserError, match="unpacks to more than 200 times its size|not text"):
        read(tmp_path / name)


def test_repetitive_archives_of_a_usual_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl.gz").write_bytes(BOMBS["x.jsonl.gz"])
    assert len(read(tmp_path / "x.jsonl.gz")[0]) == 2**13


def test_archives_in_archives_are_no_text(tmp_path: Path) -> None:
    content = b"text"
    for _ in range(50):
        content = gzip.compress(content)
    (tmp_path / "x.txt.gz").write_bytes(content)
    with pytest.raises(UserError):
        read(tmp_path / "x.txt.gz")


@pytest.mark.parametrize(
    ("magic", "kind"), [(b"BZh9", "bzip2"), (b"\xfd7zXZ\0", "an xz"), (b"PK\x03\x04", "ZIP")]
)
def test_other_archives_are_named(tmp_path: Path, magic: bytes, kind: str) -> None:
    (tmp_path / "x.txt").write_bytes(magic + bytes(99))
    with pytest.raises(UserError, match=kind):
        read(tmp_path / "x.txt")


def test_a_file_that_grows_while_it_is_read_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(BLOCK)

    def growing() -> Iterator[None]:
        with stream.opened(path) as opened:
            for part in stream.chunks(opened, "x.txt", ReadingLog()):
                with path.open("ab") as more:
                    more.write(part)
                yield

    with pytest.raises(UserError, match="grows while it is read"):
        for _ in growing():
            pass


PARQUET = """
import json, sys
import pyarrow as pa, pyarrow.parquet as pq
from pathlib import Path
from congling.core.errors import UserError
from congling.core.machine import peak_memory_bytes
from congling.data import corpus
from congling.data.config import DataConfig
from congling.data.problems import ReadingLog
rows, longest = int(sys.argv[2]), int(sys.argv[3])
values = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * longest]))
pq.write_table(pa.table({"text": values}), sys.argv[1], compression="zstd")
del values
before = peak_memory_bytes()
try:
    found = len(list(corpus.prepared(DataConfig(sources=(sys.argv[1],)), ReadingLog(), lambda *_: None)))
except UserError as error:
    found = str(error)
print(json.dumps([found, Path(sys.argv[1]).stat().st_size, peak_memory_bytes() - before]))
"""


@pytest.mark.parametrize(("rows", "longest"), [(300_000, 1000), (1000, 1_000_000), (200, 4_000_000)])
def test_a_small_table_of_a_gigabyte_is_one_error(tmp_path: Path, rows: int, longest: int) -> None:
    pytest.importorskip("pyarrow")
    command = [sys.executable, "-c", PARQUET, str(tmp_path / "x.parquet"), str(rows), str(longest)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found, size, growth = json.loads(run.stdout)
    assert "unpacks to more than 200 times its size" in str(found)
    assert size < 100_000 and growth < size + 64 * 2**20
