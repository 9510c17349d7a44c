"""What an EPUB says of itself: where its package file is, and in which order its parts are read.

::

    mimetype                    application/epub+zip
    META-INF/container.xml      where the package file is
    OEBPS/content.opf           manifest: id → file;  spine: ids in the order of reading
    OEBPS/chapter1.xhtml …      pages

Such files come from anywhere. Sizes are bounded by what is unpacked, not by what headers promise; XML is
read without entities and without the network; a reference that leads out of the book leads nowhere.
"""

import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

from congling.core.errors import UserError
from congling.core.units import show_bytes

LARGEST_PAGE = 32 * 2**20
"""Bytes of a page; novels have less than one million in all."""
LARGEST_BOOK = 2**30
"""Bytes of all pages together."""
_LARGEST_XML = 8 * 2**20  # of container and package
_MOST_FILES = 50_000
_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_PAGES = ("application/xhtml+xml", "text/html", "application/xml", "text/x-oeb1-document")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//|/")


class Unreadable(Exception):
    """A part of a book that is not read, with the reason."""


@dataclass(frozen=True)
class Package:
    """A book's parts in the order of reading."""

    title: str
    parts: tuple[str, ...]
    """Names of pages in the archive, each once."""
    left_out: tuple[tuple[str, str], ...] = field(default=())
    """Parts of the order that are no text, and why: tables of contents, images, what leads outside."""


@contextmanager
def archive(path: Path, name: str) -> Iterator[zipfile.ZipFile]:
    """Open a book.

    Raises:
        UserError: it is no ZIP archive, or one of more files than any book.
    """
    try:
        with zipfile.ZipFile(path) as opened:
            if len(opened.infolist()) > _MOST_FILES:
                raise UserError("more files than any book has", where=name, value=len(opened.infolist()))
            yield opened
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        raise UserError(f"this book is damaged ({error})", where=name, hint="get the file again") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"this book cannot be read ({reason})", where=name) from None


def package_of(book: zipfile.ZipFile, name: str) -> Package:
    """Read what a book says of itself.

    Raises:
        UserError: it says nothing, its text is encrypted, or none of its parts is in it.
    """
    try:
        place = next((_text(node, "full-path") for node in _nodes(book, _CONTAINER, "rootfile")), "")
        if not place:
            raise Unreadable("it does not name its package file")
        tree = _parsed(book, place)
    except Unreadable as error:
        raise UserError(f"this is no EPUB that can be read: {error}", where=name) from None
    folder = posixpath.dirname(place)
    items = {_text(node, "id"): node for node in _named(tree, "item")}
    contents = {
        _inside(folder, _text(node, "href"))
        for node in _named(tree, "reference")
        if _text(node, "type").lower() in ("toc", "cover", "loi", "lot")
    }
    parts: list[str] = []
    left_out: list[tuple[str, str]] = []
    for node in _named(tree, "itemref"):
        item = items.get(_text(node, "idref"))
        href = "" if item is None else _text(item, "href")
        inside = _inside(folder, href)
        if reason := _why_not(book, node, item, inside, inside in contents):
            left_out.append((href or _text(node, "idref") or "?", reason))
        elif inside is not None and inside not in parts:
            parts.append(inside)
    if locked := _encrypted(book) & set(parts):
        raise UserError(
            "the text of this book is encrypted (DRM)",
            where=name,
            value=min(locked),
            hint="only books without protection can be read",
        )
    if not parts:
        raise UserError("this book holds no text: none of its parts is a page in it", where=name)
    title = next((node.text for node in _named(tree, "title") if node.text), "")
    return Package(" ".join(title.split())[:200], tuple(parts), tuple(left_out))


def content(book: zipfile.ZipFile, part: str, most: int) -> bytes:
    """The bytes of a file in a book, ``most`` at most.

    Raises:
        Unreadable: it is not there, larger, damaged, or encrypted.
    """
    try:
        with book.open(part) as stream:
            found = _bounded(stream, most)
    except KeyError:
        raise Unreadable("it is not in the archive") from None
    except RuntimeError:  # what zipfile says of a password
        raise Unreadable("it is encrypted") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
        raise Unreadable(f"it is damaged ({error})") from None
    if len(found) > most:
        raise Unreadable(f"it is larger than {show_bytes(most)}")
    return found


def _bounded(stream: IO[bytes], most: int) -> bytes:
    """All bytes, or one more than ``most``: never what a header says, which may be anything."""
    parts, left = [], most + 1
    while left > 0 and (part := stream.read(min(left, 2**20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _why_not(book: zipfile.ZipFile, node: Any, item: Any, inside: str | None, contents: bool) -> str:
    """Why an entry of the order is not read; nothing where it is."""
    if item is None:
        return "the manifest does not know it"
    if inside is None:
        return "it leads out of the book"
    if inside not in book.NameToInfo:
        return "it is not in the archive"
    if "nav" in _text(item, "properties").split() or contents:
        return "a table of contents or a cover"
    if _text(node, "linear").lower() == "no":
        return "beside the order of reading"
    kind = _text(item, "media-type").lower()
    return f"no page but {kind}" if kind and kind not in _PAGES else ""


def _inside(folder: str, href: str) -> str | None:
    """The name in the archive that a reference means; None where it leads outside."""
    href = unquote(href.partition("#")[0])
    if not href or _SCHEME.match(href):
        return None
    name = posixpath.normpath(posixpath.join(folder, href))
    return None if name.startswith("../") or name in ("..", ".") or "\0" in name else name


def _encrypted(book: zipfile.ZipFile) -> set[str]:
    """Names of files whose content is encrypted, obfuscated fonts among them."""
    if _ENCRYPTION not in book.NameToInfo:
        return set()
    try:
        nodes = _nodes(book, _ENCRYPTION, "CipherReference")
        return {unquote(_text(node, "URI")).lstrip("/") for node in nodes}
    except Unreadable:
        return set()


def _nodes(book: zipfile.ZipFile, part: str, name: str) -> list[Any]:
    return _named(_parsed(book, part), name)


def _parsed(book: zipfile.ZipFile, part: str) -> Any:
    """The tree of an XML file.

    Raises:
        Unreadable: it is missing, no XML, or declares entities.
    """
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

    data = content(book, part, _LARGEST_XML)
    if b"<!ENTITY" in data.replace(b"\0", b""):  # also in UTF-16
        raise Unreadable(f"{part} declares entities")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        recover=True,
    )
    try:
        tree = etree.fromstring(data, parser)
    except (etree.LxmlError, ValueError) as error:
        raise Unreadable(f"{part} is no XML ({str(error)[:80]})") from None
    if tree is None:
        raise Unreadable(f"{part} is no XML")
    return tree


def _named(tree: Any, name: str) -> list[Any]:
    """Elements of this name, whatever their namespace."""
    return [node for node in tree.iter("{*}" + name)]


def _text(node: Any, key: str) -> str:
    """An attribute, empty where there is none."""
    return str(node.get(key) or "").strip()
