"""Books (EPUB): their pages in the order of reading, each a document, through the same eyes as HTML.

::

    spine ─ page ─ paragraphs ─┬─ a document for each page, or for each chapter where a page holds several
                               └─ with documents=file, line, paragraph or pieces: of the whole book

A page too short to stand alone (a cover, the title of a part) stays with what follows.
"""

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from congling.core.errors import UserError
from congling.core.units import plural
from congling.data import encoding, segmenter
from congling.data.config import DataConfig
from congling.data.document import Document
from congling.data.problems import FileNote, Place, ReadingLog
from congling.data.sources import markup
from congling.data.sources.markup import Page
from congling.data.sources.package import (
    LARGEST_BOOK,
    LARGEST_PAGE,
    Package,
    Unreadable,
    archive,
    content,
    package_of,
)
from congling.data.sources.page_encoding import of_page

_SHORTEST = 60  # characters of a page that is a document
_OF_THE_BOOK = ("file", "line", "paragraph", "pieces")
"""Choices of ``documents`` for which pages are no borders."""


def read(path: Path, note: FileNote, config: DataConfig, findings: ReadingLog) -> Iterator[Document]:
    """Yield the documents of a book; the line of a document is its paragraph, counted through the book.

    Raises:
        UserError: lxml is not installed, or the file is no book, is damaged or encrypted.
    """
    markup.require_lxml(note.file, "EPUB")
    with archive(path, note.file) as book:
        package = package_of(book, note.file)
        left_out = Counter(reason for _, reason in package.left_out)
        for part, reason in package.left_out:
            findings.problem("part of a book", note.file, None, f"{part}: {reason}; left out")
        note.encoding, note.encoding_why = "", "each page its own"
        pages = _pages(book, package, note, config, findings, left_out)
        parts = [_chained(pages)] if config.documents in _OF_THE_BOOK or config.separator else _joined(pages)
        number, choices = 0, Counter[str]()
        for lines, heading in parts:
            if not lines:
                continue
            choice = markup.choose(segmenter.survey(enumerate(lines, number + 1)), config)
            choices[markup.named(choice, config)] += 1
            for part in segmenter.segments(enumerate(lines, number + 1), choice, config):
                place = Place(note.file, part.line)
                findings.foreign_tokens.look(part.text, str(place))
                found = {"title": part.title or heading, "source": package.title}
                yield Document(part.text, str(place), {k: v for k, v in found.items() if v}, place)
            number += len(lines)
        if not number:
            findings.problem("empty file", note.file, None, "no text in this book")
        note.choice = next((kind for kind, _ in choices.most_common(1)), "")
        count = len(package.parts)
        note.why = f"{count} {plural(count, 'page')} in the order of reading"
        if left_out:
            note.why += f"; left out: {markup.counted(left_out)}"


def is_book(head: bytes) -> bool:
    """Whether the first bytes of a file begin a book, whatever it is called."""
    return head.startswith(b"PK\x03\x04") and head[30:58] == b"mimetypeapplication/epub+zip"


def _pages(
    book: zipfile.ZipFile,
    package: Package,
    note: FileNote,
    config: DataConfig,
    findings: ReadingLog,
    left_out: Counter[str],
) -> Iterator[tuple[list[str], str]]:
    """The paragraphs of every page, and its heading; what cannot be read is named."""
    room = LARGEST_BOOK
    for part in package.parts:
        try:
            data = content(book, part, min(LARGEST_PAGE, room))
            room -= len(data)
            page = Page(config)
            lines = list(page.lines(_decoded(data, part, note.file, config, findings)))
        except (Unreadable, UserError) as error:
            reason = str(error) if isinstance(error, Unreadable) else error.what
            findings.problem("part of a book", note.file, None, f"{part}: {reason}; left out")
            left_out["page that cannot be read"] += 1
            continue
        left_out.update(page.left_out)
        yield lines, page.heading


def _decoded(data: bytes, part: str, file: str, config: DataConfig, findings: ReadingLog) -> Sequence[str]:
    """The text of a page; what are no characters of its encoding is named.

    Raises:
        UserError: the bytes are no text.
    """
    if config.encoding is not None:
        found = encoding.named(config.encoding)
    else:
        found = of_page(data, data[: encoding.SAMPLE], f"{file}, {part}")
    text = data[found.mark :].decode(found.codec, "replace")
    if spoilt := text.count("\ufffd"):
        reason = f"{part}: {spoilt} places are not {found.codec}; replaced by U+FFFD"
        findings.problem("invalid bytes", file, None, reason)
    return [text]


def _joined(pages: Iterator[tuple[list[str], str]]) -> Iterator[tuple[list[str], str]]:
    """Pages with those before them that are too short to stand alone."""
    before: list[str] = []
    for lines, heading in pages:
        before += lines
        if sum(map(len, before)) >= _SHORTEST:
            yield before, heading
            before = []
    if before:
        yield before, ""


def _chained(pages: Iterator[tuple[list[str], str]]) -> tuple[list[str], str]:
    return [line for lines, _ in pages for line in lines], ""
