import gzip
import json
import sys
from pathlib import Path

import pytest
import zstandard

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.document import Document
from congling.data.problems import ReadingLog
from congling.data.sources.reading import read

ROWS = [{"id": 1, "title": "云", "text": "云对雨\n雪对风"}, {"id": 2, "title": "雨", "text": '晚照,对"晴空"'}]


def found(path: Path, **settings: object) -> tuple[list[Document], ReadingLog]:
    findings = ReadingLog()
    config = DataConfig.model_validate({"sources": (str(path),), **settings})
    return list(read(config.sources, config, findings)), findings


def texts(path: Path, **settings: object) -> list[str]:
    return [document.text for document in found(path, **settings)[0]]


def test_every_format_holds_the_same_records(tmp_path: Path) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(lines))
    (tmp_path / "d.json").write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "e.json").write_text(json.dumps({"version": 1, "data": ROWS}), encoding="utf-8")
    (tmp_path / "f.json").write_bytes(lines)
    quoted = 'id,title,text\r\n1,云,"云对雨\n雪对风"\r\n2,雨,"晚照,对""晴空"""\r\n'
    (tmp_path / "g.csv").write_bytes(quoted.encode("gb18030"))
    (tmp_path / "h.tsv").write_text(
        quoted.replace(",", "\t").replace("晚照\t", "晚照,"), encoding="utf-8-sig", newline=""
    )
    for path in sorted(tmp_path.iterdir()):
        assert texts(path) == [row["text"] for row in ROWS], path.name


def test_all_formats_of_the_real_records(corpora: Path) -> None:
    expected = [
        json.loads(line)["text"]
        for line in (corpora / "formats" / "wiki100.jsonl").read_text("utf-8").split("\n")
        if line
    ]
    pytest.importorskip("pyarrow")
    names = sorted(path.name for path in (corpora / "formats").iterdir())
    assert len(names) == 9
    for name in names:
        found = texts(corpora / "formats" / name, documents="line")
        if name.endswith(".txt"):  # a record a line: line feeds inside a record became spaces
            expected = [text.replace("\n", " ") for text in expected]
        assert found == expected, name


def test_broken_lines(corpora: Path) -> None:
    documents, findings = found(corpora / "messy" / "broken.jsonl")
    kinds = json.loads((corpora / "messy" / "broken.expected.json").read_text("utf-8"))
    # Accepted beyond these: a mark at the line's start, a lone surrogate, which cleaning removes, two
    # objects on a line, and NaN, which is read as null and named.
    accepted = kinds["plainly_valid_records_with_nonempty_string_text"]
    assert (
        len(documents)
        == accepted
        + kinds["kinds"]["bom_at_line_start"]
        + kinds["kinds"]["lone_surrogate_escape"]
        + 2 * kinds["kinds"]["two_objects_one_line"]
        + kinds["kinds"]["nan_value"]
    )
    assert findings.counts["blank line"] == kinds["kinds"]["blank"] + kinds["kinds"]["whitespace"]
    assert (
        findings.counts["invalid bytes"] == kinds["kinds"]["gb18030_bytes"] + kinds["kinds"]["invalid_utf8"]
    )
    no_text = ("text_number", "text_empty", "no_text_key", "text_list", "text_null", "not_object")
    assert findings.counts["record without text"] == sum(kinds["kinds"][kind] for kind in no_text)
    # A record broken by a line feed makes two faulty lines.
    lines = (corpora / "messy" / "broken.jsonl").read_bytes().count(b"\n") + 1
    twice = kinds["kinds"]["two_objects_one_line"] + findings.counts["NaN"]
    assert findings.counts["NaN"] == kinds["kinds"]["nan_value"]
    assert len(documents) + sum(findings.counts.values()) - twice == lines


def test_a_problem_says_where_and_why(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"text": "one"}\n{"text": 2}\n{"txt": "three"}\n{"text": "\xff"}\n{"text": "5",}\n{"text": NaN}\n'
    )
    documents, findings = found(path)
    assert [document.id for document in documents] == ["a.jsonl:1"]
    said = {problem.line: problem.reason for problem in findings.examples}
    assert said[2] == "field 'text' is a number, not text"
    assert said[3] == "no field 'text' (it has txt)"
    assert said[4] == "byte 11 of the line is not utf-8 (ff 22 7d); line skipped"
    assert said[5].startswith("no valid JSON: ")
    assert said[6] == "field 'text' is null, not text" and findings.counts["NaN"] == 1


def test_lines_end_at_lf_alone(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"text": "one\u2028two\u0085three"}\r\n{"text": "four"}', encoding="utf-8", newline=""
    )
    assert texts(tmp_path / "a.jsonl") == ["one\u2028two\u0085three", "four"]


