"""Plain text to documents: look once at the whole file, choose what a document is, then cut in a second pass.

Both passes stream; the second holds one document at a time, and none grows beyond ``longest`` characters.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from congling.core.units import plural
from congling.data.config import DataConfig
from congling.data.separators import Separators, begun

_NUMBER = r"[〇零一二三四五六七八九十百千两廿卅\d０-９]"
_COUNT = r"(?:[IVXLCDMivxlcdm]+|\d+|[A-Z][a-z]+)"
_TITLE = r"(?:[\s　:：.、·].{0,40}|[^。！？；，,“”]{0,30})"
_HEADINGS = (  # by preference: a book whose chapters have sections is divided by chapters
    ("第…回/章", rf"(?:正文)?[\s　]*第[\s　]*{_NUMBER}[{_NUMBER[1:-1]}\s　]{{0,8}}[回章]{_TITLE}"),
    ("第…节/卷/部", rf"第[\s　]*{_NUMBER}[{_NUMBER[1:-1]}\s　]{{0,8}}[节節卷部篇集幕折出]{_TITLE}"),
    ("Chapter N", rf"(?i:chapter|act|scene|book|part|canto|letter|volume)\s+{_COUNT}\b.{{0,60}}"),
    ("title (N)", rf"[^。！？；，“”]{{1,20}}[（(]{_NUMBER}{{1,4}}[）)]"),
    ("numbered headings", rf"{_NUMBER}{{1,4}}[\s　、．.]+[^\s。！？；，：“”]{{1,12}}|[IVXLC]{{1,8}}\.?"),
    ("Markdown headings", r"#{1,2}\s+\S.{0,80}"),
)
_ENUMERATED = re.compile(_HEADINGS[3][1])
_ANY_HEADING = re.compile("|".join(f"(?P<s{i}>{rule})" for i, (_, rule) in enumerate(_HEADINGS) if i != 3))
_UNNUMBERED = re.compile(
    r"(?:楔子|序[章言幕]?|引[子言]|尾[声聲]|[后後][记記]|前言|附[录錄]|跋|prologue|epilogue|preface)"
    r"(?:[\s　:：].{0,40})?",
    re.I,
)
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
    separators: Separators = field(default_factory=Separators)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a document is in one file, and why."""

    kind: str
    why: str
    heading: str = ""
    """The sort of heading; or the separator."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A document to be: its first line, its heading if it has one, its text."""

    line: int
    title: str
    text: str


def survey(lines: Iterable[tuple[int, str]]) -> Survey:
    """Look at every ``(number, text)`` line once."""
    seen, block, last = Survey(), 0, 0
    for number, raw in lines:
        line = raw.strip()
        seen.characters += len(line)
        seen.separators.look(line)
        if number == last:  # the next part of a very long line
            continue
        last = number
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
    if mark := config.separator or (seen.separators.separator if config.documents == "auto" else ""):
        why = "as configured" if config.separator else f"{seen.separators.found[mark]} times between texts"
        return Choice("separator", f"{mark!r}, {why}", mark)
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
    return _unstructured(seen, config)


def _unstructured(seen: Survey, config: DataConfig) -> Choice:
    """What to do with a text that shows no structure."""
    if seen.characters <= config.piece:
        noun = plural(seen.characters, "character")
        return Choice("file", f"no visible structure, and only {seen.characters} {noun}")
    return Choice(
        "pieces", f"no headings or blocks found; cut at paragraph borders near {config.piece} characters"
    )


def _structure(seen: Survey) -> str | None:
    """The sort of heading that divides most of the text into parts of some length, or ``None``."""
    for sort, _ in _HEADINGS:
        count = seen.headings[sort]
        inside = seen.characters - seen.before.get(sort, seen.characters)
        if (
            count >= 2
            and inside >= seen.characters / 2
            and inside / count >= _SHORTEST_CHAPTER
            and count * 3 <= seen.lines
        ):
            return sort
    return None


