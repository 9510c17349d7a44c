"""What reading a corpus brought to light: how each file was understood, and every problem with its place."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from congling.data.foreign_tokens import ForeignTokens
from congling.data.unread import UnreadFields

EXAMPLES = 20  # of all kinds together, but for the first of each
OF_A_KIND = 5  # examples of one kind, so that a frequent problem does not hide the others
FILES = 1000  # files described one by one; a folder of a million only counts the rest


class Place(NamedTuple):
    """Where a row stands."""

    file: str
    line: int | None
    """Line (from 1), or row of a table."""

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that was skipped or repaired."""

    kind: str
    """Short name under which problems are counted, such as ``broken record``."""
    file: str
    line: int | None
    """Line (from 1), or row of a table; ``None`` when it concerns the file."""
    reason: str

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.file, self.line)


@dataclass(slots=True)
class FileNote:
    """How one file was read."""

    file: str
    bytes: int
    format: str
    encoding: str = ""
    encoding_why: str = ""
    choice: str = ""
    """What became a document: ``chapter``, ``line``, ``field 'text'`` …"""
    why: str = ""
    documents: int = 0


@dataclass(slots=True)
class ReadingLog:
    """Collects notes and problems while documents stream past; its size is bounded."""

    files: list[FileNote] = field(default_factory=list)
    files_beyond: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Whole sentences a person should read; with what else was found they are :attr:`sentences`."""
    unread: UnreadFields = field(default_factory=UnreadFields)
    """Fields of rows that were not read."""
    foreign_tokens: ForeignTokens = field(default_factory=ForeignTokens)
    """Marks of other programs that stand in texts."""
    sink: Callable[[Problem], None] | None = None
    """Told every problem, whatever their number."""

    def problem(self, kind: str, file: str, line: int | None, reason: str) -> None:
        """Count one problem, tell it to the sink, and keep it as an example if there are few of its kind."""
        self.counts[kind] += 1
        found = Problem(kind, file, line, reason)
        if self.sink is not None:
            self.sink(found)
        first = self.counts[kind] == 1  # each kind has its first place named, however many kinds there are
        if first or (self.counts[kind] <= OF_A_KIND and len(self.examples) < EXAMPLES):
            self.examples.append(found)

    def file(self, name: str, size: int, kind: str) -> FileNote:
        """Open the note of a file that is about to be read."""
        note = FileNote(name, size, kind)
        if len(self.files) < FILES:
            self.files.append(note)
        else:
            self.files_beyond += 1
        return note

    @property
    def sentences(self) -> list[str]:
        """All notes: those of the reader, fields that were not read, marks of other programs."""
        return [*self.notes, *self.unread.sentences(), *self.foreign_tokens.sentences()]

    @property
    def sound(self) -> bool:
        """Whether nothing was skipped, repaired or left unread, and no mark of another program is in it."""
        return not self.counts and not self.unread.said and not self.foreign_tokens.counts

    def most(self, count: int = 4) -> str:
        """The most frequent problems, each with its first place and the reason."""
        return "; ".join(
            f"{number:,} × {kind}{self._first(kind)}" for kind, number in self.counts.most_common(count)
        )

    def _first(self, kind: str) -> str:
        """Where a kind of problem came first, and the reason there."""
        one = next((one for one in self.examples if one.kind == kind), None)
        return f" ({one.place}: {one.reason})" if one else ""

    def as_json(self) -> dict[str, Any]:
        """The findings as plain JSON values, for ``summary.json``."""
        return {
            "files": [asdict(note) for note in self.files],
            "files_beyond": self.files_beyond,
            "encodings": dict(Counter(note.encoding for note in self.files if note.encoding)),
            "problems": {
                "counts": dict(self.counts),
                "examples": [asdict(example) for example in self.examples],
            },
            "notes": self.sentences,
        }
