import json
from pathlib import Path

import pytest
import zstandard

from congling.core.artifact import opened
from congling.core.errors import UserError
from congling.data import corpus, shards
from congling.data.config import DataConfig, SplitConfig
from congling.data.dedup import grams
from congling.data.document import read_rows
from congling.data.inspection import inspect
from congling.tokenizer import training
from congling.tokenizer.config import TokenizerConfig

SENTENCES = [
    "云对雨，雪对风。",
    "晚照对晴空。",
    "来鸿对去燕，宿鸟对鸣虫。",
    "三尺剑，六钧弓。",
    "岭北对江东。",
]


def lines_file(folder: Path, count: int) -> Path:
    path = folder / "lines.jsonl"
    rows = [
        json.dumps({"text": f"第{i}段：" + SENTENCES[i % 5] + chr(0x4E00 + i) * 30}, ensure_ascii=False)
        for i in range(count)
    ]
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def ids(folder: Path, split: corpus.Split) -> list[str]:
    return [document.id for document in corpus.documents(folder, split)]


def test_a_share_is_held_out_and_every_document_is_somewhere(tmp_path: Path) -> None:
    config = DataConfig(sources=(str(lines_file(tmp_path, 40)),), split=SplitConfig(validation=0.25))
    corpus.make(config, tmp_path / "out")
    train, validation = ids(tmp_path / "out", "train"), ids(tmp_path / "out", "validation")
    assert len(validation) == 10
    assert sorted(train + validation) == sorted(f"lines.jsonl:{i}" for i in range(1, 41))
    assert opened(tmp_path / "out", "documents").facts["documents"] == {"train": 30, "validation": 10}


def test_the_split_is_a_function_of_texts_and_seed(tmp_path: Path) -> None:
    source = str(lines_file(tmp_path, 40))
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        corpus.make(DataConfig(sources=(source,), split=SplitConfig(seed=seed)), tmp_path / name)
        found.append(ids(tmp_path / name, "validation"))
    assert found[0] == found[1] != found[2]
    assert (
        opened(tmp_path / "a", "documents").files["train.jsonl.zst"]
        == opened(tmp_path / "b", "documents").files["train.jsonl.zst"]
    )


def test_last_documents_are_held_out_by_number(tmp_path: Path) -> None:
    split = SplitConfig(validation=3, order="last")
    corpus.make(DataConfig(sources=(str(lines_file(tmp_path, 10)),), split=split), tmp_path / "out")
    assert ids(tmp_path / "out", "validation") == [f"lines.jsonl:{i}" for i in (8, 9, 10)]


def test_two_documents_give_one_to_each_side(tmp_path: Path) -> None:
    corpus.make(
        DataConfig(sources=(str(lines_file(tmp_path, 2)),), split=SplitConfig(validation=5)), tmp_path / "out"
    )
    assert len(ids(tmp_path / "out", "train")) == len(ids(tmp_path / "out", "validation")) == 1
    assert "asks for 5" in corpus.summary(tmp_path / "out")["notes"][0]


