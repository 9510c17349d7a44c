import io
import json
from pathlib import Path

import pytest

from congling.cli import application
from congling.core.console import Console
from congling.core.errors import UserError
from congling.data import corpus, display, inspection
from congling.data.command_line import configured, rows_configured
from congling.data.config import DataConfig
from congling.stages import data
from congling.tokenizer import store, training
from congling.tokenizer.config import TokenizerConfig


def chapter(number: int) -> str:
    own = "".join(chr(0x4E00 + 97 * number + 13 * i) for i in range(80))
    return f"第{'一二三四五'[number]}回 题\n却说那日天气晴和，众人在园中闲坐说话。\n{own}\n"


BODY = "\n".join(map(chapter, range(5)))


def printed(found: inspection.Inspection) -> str:
    console = Console(record=True, width=80, file=io.StringIO())
    display.show(found, console)
    return console.export_text()


def test_inspect_tells_a_person_what_would_happen(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_bytes(BODY.encode("gb18030"))
    (tmp_path / "rows.jsonl").write_text('{"text": "甲"}\nbroken\n', encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    text = printed(inspection.inspect(configured([str(tmp_path)])))
    assert "book.txt: " in text
    assert "gb18030 (frequent characters" in text
    assert "5 documents by chapter: 5 headings" in text
    assert "rows.jsonl:2  broken record: no valid JSON" in text
    assert "bits/character of the validation text: uniform" in text
    assert sorted(tmp_path.iterdir()) == before


def test_file_names_and_texts_are_no_markup(tmp_path: Path) -> None:
    (tmp_path / "[red]x[bold].txt").write_text("[/bold] 文[blink]", encoding="utf-8")
    text = printed(inspection.inspect(configured([str(tmp_path)])))
    assert "[red]x[bold].txt" in text
    assert "[/bold] 文[bl" in text


def test_a_finished_directory_can_be_inspected(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(BODY, encoding="utf-8")
    corpus.make(DataConfig(sources=(str(tmp_path / "book.txt"),)), tmp_path / "out")
    found = inspection.inspect(configured([str(tmp_path / "out")]))
    assert found.summary == corpus.summary(tmp_path / "out")
    assert found.first[0].id == "book.txt:1"


def test_settings_of_the_command_line(tmp_path: Path) -> None:
    config = configured(["a.txt", "data.split.validation=8", "data.split.order=last", "b=c.txt"])
    assert config.sources == ("a.txt", "b=c.txt")
    assert (config.split.validation, config.split.order) == (8, "last")
    with pytest.raises(UserError, match="did you mean 'split'"):
        configured(["a.txt", "data.splt.validation=8"])
    with pytest.raises(UserError, match="no source"):
        configured(["data.split.validation=8"])


def test_looking_at_a_large_corpus_stops_early(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(BODY, encoding="utf-8")
    found = inspection.inspect(DataConfig(sources=(str(tmp_path / "book.txt"),)), at_most=150)
    assert sum(split["documents"] for split in found.summary["splits"].values()) == 2
    assert "were looked at" in found.summary["notes"][0]


def test_every_real_file_can_be_inspected(corpora: Path) -> None:
    pytest.importorskip("pyarrow")
    refused = []
    for path in sorted(path for path in corpora.rglob("*") if path.is_file()):
        try:
            assert printed(inspection.inspect(DataConfig(sources=(str(path),)), at_most=20_000))
        except UserError:
            refused.append(path.name)
    assert refused == ["blank_lines.txt", "broken.expected.json", "empty.txt"]


def test_rows_of_the_small_world_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    words = ["data", "rows", "--kind", "pairs", "--count", "1k", "--mix", "arithmetic=1,couplets=2"]
    application(words)([*words, "--out", str(out)], standalone_mode=False)
    made = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(made) == 1000 and {row["kind"] for row in made} == {"arithmetic", "couplets"}
    mixes = [{"mix": mix} for mix in ("arithmetic", "riddles=1", "story=-1", "story=x")]
    for faulty in ({"kind": "pears"}, {"count": 0}, *mixes):
        with pytest.raises(UserError):
            rows_configured(faulty)


def test_inspecting_rows_needs_a_tokenizer_for_a_template(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "问", "output": "答"}\n' * 3, encoding="utf-8")
    with pytest.raises(UserError, match="need a tokenizer"):
        data.inspect([str(rows)], template="llama3")
    with pytest.raises(UserError, match="no tokenizer here"):
        data.inspect([str(rows)], tokenizer=tmp_path)


def test_a_tokenizer_is_found_in_runs_and_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    lines = [f'{{"instruction": "问{i}", "output": "答"}}\n' for i in range(3)]
    rows.write_text("".join(lines), encoding="utf-8")
    checkpoint = tmp_path / "run/checkpoints/step-00000001"
    training.train(TokenizerConfig(kind="character"), lambda: iter(["问答\n"] * 9), checkpoint / "tokenizer")
    (tmp_path / "run/LATEST").write_text("step-00000001\n", encoding="utf-8")
    for path in (tmp_path, tmp_path / "run", checkpoint, checkpoint / "tokenizer"):
        assert store.locate(path) == checkpoint / "tokenizer"
    source = "{% for m in messages %}{{ m['content'] + '|' }}{% endfor %}"
    (tmp_path / "own.jinja").write_text(source, encoding="utf-8")
    data.inspect([str(rows)], tokenizer=tmp_path, template=str(tmp_path / "own.jinja"), context=64)
    text = capsys.readouterr().out
    assert "template its own" in text and "问0|⟦答<|endoftext|>⟧" in text and "64 tokens: 0 of 3 rows" in text


ENDINGS = [
    {"premise": f"{place}下雨了。", "choice1": "路湿了。", "choice2": "路干了。", "question": way, "label": 0}
    for place, way in (("山上", "effect"), ("江北", "cause"), ("城里", "effect"))
]
PAIRS = [{"prompt": f"问{i}", "chosen": "答", "rejected": "不答"} for i in range(9)]


def written(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    text = "问答不山上下雨了。路湿干江北城里0123456789\n"
    training.train(TokenizerConfig(kind="character"), lambda: iter([text] * 9), tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.mark.parametrize("first", ["a", "z"])
def test_rows_with_nothing_to_learn_do_not_hide_those_of_other_files(tmp_path, vocabulary, capsys, first):
    """Whether they come first or last."""
    unfit = [{"instruction": f"问{i}" * 50, "output": "答"} for i in range(9)]  # no room for an answer
    empty = written(tmp_path / f"{first}.jsonl", unfit)
    files = sorted([empty, written(tmp_path / "pairs.jsonl", PAIRS)])
    data.inspect(files, tokenizer=vocabulary, context=64)
    text = capsys.readouterr().out
    assert "9 preference pairs" in text and "nothing to learn in this data" in text and empty in text
    with pytest.raises(UserError, match="nothing to learn"):
        data.inspect([empty], tokenizer=vocabulary, context=64)


@pytest.mark.parametrize("with_tokenizer", [False, True])
def test_pairs_alone_are_shown_as_pairs(tmp_path, vocabulary, capsys, with_tokenizer):
    file = written(tmp_path / "pairs.jsonl", PAIRS)
    data.inspect([file], tokenizer=vocabulary if with_tokenizer else None)
    text = capsys.readouterr().out
    assert "9 preference pairs" in text and "dpo, reward" in text and "nothing to learn" not in text
    assert text.index("chosen") < text.index("rejected")


@pytest.mark.parametrize("with_tokenizer", [False, True])
def test_endings_of_a_premise_are_no_prompts(tmp_path, vocabulary, capsys, with_tokenizer):
    file = written(tmp_path / "endings.jsonl", ENDINGS)
    data.inspect([file], tokenizer=vocabulary if with_tokenizer else None)
    text = capsys.readouterr().out
    assert "prompt" not in text and "江北下雨了" in text
    assert "0 conversations" not in text and "≤ 0" not in text
