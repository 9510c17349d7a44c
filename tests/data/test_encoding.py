from pathlib import Path

import pytest

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.document import Document
from congling.data.encoding import detect, from_outside, named
from congling.data.problems import ReadingLog
from congling.data.sources.reading import read

HANS = "原来女娲氏炼石补天之时，于大荒山无稽崖炼成高经十二丈、方经二十四丈顽石三万六千五百零一块。这是真的吗？我们都不知道。"  # noqa: E501
HANT = "原來女媧氏煉石補天之時，於大荒山無稽崖煉成高經十二丈、方經二十四丈頑石三萬六千五百零一塊。這是真的嗎？我們都不知道。"  # noqa: E501


@pytest.mark.parametrize(
    "text,codec",
    [(HANS, "gb18030"), (HANT, "gb18030"), (HANT, "big5hkscs"), (HANS, "utf-8"), (HANT, "utf-8")],
)
def test_a_sentence_is_enough(text: str, codec: str) -> None:
    assert detect(text.encode(codec), where="x").codec == codec


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_told_by_its_line_feeds(codec: str) -> None:
    assert detect("\n".join([HANS] * 5).encode(codec), where="x").codec == codec


def test_plain_western_text_is_read() -> None:
    assert "é" in "A café and a naïve résumé, and plain English words otherwise.".encode("cp1252").decode(
        detect(
            "A café and a naïve résumé, and plain English words otherwise.".encode("cp1252"), where="x"
        ).codec
    )


def test_binary_data_is_refused() -> None:
    with pytest.raises(UserError, match="not text"):
        detect(bytes(range(256)) * 20, where="x")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UserError, match="no such text encoding"):
        named("klingon")
    with pytest.raises(UserError, match="no such text encoding"):
        named("base64")


def texts(path: Path) -> list[Document]:
    return list(read([path], DataConfig(sources=(str(path),), documents="line"), ReadingLog()))


def test_one_text_in_every_encoding_is_one_text(corpora: Path) -> None:
    folder = corpora / "encodings"
    hans = [document.text for document in texts(folder / "hans.utf8.txt")]
    for name in ("utf8-bom-crlf", "utf16le-bom", "utf16be-bom", "gb18030"):
        assert [document.text for document in texts(folder / f"hans.{name}.txt")] == hans, name
    hant = [document.text for document in texts(folder / "hant.utf8.txt")]
    assert [document.text for document in texts(folder / "hant.big5hkscs.txt")] == hant


def test_a_cut_tail_costs_one_character_and_is_named(corpora: Path) -> None:
    findings = ReadingLog()
    path = corpora / "encodings" / "hans.truncated-utf8.txt"
    found = list(read([path], DataConfig(sources=(str(path),), documents="line"), findings))
    whole = texts(corpora / "encodings" / "hans.utf8.txt")
    assert findings.counts == {"invalid bytes": 1}
    assert findings.examples[0].line == 12
    assert found[-1].text.rstrip("\ufffd") == whole[-1].text[: len(found[-1].text.rstrip("\ufffd"))]


@pytest.mark.parametrize(
    "text",
    ["你好", "你好，请问天气怎么样？", "却说宝玉", "從前有一個人", "的", "plain ASCII", "😀云对雨"],
)
@pytest.mark.parametrize("codec", ["gbk", "gb18030", "utf-8"])
def test_text_of_a_terminal_is_read_whatever_its_encoding(text: str, codec: str) -> None:
    raw = text.encode(codec, "ignore")
    assert from_outside(raw.decode("utf-8", "surrogateescape")) == raw.decode(codec)


def test_text_of_a_big5_terminal_is_read() -> None:
    text = "你好，請問今天的天氣怎麼樣？"
    assert from_outside(text.encode("big5").decode("utf-8", "surrogateescape")) == text


def test_nothing_from_outside_keeps_half_a_character() -> None:
    for text in ("\ud83d", "云\ud83d\ude00", "\ud83d\udcc4\udce3", "\udcff\udcff", ""):
        assert from_outside(text).encode().decode() == from_outside(text)