def test_folders_are_read_in_a_persons_order(tmp_path: Path) -> None:
    for name in ("chapter10.txt", "chapter2.txt", "deep/inner.md", ".hidden.txt", "picture.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    documents, findings = found(tmp_path)
    assert [document.text for document in documents] == ["chapter2.txt", "chapter10.txt", "deep/inner.md"]
    assert findings.counts == {"other file": 1}


def test_an_unreadable_file_spoils_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("good", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(bytes(range(256)) * 100)
    documents, findings = found(tmp_path)
    assert [document.text for document in documents] == ["good"]
    assert findings.counts == {"unreadable file": 1}
    with pytest.raises(UserError, match="not text"):
        found(tmp_path / "b.txt")


@pytest.mark.parametrize(
    "content,what",
    [
        (b"\x80\x04\x95\x10\x00\x00\x00", "pickle"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"PK\x03\x04aaaa", "ZIP"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.csv"])
def test_other_kinds_of_files_are_errors_that_help(
    tmp_path: Path, content: bytes, what: str, name: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=what) as caught:
        found(tmp_path / name)
    assert caught.value.hint


def test_damaged_compression_keeps_what_came_before(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": f"{i} {i * 7919 % 10007}"}) + "\n" for i in range(30000)).encode()
    for name, packed in (("a.jsonl.gz", gzip.compress(lines)), ("a.jsonl.zst", zstandard.compress(lines))):
        (tmp_path / name).write_bytes(packed[: len(packed) // 2])
        documents, findings = found(tmp_path / name)
        assert 0 < len(documents) < 30000
        # A cut Zstandard frame ends like a file; its last, incomplete record is what shows.
        assert findings.counts == {"damaged compression": 1} or findings.counts["broken record"] == 1


def test_a_json_array_that_breaks_keeps_what_came_before(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '[{"text": "one"}, {"text": "two"}, {"text": oops}, {"text": "four"}]', encoding="utf-8"
    )
    documents, findings = found(tmp_path / "a.json")
    assert [document.text for document in documents] == ["one", "two"]
    assert "the rest of the file is not read" in findings.examples[0].reason
    (tmp_path / "b.json").write_text("[oops]", encoding="utf-8")
    with pytest.raises(UserError, match="not a JSON array"):
        found(tmp_path / "b.json")


def test_a_csv_row_with_other_columns_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("title,text\na,one\nb\nc,three\n", encoding="utf-8")
    documents, findings = found(tmp_path / "a.csv")
    assert [document.text for document in documents] == ["one", "three"]
    assert findings.examples[0].line == 3
    assert findings.examples[0].reason == "1 column instead of 2"


def test_parquet_and_arrow_in_batches(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    data = pa.table({"text": [f"第{i}行" for i in range(700)], "n": list(range(700))})
    pq.write_table(data, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "b.arrow"), "wb") as sink, pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_table(data)
    for name in ("a.parquet", "b.arrow"):
        assert texts(tmp_path / name) == [f"第{i}行" for i in range(700)]
    (tmp_path / "c.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged"):
        found(tmp_path / "c.parquet")


def test_without_pyarrow_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"congling\[data\]"):
        found(tmp_path / "a.parquet")


def test_links_in_a_folder_are_followed_inside_it_and_not_out_of_it(tmp_path: Path) -> None:
    folder, outside = tmp_path / "texts", tmp_path / "private"
    (folder / "deep").mkdir(parents=True)
    (outside / "more").mkdir(parents=True)
    (folder / "a.txt").write_text("云对雨", encoding="utf-8")
    for name in ("secret.txt", "more/diary.txt"):
        (outside / name).write_text("雪对风", encoding="utf-8")
    (folder / "deep" / "again.txt").symlink_to("../a.txt")
    (folder / "absolute.txt").symlink_to(outside / "secret.txt")
    (folder / "deep" / "relative.txt").symlink_to("../../private/secret.txt")
    (folder / "linked").symlink_to(outside)
    (folder / "to nothing.txt").symlink_to(tmp_path / "nowhere")
    read_texts, findings = found(folder)
    assert [one.text for one in read_texts] == ["云对雨", "云对雨"]
    assert findings.counts["link"] == 4
    assert {one.file for one in findings.examples if one.kind == "link"} <= {
        "absolute.txt",
        "deep/relative.txt",
        "linked",
        "to nothing.txt",
    }
    assert texts(folder / "absolute.txt") == ["雪对风"]  # a person named it
    (tmp_path / "alias").symlink_to(folder)
    assert texts(tmp_path / "alias") == ["云对雨", "云对雨"]
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "secret.txt").symlink_to(outside / "secret.txt")
    with pytest.raises(UserError, match="1 links lead out of it"):
        found(tmp_path / "only")
