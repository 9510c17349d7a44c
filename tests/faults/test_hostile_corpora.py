"""Files made to break a reader: documents come out, or one clear error, within bounded memory."""

import gzip
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from congling.core.errors import UserError
from congling.data import corpus
from congling.data.config import DataConfig
from congling.data.problems import ReadingLog
from congling.data.sources.reading import READERS

TEXT = (
    "第一回 云对雨\n雪对风，晚照对晴空。来鸿对去燕，宿鸟对鸣虫。\n\n第二回 三尺剑\n六钧弓，岭北对江东。\n" * 3
)
ROWS = [{"id": 1, "title": "云", "text": TEXT}, {"id": 2, "title": "雨", "text": "雪对风"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def book(*pages: str) -> bytes:
    """A book of these pages."""
    stream = io.BytesIO()
    names = [f"p{i}" for i in range(len(pages))]
    items = "".join(f'<item id="{n}" href="{n}.xhtml" media-type="application/xhtml+xml"/>' for n in names)
    order = "".join(f'<itemref idref="{name}"/>' for name in names)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr("META-INF/container.xml", '<container><rootfile full-path="a.opf"/></container>')
        archive.writestr("a.opf", f"<package><manifest>{items}</manifest><spine>{order}</spine></package>")
        for name, page in zip(names, pages, strict=True):
            archive.writestr(f"{name}.xhtml", page)
    return stream.getvalue()


SEEDS = {
    "a.txt": TEXT.encode(),
    "b.txt": TEXT.encode("gb18030"),
    "c.txt": TEXT.encode("utf-16"),
    "d.txt": TEXT.encode("big5hkscs", "ignore"),
    "a.jsonl": LINES.encode(),
    "b.jsonl": json.dumps(ROWS[0]).encode(),
    "a.json": json.dumps(ROWS).encode(),
    "b.json": json.dumps({"data": ROWS}, ensure_ascii=False).encode(),
    "a.csv": ('id,text\n1,"' + TEXT + '"\n2,雪对风\n').encode(),
    "a.tsv": "id\ttext\n1\t云对雨\n2\t雪对风\n".encode("gb18030"),
    "a.txt.gz": gzip.compress(TEXT.encode(), mtime=0),
    "a.jsonl.zst": zstandard.compress(LINES.encode()),
    "a.html": b"<!DOCTYPE html><meta charset=gbk><h1>" + TEXT.encode("gbk").replace(b"\n", b"<p>"),
    "a.epub": book(f"<html><body><p>{TEXT}</p><script/></body></html>"),
    "a.parquet": b"PAR1" + bytes(60) + b"PAR1",
    "a.arrow": b"ARROW1\0\0" + bytes(60),
}


def survives(folder: Path, name: str, content: bytes) -> None:
    """Reading either yields clean documents or raises a UserError; nothing else."""
    path = folder / name
    path.write_bytes(content)
    findings = ReadingLog()
    try:
        for document, _ in corpus.prepared(DataConfig(sources=(str(path),)), findings, lambda *_: None):
            document.text.encode("utf-8")
            assert "\0" not in document.text
    except UserError as error:
        assert str(error)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(SEEDS)),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=6), st.integers(0, 40)), max_size=6),
)
def test_mutated_files(tmp_path: Path, name: str, edits: list[tuple[int, bytes, int]]) -> None:
    content = SEEDS[name]
    for place, inserted, removed in edits:
        at = place % (len(content) + 1)
        content = content[:at] + inserted + content[at + removed :]
    survives(tmp_path, name, content)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from(sorted(READERS)), content=st.binary(max_size=300))
@example(suffix="csv", content=b"\x01\r\x01")
def test_arbitrary_bytes(tmp_path: Path, suffix: str, content: bytes) -> None:
    survives(tmp_path, f"x.{suffix}", content)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats(allow_subnormal=False) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["text", "messages", "paragraphs", "question", "answer", "content", "title"]),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_records_of_any_shape(tmp_path: Path, value: object) -> None:
    survives(tmp_path, "x.jsonl", json.dumps(value).encode() + b"\n" + json.dumps({"text": "ok"}).encode())
    survives(tmp_path, "x.json", json.dumps([value, value]).encode())


@pytest.mark.parametrize("name", ["deep.json", "deep.jsonl"])
def test_deep_nesting_is_named(tmp_path: Path, name: str) -> None:
    survives(
        tmp_path,
        name,
        b'[{"text": "one"}, ' + b"[" * 200_000
        if name.endswith("json")
        else b'{"text": "one"}\n' + b"[" * 200_000,
    )


def test_huge_numbers_are_named(tmp_path: Path) -> None:
    survives(tmp_path, "a.jsonl", b'{"text": "one"}\n{"n": ' + b"9" * 10_000 + b', "text": "two"}\n')


HOSTILE = """
import gzip, json, sys
from pathlib import Path
from congling.core.machine import peak_memory_bytes
from congling.data import corpus
from congling.data.config import DataConfig
folder, name = Path(sys.argv[1]), sys.argv[2]
piece = ("却说那日天气晴和，众人在园中闲坐说话。" * 5000).encode()  # 285 kB
path = folder / name
opener = gzip.open if name.endswith("gz") else open
with opener(path, "wb") as file:
    if "json" in name:
        lines = "jsonl" in name
        file.write(b'{"text": "first"}\\n{"text": "' if lines else b'[{"text": "first"}, {"text": "')
    if name.endswith("csv"):
        file.write(b'id,text\\n1,first\\n2,"')
    for i in range(350):
        file.write(piece)
    if "json" in name:
        file.write(b'"}\\n{"text": "last"}\\n')
before = peak_memory_bytes()
corpus.make(DataConfig(sources=(str(path),), deduplicate=False), folder / "out")
summary = corpus.summary(folder / "out")
print(json.dumps([peak_memory_bytes() - before, summary["splits"], summary["problems"]["counts"]]))
"""


@pytest.mark.parametrize("name", ["bomb.txt.gz", "record.jsonl", "array.json", "quote.csv"])
def test_a_hundred_megabytes_without_a_line_feed(tmp_path: Path, name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(tmp_path), name], capture_output=True, text=True, check=True
    )
    peak, splits, problems = json.loads(run.stdout)
    assert peak < 300e6
    characters = splits["train"]["characters"] + splits["validation"]["characters"]
    if "txt" in name:
        assert characters > 30e6
        assert problems["long line"] == 1
    else:
        assert characters <= 20
        assert sum(problems.values()) >= 1
