"""The same text under another path is the same text; another text under the same path is not."""

import os

import pytest

from congling.data.sources.contents import contents, same_sources


@pytest.fixture
def book(tmp_path):
    file = tmp_path / "book.txt"
    file.write_text("云对雨，雪对风。\n", encoding="utf-8")
    return file


def test_a_copy_under_another_name_is_the_same(book, tmp_path, monkeypatch):
    copy = tmp_path / "elsewhere" / "again.txt"
    copy.parent.mkdir()
    copy.write_bytes(book.read_bytes())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.txt").symlink_to(book)
    fingerprint = contents([str(book)])
    for other in (str(copy), "book.txt", "./elsewhere/../book.txt", "link.txt"):
        assert contents([other]) == fingerprint
        assert same_sources([str(book)], fingerprint, [other]) is True
        assert same_sources([str(book)], None, [other]) is True  # of documents made before it was kept


def test_another_text_another_order_and_another_kind_are_not(book, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("别的\n", encoding="utf-8")
    rows = tmp_path / "book.jsonl"
    rows.write_bytes(book.read_bytes())
    fingerprint = contents([str(book), str(other)])
    assert contents([str(other), str(book)]) != fingerprint
    assert contents([str(rows)]) != contents([str(book)])
    assert same_sources([str(book)], contents([str(book)]), [str(other)]) is False
    before = contents([str(book)])
    book.write_text("改过的\n", encoding="utf-8")
    assert same_sources([str(book)], before, [str(book)]) is False


def test_a_folder_is_the_files_that_are_read_from_it(book, tmp_path):
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.txt").write_bytes(book.read_bytes())
        (folder / ".hidden.txt").write_text(name)
        (folder / "picture.png").write_text(name)
    assert contents([str(tmp_path / "one")]) == contents([str(tmp_path / "two")]) == contents([str(book)])


def test_what_cannot_be_read_again_is_compared_by_its_name(book, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert contents([str(pipe)]) is None
    assert contents([str(tmp_path / "absent.txt")]) is None
    gone = [str(tmp_path / "absent.txt")]
    assert same_sources(gone, "0" * 64, gone) is True  # the documents are there; the text is not needed
    assert same_sources([str(book)], contents([str(book)]), gone) is None


def test_the_small_world_is_itself():
    assert contents(["smallworld"]) == contents(["smallworld"]) != contents(["smallworld", "smallworld"])
