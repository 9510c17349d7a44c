"""Plain text to documents: look once at the whole file, choose what a document is, then cut in a second pass.

Both passes stream; the second holds one document at a time, and none grows beyond ``longest`` characters.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from congling.data.config import DataConfig

_NUMBER = r"[〇零一二三四五六七八九十百千两廿卅\d０-９]"
_TITLE = r"(?:[\s　:：.、·].{0,40}|[^。！？；，,“”]{0,30})"
_HEADINGS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("第…回/章", re.compile(rf"(?:正文)?[\s　]*第[\s　]*{_NUMBER}[{_NUMBER[1:-1]}\s　]{{0,8}}[回章]{_TITLE}")),
    ("第…节/卷/部", re.compile(rf"第[\s　]*{_NUMBER}[{_NUMBER[1:-1]}\s　]{{0,8}}[节節卷部篇集幕折出]{_TITLE}")),
    ("Chapter/Act N", re.compile(r"(?i:chapter|act|scene|book|part|canto|letter|volume)\s+(?:[IVXLCDMivxlcdm]+|\d+|[A-Z][a-z]+)\b.{0,60}")),
    ("title (N)", re.compile(rf"[^。！？；，“”]{{1,20}}[（(]{_NUMBER}{{1,4}}[）)]")),
    ("numbered headings", re.compile(rf"(?:{_NUMBER}{{1,4}}[\s　、．.]+[^\s。！？；，：“”]{{1,12}}|[IVXLC]{{1,8}}\.?)")),
    ("Markdown headings", re.compile(r"#{1,2}\s+\S.{0,80}")),
)
_UNNUMBERED = re.compile(r"(?:楔子|序|序章|序言|序幕|引子|引言|尾声|尾聲|后记|後記|前言|附录|附錄|跋|prologue|epilogue|preface)(?:[\s　:：].{0,40})?", re.I)
_BORDERS = re.compile(r"[\n\r]+|[。！？!?…；;]+[”’」』）)\"']*|(?<=[a-z])\.\s")
_LONGEST_HEADING = 80
_SHORTEST_CHAPTER = 60  # average characters; below, the "headings" are a list, not a structure


@dataclass(slots=True)
class Survey:
    """What one pass over a text file shows. Histograms are capped, so that its size is bounded."""

    characters: int = 0
    lines: int = 0
    blank: int = 0
    headings: Counter[str] = field(default_factory=Counter)
    before: dict[str, int] = field(default_factory=dict)
    """Characters before the first heading of each sort."""
    line_lengths: Counter[int] = field(default_factory=Counter)
    block_lines: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a document is in one file, and why."""

    kind: str
    why: str
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """A document to be: its first line, its heading if it has one, its text."""

    line: int
    title: str
    text: str


def survey(lines: Iterable[tuple[int, str]]) -> Survey:
    """Look at every ``(number, text)`` line once."""
    seen, block = Survey(), 0
    for _, raw in lines:
        line = raw.strip()
        seen.characters += len(line)
        if not line:
            seen.blank += 1
            if block:
                seen.block_lines[min(block, 100)] += 1
            block = 0
            continue
        block += 1
        seen.lines += 1
        seen.line_lengths[min(len(line), 2000)] += 1
        sort = _heading(line)
        if sort:
            seen.headings[sort] += 1
            seen.before.setdefault(sort, seen.characters)
    if block:
        seen.block_lines[min(block, 100)] += 1
    return seen


def choose(seen: Survey, config: DataConfig) -> Choice:
    """Decide what a document is: as configured, else chapters, long lines, blocks, the file, or pieces."""
    heading = _structure(seen)
    if config.documents != "auto":
        return Choice(config.documents, "as configured", heading or "")
    if heading:
        return Choice("chapter", f"{seen.headings[heading]} headings of the sort {heading!r}", heading)
    median = _median(seen.line_lengths)
    if seen.lines > 1 and seen.blank * 20 <= seen.lines and median >= 200:
        return Choice("line", f"lines are long (median {median} characters) and not set apart by blank lines")
    block = _median(seen.block_lines)
    if seen.block_lines.total() > 1 and block >= 5:
        return Choice("paragraph", f"blocks of about {block} lines, set apart by blank lines")
    if seen.characters <= config.piece:
        return Choice("file", f"no visible structure, and only {seen.characters} characters")
    return Choice("pieces", f"no headings or blocks found; cut at paragraph borders near {config.piece} characters")


