import pytest

from congling.core.addresses import refuse_address
from congling.core.errors import UserError


@pytest.mark.parametrize("name", [
    "https://www.gutenberg.org/cache/epub/24264/pg24264.txt", "http:/ctext.org/book?x=1", "ftp://a/b.zip",
    "s3://bucket/rows.jsonl", "hf://datasets/x", "HTTPS://A.B/c",
])  # fmt: skip
def test_an_address_is_no_file(name: str) -> None:
    with pytest.raises(UserError, match="congling does not download") as raised:
        refuse_address(name)
    assert "://" in str(raised.value).replace("'", "") and "get the file first" in str(raised.value)


def test_an_address_of_a_file_is_a_path() -> None:
    with pytest.raises(UserError, match="name the file: /home/me/book.txt"):
        refuse_address("file:///home/me/book.txt")


@pytest.mark.parametrize(
    "name", ["book.txt", "/a/b", "C:/book.txt", "C:\\book.txt", "smallworld", "a:b", "key=https://x", ""]
)
def test_paths_are_none(name: str) -> None:
    assert refuse_address(name) is None


def test_a_file_that_is_called_so_is_one(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "https:").mkdir()
    (tmp_path / "https:" / "a.txt").write_text("x")
    assert refuse_address("https:/a.txt") is None
