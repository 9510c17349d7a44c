"""Text that can be written and shown: no half characters, and nothing that a terminal would obey.

A string may hold halves of surrogate pairs: JSON writes them (``"\\ud83d"``), and Python keeps bytes of
arguments and file names that its locale does not know as such (PEP 383). No file in UTF-8 can hold them.
"""

import codecs
import re
from pathlib import Path

_HALF = re.compile("[\ud800-\udfff]")
_WORD = re.compile(r"""[^\s/'"():,]+""")
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb]"
)
"""Control characters but tab and line feed, those that turn the direction of writing, and lone halves."""


def valid(text: str) -> str:
    """The text with pairs of halves joined, and U+FFFD for a half alone.

    >>> valid("\\ud83d\\ude00 \\ud83d")
    '😀 �'
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def readable(text: str) -> str:
    """The text with the bytes in it read (PEP 383) as GB18030, which Windows in China writes, or as Big5.

    >>> readable(b"\\xc4\\xe3\\xba\\xc3.txt".decode("utf-8", "surrogateescape"))
    '你好.txt'
    """
    if not _HALF.search(text):
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return _WORD.sub(lambda found: _read(found[0]), joined)


def _read(text: str) -> str:
    """A part of a name, in which bytes may stand that happened to be none of UTF-8, among those that were."""
    if _HALF.search(text):
        for codec in ("utf-8", "gb18030", "big5hkscs"):  # the first where the locale is C
            try:
                return text.encode("utf-8", "surrogateescape").decode(codec)
            except UnicodeError:
                continue
    return text


def printable(text: str) -> str:
    """The text as a terminal may be given it: what it would obey is spelt out, line feeds and tabs stay.

    Names of files, tokens, rows and messages come from strangers; with an escape character in them they could
    rename the window, hide lines, or write into the clipboard. Everything foreign goes through here first.

    >>> printable("a\\x1b[2Jb\\r\\u202e")
    'a\\\\x1b[2Jb\\\\r\\\\u202e'
    """
    if not _OBEYED.search(text):
        return text
    text = readable(text).replace("\r\n", "\n")
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def printable_json(text: str) -> str:
    """JSON as a terminal may be given it: the same values, with what it would obey as escapes.

    >>> printable_json('{"a": "\\x9b31m"}')
    '{"a": "\\\\u009b31m"}'
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """The same on a single line, as for a name."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def decoded(data: bytes) -> str:
    """The text of a small file that a person wrote: UTF-8, UTF-16 or UTF-32 by its mark, else GB18030.

    Raises:
        UnicodeDecodeError: it is none of these.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(codec)
    if b"\0" in data[:4]:  # UTF-16 without its mark: the first characters are Latin
        return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        try:
            return data.decode("gb18030")
        except UnicodeDecodeError:
            raise error from None


_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def encoded(text: str, name: Path | str = "") -> bytes:
    """UTF-8 of what is written to a file of this name.

    JSON keeps halves, as escapes, so that a file name comes back as it was; other files hold U+FFFD for them.
    """
    if Path(name).suffix in (".json", ".jsonl"):
        return text.encode("utf-8", "backslashreplace")
    return valid(text).encode()


def write_text(file: Path, text: str) -> None:
    """Write a new text file; ``artifact.write_text`` replaces one that others may be reading."""
    file.write_bytes(encoded(text, file))
