# ruff: noqa: E501 - a table
"""Nothing that a terminal would obey reaches it from outside, whichever way it is printed."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

import congling
from congling.core import terminal
from congling.core.console import Console
from congling.core.document import print_document
from congling.core.errors import UserError
from congling.core.text import one_line, printable, readable

ORDERS = {
    "escape": "\x1b[2J", "title": "\x1b]0;gone\x07", "clipboard": "\x1b]52;c;aGk=\x1b\\", "csi of one byte": "\x9b31m",
    "device control": "\x90q\x9c", "bell": "\x07", "back": "abc\b\b\b", "return": "safe\rgone", "delete": "\x7f",
    "vertical tab": "\x0b", "form feed": "\x0c", "zero": "\0", "override": "\u202egpj.exe", "isolate": "\u2066a\u2069",
    "mark": "\u200f", "line separator": "\u2028", "next line": "\x85", "half": "\ud83d", "arabic mark": "\u061c",
}  # fmt: skip
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize("order", ORDERS)
def test_orders_are_spelt_out(order: str) -> None:
    found = printable(f"云{ORDERS[order]}雨")
    assert not _OBEYED.search(found)
    assert found.startswith("云") and found.endswith("雨") and "\\" in found


def test_ordinary_text_stays_as_it_is() -> None:
    text = "云对雨\n\t“雪对风” 👩‍👩‍👧 café é\u3000｡ <|im_end|> [red] \\x1b"
    assert printable(text) is text
    assert one_line("a\nb\tc") == "a\\nb\\tc"
    assert printable("a\r\nb") == "a\nb"


@pytest.mark.parametrize("codec", ["gbk", "gb18030"])
def test_bytes_of_names_are_read(codec: str) -> None:
    for text in ("语料/红楼梦 第1回.txt", "云对雨.txt", "云对雨，雪对风"):
        name = text.encode(codec).decode("utf-8", "surrogateescape")
        assert readable(name) == printable(name) == text
        assert readable(f"目录：目录/{name} (目录)") == f"目录：目录/{text} (目录)"


def test_halves_that_are_no_bytes_are_joined_or_spelt_out() -> None:
    assert printable("\ud83d\ude00") == "😀"
    assert printable("\ud83d|\udcff") == "\\ud83d|\\udcff"


@pytest.mark.parametrize("order", ORDERS)
def test_documents_hold_the_same_and_give_no_orders(order: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_document({"text": f"云{ORDERS[order]}"})
    said = capsys.readouterr().out
    assert not _OBEYED.search(said) and json.loads(said) == {"text": f"云{ORDERS[order]}"}


@pytest.mark.parametrize("order", ORDERS)
def test_errors_quote_safely(order: str) -> None:
    bad = f"x{ORDERS[order]}y"
    error = UserError(f"what {bad}", where=f"/tmp/{bad}\n", value=bad, hint=f"hint {bad}")
    assert not _OBEYED.search(str(error))
    assert not _OBEYED.search(str(UserError("w", value=[bad, {bad: 1}])))
    assert len(str(error).splitlines()) == 2


def test_errors_show_values_that_cannot_be_shown() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for value in (1 << 99_999, nested, {"a": 1 << 99_999}):
        assert str(UserError("no", value=value)).startswith("no: ")


@pytest.mark.parametrize("order", ORDERS)
def test_a_console_keeps_its_colours_and_nothing_else(order: str) -> None:
    console = Console(file=(written := io.StringIO()), force_terminal=True, width=60, color_system="standard")
    bad = f"a{ORDERS[order]}b"
    table = Table("name", title=Text(bad))
    table.add_row(Text(bad))
    for shown in (table, Text(bad, "red"), bad):
        console.print(shown, markup=False)
    console.print(bad, markup=False, highlight=False, soft_wrap=True)
    rest = re.sub(r"\x1b\[[0-9;]*m", "", written.getvalue())
    assert "\x1b[31m" in written.getvalue() and not _OBEYED.search(rest)


def test_only_one_file_knows_of_rich_s_console() -> None:
    source = Path(congling.__file__).parent
    found = [
        file.relative_to(source).as_posix()
        for file in source.rglob("*.py")
        if re.search(r"from rich\.console import .*\bConsole\b", file.read_text("utf-8"))
    ]
    assert found == ["core/console.py"]


def test_plain_lines_are_safe(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.put("a\x1b[2Jb", end="")
    terminal.say("c\x07")
    assert capsys.readouterr() == ("a\\x1b[2Jb", "c\\x07\n")