def test_a_single_document_gives_up_its_last_paragraph(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("\n".join(SENTENCES * 3), encoding="utf-8")
    corpus.make(DataConfig(sources=(str(tmp_path / "one.txt"),), documents="file"), tmp_path / "out")
    head, tail = (next(corpus.documents(tmp_path / "out", name)).text for name in ("train", "validation"))
    assert head + "\n" + tail == "\n".join(SENTENCES * 3)
    assert "a single document" in corpus.summary(tmp_path / "out")["notes"][0]


def test_one_character_is_training_text_alone_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("中", encoding="utf-8")
    corpus.make(DataConfig(sources=(str(tmp_path / "one.txt"),)), tmp_path / "out")
    summary = corpus.summary(tmp_path / "out")
    assert summary["splits"]["validation"]["documents"] == 0
    assert summary["reference_lines"] is None
    assert "too short" in summary["notes"][0]


def test_nothing_to_read_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(UserError, match=r"hold no text.*empty\.txt: the file has no bytes"):
        corpus.make(DataConfig(sources=(str(tmp_path / "empty.txt"),)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="does not exist"):
        corpus.make(DataConfig(sources=(str(tmp_path / "nowhere"),)), tmp_path / "out")


def test_every_drop_has_a_reason(tmp_path: Path) -> None:
    lines_file(tmp_path, 10)
    rows = (tmp_path / "lines.jsonl").read_text(encoding="utf-8")
    (tmp_path / "lines.jsonl").write_text(rows + "\n" + rows.replace("：", "： "), encoding="utf-8")
    corpus.make(DataConfig(sources=(str(tmp_path / "lines.jsonl"),)), tmp_path / "out")
    dropped = list(read_rows(tmp_path / "out" / "dropped.jsonl.zst"))
    assert [row["reason"] for row in dropped] == ["equal to an earlier document"] * 10
    assert corpus.summary(tmp_path / "out")["dropped"] == {"equal to an earlier document": 10}


def test_the_validation_share_is_bounded_in_characters(tmp_path: Path) -> None:
    split = SplitConfig(validation=0.5, largest=100)
    corpus.make(DataConfig(sources=(str(lines_file(tmp_path, 20)),), split=split), tmp_path / "out")
    summary = corpus.summary(tmp_path / "out")
    assert 0 < summary["splits"]["validation"]["characters"] <= 100
    assert "limited to 100" in summary["notes"][0]


def test_the_last_chapters_of_a_novel(corpora: Path, tmp_path: Path) -> None:
    source = str(corpora / "hlm" / "hlm_001-080.txt")
    corpus.make(
        DataConfig(sources=(source,), split=SplitConfig(validation=8, order="last")), tmp_path / "out"
    )
    titles = [document.meta["title"] for document in corpus.documents(tmp_path / "out", "validation")]
    assert [title[:4] for title in titles] == [
        "第七十三",
        "第七十四",
        "第七十五",
        "第七十六",
        "第七十七",
        "第七十八",
        "第七十九",
        "第八十回",
    ]
    summary = corpus.summary(tmp_path / "out")
    assert summary["splits"]["train"]["documents"] == 72
    assert summary["splits"]["train"]["script"]["guess"] == "hans"
    lines = summary["reference_lines"]
    assert lines["unigram"] == pytest.approx(8.83, abs=0.05)
    assert lines["bigram"] == pytest.approx(6.8, abs=0.1)
    assert lines["uniform"] > 12


def test_near_copies_do_not_cross_the_split(corpora: Path, tmp_path: Path) -> None:
    source = corpora / "messy" / "duplicates.jsonl"
    corpus.make(DataConfig(sources=(str(source),), split=SplitConfig(validation=0.3)), tmp_path / "out")
    group = {}
    for number, line in enumerate(source.read_text(encoding="utf-8").split("\n"), 1):
        if line:
            row = json.loads(line)
            group[f"duplicates.jsonl:{number}"] = row.get("of", row["id"])
    held = {group[name] for name in ids(tmp_path / "out", "validation")}
    assert not held & {group[name] for name in ids(tmp_path / "out", "train")}
    reasons = corpus.summary(tmp_path / "out")["dropped"]
    assert reasons["equal to an earlier document"] >= 40
    assert reasons["near copy of a validation document"] > 0
    kept = [set(grams(document.text).tolist()) for document in corpus.documents(tmp_path / "out", "train")]
    for document in corpus.documents(tmp_path / "out", "validation"):
        mine = set(grams(document.text).tolist())
        assert all(
            len(mine & other) < 0.5 * max(1, min(len(mine), len(other))) or len(mine & other) < 8
            for other in kept
        )


def test_broken_lines_are_all_listed(corpora: Path, tmp_path: Path) -> None:
    corpus.make(DataConfig(sources=(str(corpora / "messy" / "broken.jsonl"),)), tmp_path / "out")
    problems = [
        json.loads(line)
        for line in (tmp_path / "out" / "problems.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert len(problems) == sum(corpus.summary(tmp_path / "out")["problems"]["counts"].values())
    assert all(problem["reason"] and problem["file"] for problem in problems)


def test_the_embedded_corpus_knows_its_floor(tmp_path: Path) -> None:
    config = DataConfig.model_validate({"sources": ("smallworld",), "smallworld": {"size": 60_000}})
    corpus.make(config, tmp_path / "out")
    summary = corpus.summary(tmp_path / "out")
    assert summary["splits"]["validation"]["documents"] > 0
    assert 0 < summary["entropy_floor"]["bits_per_character"] < summary["reference_lines"]["bigram"]


def test_a_third_split_stands_in_a_file_of_its_own(tmp_path: Path) -> None:
    source = str(lines_file(tmp_path, 40))
    corpus.make(DataConfig(sources=(source,), split=SplitConfig(validation=0.2)), tmp_path / "two")
    made = corpus.make(
        DataConfig(sources=(source,), split=SplitConfig(validation=0.1, test=0.1)), tmp_path / "three"
    )
    assert made.facts["documents"] == {"train": 32, "validation": 4, "test": 4}
    assert ids(tmp_path / "three", "train") == ids(tmp_path / "two", "train")
    held = ids(tmp_path / "three", "validation") + ids(tmp_path / "three", "test")
    assert sorted(held) == sorted(ids(tmp_path / "two", "validation"))
    assert (corpus.held_out(tmp_path / "two"), corpus.held_out(tmp_path / "three")) == ("validation", "test")
    with pytest.raises(UserError, match="no test split"):
        ids(tmp_path / "two", "test")
    two, three = corpus.summary(tmp_path / "two"), corpus.summary(tmp_path / "three")
    assert "test" not in two["splits"] and "test_reference_lines" not in two
    characters = [three[key]["characters"] for key in ("reference_lines", "test_reference_lines")]
    assert characters == [three["splits"][split]["characters"] for split in ("validation", "test")]


def test_what_is_tested_is_neither_learnt_nor_chosen_by(tmp_path: Path) -> None:
    """A near copy of a test document is dropped from validation and from training, with its reason."""
    long = "".join(chr(0x4E00 + (i * i * 7 + 3 * i) % 3000) for i in range(400))
    others = ["".join(chr(0x5E00 + (i * 31 + k * 1009) % 2000) for i in range(300)) for k in range(6)]
    rows = [*others, long[:-1] + "甲", long[1:] + "乙", long]  # training, validation, test
    file = tmp_path / "rows.jsonl"
    file.write_text(
        "\n".join(json.dumps({"text": text}) for text in (*rows[:3], rows[6], *rows[3:6], rows[7]))
        + "\n"
        + json.dumps({"text": long}),
        encoding="utf-8",
    )
    split = SplitConfig(validation=2, test=1, order="last")
    corpus.make(DataConfig(sources=(str(file),), split=split), tmp_path / "out")
    assert ids(tmp_path / "out", "test") == ["rows.jsonl:9"]
    assert ids(tmp_path / "out", "validation") == ["rows.jsonl:7"]
    assert "rows.jsonl:4" not in ids(tmp_path / "out", "train")
    dropped = {row["id"]: row["reason"] for row in read_rows(tmp_path / "out" / "dropped.jsonl.zst")}
    assert dropped == dict.fromkeys(("rows.jsonl:8", "rows.jsonl:4"), "near copy of a test document")


def test_a_single_document_is_cut_in_three(tmp_path: Path) -> None:
    text = "\n".join(f"第{i}段：" + SENTENCES[i % 5] * 3 for i in range(60))
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    config = DataConfig(
        sources=(str(tmp_path / "book.txt"),), documents="file", split=SplitConfig(validation=0.1, test=0.2)
    )
    corpus.make(config, tmp_path / "out")
    texts = [next(corpus.documents(tmp_path / "out", split)).text for split in corpus.SPLITS]
    assert "\n".join(texts) == text
    assert 0.15 < len(texts[2]) / len(text) < 0.25 and 0.05 < len(texts[1]) / len(text) < 0.12


DAMAGES = {
    "flipped": lambda file: file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1])),
    "emptied": lambda file: file.write_bytes(zstandard.compress(b"")),
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:-10]),
    "gone": lambda file: file.unlink(),
    "swapped": lambda file: file.write_bytes((file.parent / "train.jsonl.zst").read_bytes()),
    "made longer": lambda file: file.write_bytes(
        file.read_bytes() + zstandard.compress(b'{"text": "more"}\n')
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_not_one_document_of_a_damaged_split_is_read(tmp_path: Path, damage: str) -> None:
    corpus.make(DataConfig(sources=(str(lines_file(tmp_path, 40)),)), tmp_path / "out")
    training.train(TokenizerConfig(kind="character"), lambda: iter(SENTENCES), tmp_path / "tokenizer")
    DAMAGES[damage](tmp_path / "out" / "validation.jsonl.zst")
    with pytest.raises(UserError, match="validation"):
        next(corpus.documents(tmp_path / "out", "validation"))  # the first is whole in some of these files
    for use in (
        lambda: corpus.held_out(tmp_path / "out"),
        lambda: inspect(DataConfig(sources=(str(tmp_path / "out"),))),
        lambda: shards.write(tmp_path / "out", tmp_path / "tokenizer", tmp_path / "shards"),
    ):
        with pytest.raises(UserError, match="validation"):
            use()
    assert not (tmp_path / "shards").exists()


def test_a_summary_that_was_changed_is_not_believed(tmp_path: Path) -> None:
    corpus.make(DataConfig(sources=(str(lines_file(tmp_path, 40)),)), tmp_path / "out")
    file = tmp_path / "out" / corpus.SUMMARY
    file.write_text(file.read_text(encoding="utf-8").replace("unigram", "unogram"), encoding="utf-8")
    with pytest.raises(UserError, match=r"checksum.*summary\.json"):
        corpus.summary(tmp_path / "out")
