"""Reports: complete, self-contained, and unharmed by what models and files say."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from congling.report import pages, record
from congling.report.origin import how_to_reproduce
from support.synthetic import PASSAGE, make_run

EVIL = '<script>alert(1)</script><img src="http://evil.example/x.png">`|*_[a](http://evil.example)'


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "book", rising=True)
    return pages.write(record.read(run), run / "report").parent


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(text)
    return parser.seen


def test_the_page_says_everything(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    for part in (
        "6.170",
        "bigram",
        "Held-out loss",
        "Plan and measurement",
        "overfitting",
        "Samples over time",
        "却说宝玉",
        "How to reproduce",
        "learning rate".capitalize(),
        "Why these settings",
        "per_device_train_batch_size = 16",
    ):
        assert part in text or (part == "overfitting" and "memorised the training text" in text), part
    assert sum(tag == "svg" for tag, _ in tags(text)) == 2 * 5  # each wide and narrow


def test_the_page_asks_nobody_for_anything(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    for tag, attributes in tags(text):
        assert tag not in ("script", "link", "iframe", "object", "img")
        assert not {"src", "href"} & attributes.keys()
    assert "@import" not in text and "url(" not in text


def test_markdown_names_pictures_that_are_there(written):
    text = (written / "report.md").read_text(encoding="utf-8")
    names = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(names) == 5
    for name in names:
        ElementTree.parse(written / name)
    assert PASSAGE[4:24] in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table and all(line.endswith("|") for line in table)


def test_hostile_text_stays_text(tmp_path):
    run = make_run(tmp_path / "evil run <b>", steps=40, prompt=EVIL)
    record.add_result(run, "copying", {"rate": 0.5, "longest": 30, "longest_text": EVIL, "span": 20})
    (run / "config.toml").write_text(f"name = '''{EVIL}'''\n", encoding="utf-8")
    folder = pages.write(record.read(run), tmp_path / "out").parent
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert not {"script", "img", "b-evil"} & {tag for tag, _ in tags(html)}
    assert "&lt;script&gt;" in html
    markdown = re.sub(
        r"^(`{3,})\n.*?^\1$", "", (folder / "report.md").read_text(encoding="utf-8"), flags=re.M | re.S
    )
    assert "<script>" not in markdown and not re.search(r"(?<!\\)\]\(http", markdown)


def test_a_run_with_metrics_alone_still_gets_a_report(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "tokens": 5, "loss": 2.0}\n', encoding="utf-8")
    text = pages.write(record.read(tmp_path), tmp_path / "report").read_text(encoding="utf-8")
    assert "nothing recorded" in text


def test_a_fence_is_longer_than_those_inside():
    assert pages.markdown_block("a\n```\nb").startswith("````\n")


def test_tables_of_the_markdown_are_tables(written):
    lines = (written / "report.md").read_text(encoding="utf-8").splitlines()
    rules = [i for i, line in enumerate(lines) if line.startswith("| ---")]
    assert rules
    for i in rules:
        assert lines[i - 1].startswith("|") and lines[i + 1].startswith("|")
        assert lines[i - 1].count("|") == lines[i].count("|")


def test_a_run_that_was_made_longer_names_all_commands_it_came_of(tmp_path):
    run = make_run(tmp_path / "book")
    for place, words in (
        ("endings/step-00000400", ["congling", "train", "book.txt", "--out", "book"]),
        ("checkpoints/step-00000300", ["congling", "something", "else"]),
        ("checkpoints/step-00000800", ["congling", "train", "--out", "book", "--longer", "30m"]),
    ):
        (run / place).mkdir(parents=True)
        manifest = {"command": words, "parents": {"shards": place}}
        (run / place / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")
    lines = [line for line in how_to_reproduce(record.read(run)).splitlines() if "congling " in line]
    commands = [line.removeprefix("command      ") for line in lines if line.startswith("command")]
    assert commands == ["congling train book.txt --out book", "congling train --out book --longer 30m"]
    assert "endings" not in how_to_reproduce(record.read(run))
