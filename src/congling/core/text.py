"""Text that can be written: no half characters, wherever it came from.

A string may hold halves of surrogate pairs: JSON writes them (``"\\ud83d"``), and Python keeps bytes of
arguments and file names that its locale does not know as such (PEP 383). No file in UTF-8 can hold them.
"""

from pathlib import Path


def valid(text: str) -> str:
    """The text with pairs of halves joined, and U+FFFD for a half alone.

    >>> valid("\\ud83d\\ude00 \\ud83d")
    '😀 �'
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


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