def _structure(seen: Survey) -> str | None:
    """The sort of heading that divides most of the text into parts of some length, or ``None``."""
    for sort, _ in _HEADINGS:
        count = seen.headings[sort]
        inside = seen.characters - seen.before.get(sort, seen.characters)
        if count >= 2 and inside >= seen.characters / 2 and inside / count >= _SHORTEST_CHAPTER and count * 3 <= seen.lines:
            return sort
    return None


def segments(lines: Iterable[tuple[int, str]], choice: Choice, config: DataConfig) -> Iterator[Segment]:
    """Cut ``(number, text)`` lines into documents of at most about ``config.longest`` characters."""
    if choice.kind == "line":
        for number, line in lines:
            yield Segment(number, "", line)
        return
    buffer, title, shortest = _Buffer(), "", _SHORTEST_CHAPTER
    for number, line in lines:
        heading = line.strip() if choice.kind == "chapter" and _starts_chapter(line, choice.heading) else ""
        # A title page, or an entry of a table of contents, is no document: it stays with what follows.
        if (heading and buffer.size - len(title) > shortest) or _full(buffer, line, choice.kind, config):
            yield buffer.take(title)
            title = ""
        title = heading or title
        buffer.add(number, line)
    if buffer.size:
        yield buffer.take(title)


class _Buffer:
    """Lines of the document being gathered."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.first, self.size = 0, 0

    def add(self, number: int, line: str) -> None:
        if line.strip() and not self.size:
            self.first = number
        if line.strip() or self.size:
            self.lines.append(line)
            self.size += len(line.strip())

    def take(self, title: str) -> Segment:
        segment = Segment(self.first, title, "\n".join(self.lines).strip("\n"))
        self.lines, self.size = [], 0
        return segment


def _full(buffer: _Buffer, line: str, kind: str, config: DataConfig) -> bool:
    """Whether the document ends before ``line``."""
    blank = not line.strip()
    if not buffer.size:
        return False
    if kind == "paragraph" and blank:
        return True
    if kind == "pieces":
        return buffer.size >= config.piece * (0.75 if blank else 1.25) or buffer.size + len(line) > 2 * config.piece
    return buffer.size + len(line) > config.longest


def _heading(line: str) -> str:
    if len(line) <= _LONGEST_HEADING:
        for sort, pattern in _HEADINGS:
            if pattern.fullmatch(line):
                return sort
    return ""


def _starts_chapter(line: str, sort: str) -> bool:
    line = line.strip()
    return len(line) <= _LONGEST_HEADING and bool(line) and (_heading(line) == sort or _UNNUMBERED.fullmatch(line) is not None)


def cut(text: str, longest: int) -> Iterator[str]:
    """Cut a text into pieces of at most ``longest`` characters, at the last line or sentence end that fits.

    >>> list(cut("云对雨。雪对风。晚照对晴空。", 9))
    ['云对雨。雪对风。', '晚照对晴空。']
    """
    start = 0
    while len(text) - start > longest:
        window = text[start : start + longest]
        ends = [found.end() for found in _BORDERS.finditer(window) if found.end() > longest // 2]
        start, piece = start + (ends[-1] if ends else longest), window[: ends[-1] if ends else longest]
        yield piece
    yield text[start:]


def _median(histogram: Counter[int]) -> int:
    half = histogram.total() / 2
    for value in sorted(histogram):
        half -= histogram[value]
        if half <= 0:
            return value
    return 0