def segments(lines: Iterable[tuple[int, str]], choice: Choice, config: DataConfig) -> Iterator[Segment]:
    """Cut ``(number, text)`` lines into documents of at most about ``config.longest`` characters."""
    if choice.kind == "line":
        for number, line in lines:
            yield Segment(number, "", line)
        return
    if choice.kind == "separator":
        yield from _separated(_cut_lines(lines, config.longest), choice.heading, config.longest)
        return
    buffer, title, shortest = _Buffer(), "", _SHORTEST_CHAPTER
    for number, line in _cut_lines(lines, config.piece if choice.kind == "pieces" else config.longest):
        heading = line.strip() if choice.kind == "chapter" and _starts_chapter(line, choice.heading) else ""
        # A title page, or an entry of a table of contents, is no document: it stays with what follows.
        if (heading and buffer.size - len(title) > shortest) or _full(buffer, line, choice.kind, config):
            yield buffer.take(title)
            title = ""
        title = heading or title
        buffer.add(number, line)
    if buffer.size:
        yield buffer.take(title)


def _separated(lines: Iterable[tuple[int, str]], separator: str, longest: int) -> Iterator[Segment]:
    """What stands between separators, each without the mark that begins it."""
    buffer = _Buffer()
    for number, line in lines:
        *whole, rest = line.split(separator)
        for part in whole:
            buffer.add(number, part if buffer.size else begun(part))
            if buffer.size:
                yield buffer.take("")
        buffer.add(number, rest if buffer.size else begun(rest))
        if buffer.size > longest:
            yield buffer.take("")
    if buffer.size:
        yield buffer.take("")


def _cut_lines(lines: Iterable[tuple[int, str]], longest: int) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        for piece in cut(line, longest):
            yield number, piece


class _Buffer:
    """Lines of the document being gathered."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.first, self.last, self.size = 0, 0, 0

    def add(self, number: int, line: str) -> None:
        if line.strip() and not self.size:
            self.first = number
        if not line.strip() and not self.size:
            return
        if number == self.last and self.lines:  # parts of one line stay one line
            self.lines[-1] += line
        else:
            self.lines.append(line)
        self.last, self.size = number, self.size + len(line.strip())

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
        return (
            buffer.size >= config.piece * (0.75 if blank else 1.25)
            or buffer.size + len(line) > 1.5 * config.piece
        )
    return buffer.size + len(line) > config.longest


def _heading(line: str) -> str:
    """The sort of heading a stripped line is, or nothing; the cheap tests come first."""
    if len(line) > _LONGEST_HEADING:
        return ""
    if line[-1] in "）)" and _ENUMERATED.fullmatch(line):
        return "title (N)"
    found = _ANY_HEADING.fullmatch(line)
    return _HEADINGS[int((found.lastgroup or "s0")[1:])][0] if found else ""


def _starts_chapter(line: str, sort: str) -> bool:
    line = line.strip()
    if not line or len(line) > _LONGEST_HEADING:
        return False
    return _heading(line) == sort or _UNNUMBERED.fullmatch(line) is not None


def is_heading(line: str) -> bool:
    """Whether a line looks like the heading of a part of a text, of any sort."""
    line = line.strip()
    known = 0 < len(line) <= _LONGEST_HEADING
    return known and (_heading(line) != "" or _UNNUMBERED.fullmatch(line) is not None)


def cut(text: str, longest: int) -> Iterator[str]:
    """Cut a text into pieces of at most ``longest`` characters, at the last line or sentence end that fits.

    >>> list(cut("云对雨。雪对风。晚照对晴空。", 9))
    ['云对雨。雪对风。', '晚照对晴空。']
    """
    start = 0
    while len(text) - start > longest:
        limit = start + longest
        near = _last_border(text, limit, min(longest // 2, 500))  # nearly always enough
        end = near or _last_border(text, limit, longest // 2) or limit
        yield text[start:end]
        start = end
    yield text[start:]


def _last_border(text: str, end: int, back: int) -> int:
    """The last line or sentence end among the ``back`` characters before ``end``; 0 without one."""
    return max((found.end() for found in _BORDERS.finditer(text, end - back, end)), default=0)


def _median(histogram: Counter[int]) -> int:
    half = histogram.total() / 2
    for value in sorted(histogram):
        half -= histogram[value]
        if half <= 0:
            return value
    return 0
