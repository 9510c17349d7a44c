"""Pages (HTML, XHTML) as the text a reader sees, paragraph by paragraph; lxml reads the marks.

::

    <h1>第一回</h1><p>却说<ruby>甄<rt>zhēn</rt></ruby>士隐</p><script>…</script>
      →  第一回 ⏎ 却说甄士隐            left out: 1 × script, 1 × rt

A page is one document, or one for each chapter where it holds several; with ``documents=paragraph`` one for
each paragraph. Nothing that a page refers to is looked at. Memory stays bounded: events are read, no tree.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from congling.core.errors import UserError
from congling.data import segmenter
from congling.data.config import DataConfig
from congling.data.document import Document
from congling.data.encoding import Encoding
from congling.data.problems import FileNote, Place, ReadingLog
from congling.data.segmenter import Choice
from congling.data.sources import stream
from congling.data.sources.page_encoding import of_page

UNREAD = frozenset((
    "script", "style", "noscript", "template", "iframe", "object", "embed", "applet", "svg", "math", "canvas",
    "audio", "video", "map", "button", "select", "datalist", "textarea", "dialog", "menu", "nav", "footer",
    "aside", "link", "meta", "base",
))  # fmt: skip
"""Elements whose content is no text of the page: programs, forms, what stands around it."""
_SILENT = frozenset(("link", "meta", "base"))
"""Of these, those that never hold text, so that nobody misses them."""
_READINGS = frozenset(("rt", "rp", "rtc"))
_BLOCKS = frozenset((
    "address", "article", "blockquote", "body", "br", "caption", "center", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hr",
    "html", "legend", "li", "main", "ol", "option", "p", "pre", "section", "summary", "table", "tbody",
    "tfoot", "thead", "title", "tr", "ul", "xmp",
))  # fmt: skip
"""Elements that begin a line and end one."""
_CELLS = frozenset(("td", "th"))
_KEPT = frozenset(("pre", "xmp"))
_HEADINGS = frozenset(("h1", "h2", "h3"))
_SPACES = re.compile(r"[ \t\r\n\f\xa0]+")
_WIDE = r"[\u2e80-\u2fff\u3001-\ua4cf\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef]"
_BROKEN = re.compile(rf"(?<={_WIDE})[ \t\f]*[\r\n][ \t\r\n\f]*(?={_WIDE})")
"""Line feeds between Chinese characters, which are none of the text."""
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
_SELF_CLOSED = re.compile(
    r"<(script|style|title|iframe|textarea|noscript|template|object)\b([^<>]*?)/>", re.I
)
"""As XHTML writes them: read as HTML they would swallow all that follows."""
_BEGINS = re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--[^>]*-->\s*)*<(!doctype\s+html|html)\b", re.I)
_LONGEST = 1 << 20  # characters of a paragraph; what is longer is cut


def read(path: Path, note: FileNote, config: DataConfig, findings: ReadingLog) -> Iterator[Document]:
    """Yield the documents of a page.

    Raises:
        UserError: lxml is not installed, or the file is no text.
    """
    require_lxml(note.file, "HTML")
    found = _encoding(path, note.file, config)
    note.encoding, note.encoding_why = found.codec, found.why
    page = Page(config)
    seen = segmenter.survey(enumerate(_lines(path, note.file, found, Page(config), ReadingLog()), 1))
    if not seen.characters:
        findings.problem("empty file", note.file, None, "no text in this page")
        return
    choice = choose(seen, config)
    note.choice, note.why = named(choice, config), choice.why
    lines = enumerate(_lines(path, note.file, found, page, findings), 1)
    for part in segmenter.segments(lines, choice, config):
        place = Place(note.file, part.line)
        findings.foreign_tokens.look(part.text, str(place))
        title = part.title or page.heading or page.title
        yield Document(part.text, str(place), {"title": title} if title else {}, place)
    if page.left_out:
        note.why += f"; left out: {counted(page.left_out)}"


def is_page(head: bytes) -> bool:
    """Whether the first bytes of a file begin a page, whatever it is called."""
    return _BEGINS.match(head.removeprefix(codecs.BOM_UTF8)) is not None


def require_lxml(file: str, kind: str) -> None:
    """Check that pages can be read.

    Raises:
        UserError: the extra is not installed.
    """
    try:
        import lxml.etree  # noqa: F401  only whether it is there
    except ImportError:
        hint = 'install it: pip install "congling[web]"'
        raise UserError(f"reading {kind} needs lxml", where=file, hint=hint) from None


def choose(seen: segmenter.Survey, config: DataConfig) -> Choice:
    """What a document is in a page: the page, its chapters, or what is configured."""
    if config.documents == "paragraph":
        return Choice("line", "as configured: each paragraph")
    choice = segmenter.choose(seen, config)
    if config.documents == "auto" and choice.kind not in ("chapter", "separator"):
        return Choice("file", "a page is one document")
    return choice


def named(choice: Choice, config: DataConfig) -> str:
    """What a document is, as it is told: of a page that is one, a page."""
    return "page" if choice.kind == "file" and config.documents == "auto" else choice.kind


def counted(left_out: Mapping[str, int]) -> str:
    """What was left out, the most frequent first."""
    ranked = sorted(left_out.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count:,} × {name}" for name, count in ranked)


def _encoding(path: Path, name: str, config: DataConfig) -> Encoding:
    if config.encoding is not None:
        return stream.encoding_of(path, name, config.encoding)
    with stream.opened(path) as opened:
        beginning = next(stream.chunks(opened, name, ReadingLog()), b"")
    return of_page(beginning, stream.head_of(path, name), name)


def _lines(path: Path, name: str, found: Encoding, page: "Page", findings: ReadingLog) -> Iterator[str]:
    """The paragraphs of a file."""
    decoder, spoilt, skipped = codecs.getincrementaldecoder(found.codec)("replace"), 0, found.mark

    def texts() -> Iterator[str]:
        nonlocal spoilt, skipped
        with stream.opened(path) as opened:
            for chunk in stream.chunks(opened, name, findings):
                text = decoder.decode(chunk[skipped:])
                skipped, spoilt = 0, spoilt + text.count("\ufffd")
                yield text
        yield decoder.decode(b"", final=True)

    yield from page.lines(texts())
    if spoilt:
        reason = f"{spoilt} places are not {found.codec}; replaced by U+FFFD"
        findings.problem("invalid bytes", name, None, reason)


class Page:
    """Reads one page; afterwards says what it is called and what was left out of it.

    Attributes:
        title: of the page, as its head says.
        heading: the first one in it.
        left_out: elements that were not read, by name.
    """

    def __init__(self, config: DataConfig) -> None:
        self.title = self.heading = ""
        self.left_out = Counter[str]()
        self._unread = UNREAD | (_READINGS if config.ruby == "remove" else frozenset())
        self._open: list[str] = []
        """Elements within one that is not read, that one first."""
        self._kept = 0
        """How many open elements keep their line feeds."""
        self._in: str = ""
        """The title or heading that is open."""
        self._parts: list[str] = []
        self._size = 0
        self._lines: list[str] = []

    def lines(self, texts: Iterable[str]) -> Iterator[str]:
        """Paragraphs of a page that comes in parts, none of them empty.

        Raises:
            UserError: it cannot be read as HTML at all.
        """
        from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

        parser = etree.HTMLParser(target=self, encoding="utf-8", huge_tree=True)
        fed = False
        try:
            for text in _whole_marks(texts):
                parser.feed(text.encode("utf-8", "replace"))
                fed = fed or bool(text)
                yield from self._taken()
            if fed:
                parser.close()
        except etree.LxmlError as error:
            if not fed:
                raise UserError("this is no page", value=str(error)) from None
        self._end_line()
        yield from self._taken()

    def start(self, tag: str, attributes: Mapping[str, Any]) -> None:
        """An element begins."""
        tag = tag.rpartition(":")[2].lower()
        if self._open:
            self._open.append(tag)
            return
        style = attributes.get("style") or ""
        hidden = "hidden" in attributes or _HIDDEN.search(style) is not None
        if (hidden and tag not in ("html", "body")) or tag in self._unread:
            self._open.append(tag)
            if tag not in _SILENT:
                self.left_out["hidden" if hidden else tag] += 1
            return
        if tag == "img":
            self.left_out["img"] += 1
        if tag in _BLOCKS:
            self._end_line()
        elif tag in _CELLS and self._size:
            self._add("\t" if self._kept else " ")
        self._kept += tag in _KEPT
        if tag == "title" or tag in _HEADINGS:
            self._in = tag

    def end(self, tag: str) -> None:
        """An element ends."""
        tag = tag.rpartition(":")[2].lower()
        if self._open:
            self._open.pop()
            return
        if tag in _BLOCKS:
            self._end_line()
        if tag == self._in:
            self._in = ""
        self._kept -= self._kept > 0 and tag in _KEPT

    def data(self, text: str) -> None:
        """Characters between marks."""
        if not self._open:
            self._add(text)

    def comment(self, text: str) -> None:
        """A comment, or an instruction to some program: none of the text."""

    def close(self) -> None:
        """The page is over."""

    def _add(self, text: str) -> None:
        self._parts.append(text)
        self._size += len(text)
        if self._size > _LONGEST and self._in != "title":
            self._end_line()

    def _end_line(self) -> None:
        text, self._parts, self._size = "".join(self._parts), [], 0
        if self._kept:
            lines = [line.rstrip("\r\xa0 \t") for line in text.strip("\n").split("\n")]
        else:
            lines = [_SPACES.sub(" ", _BROKEN.sub("", text)).strip(" \u3000")]
        lines = [line for line in lines if line.strip()]
        if self._in == "title":
            self.title = self.title or "".join(lines)[:200]
            return
        if self._in and lines:
            self.heading = self.heading or lines[0][:200]
        self._lines += lines

    def _taken(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines


def _whole_marks(texts: Iterable[str]) -> Iterator[str]:
    """The same text cut before marks alone, with those closed at once written as HTML has them."""
    held = ""
    for text in texts:
        held += text
        at = held.rfind("<")
        if at > 0 or len(held) > _LONGEST:
            end = at if at > 0 and len(held) - at <= _LONGEST else len(held)
            yield _SELF_CLOSED.sub(r"<\1\2></\1>", held[:end])
            held = held[end:]
    yield _SELF_CLOSED.sub(r"<\1\2></\1>", held)
