"""One entry to all readers: from sources as a person names them to documents.

::

    source ─ file ──┬─ plain     .txt .md (and whatever proves to be text)
           ├ folder ┤  json      .json .jsonl .ndjson, told apart by what they hold
           │        ├─ table     .csv .tsv
           │        ├─ markup    .html .htm .xhtml (and text that begins as HTML)
           │        ├─ epub      .epub
           │        └─ columnar  .parquet .arrow .feather
           └ smallworld          the embedded corpus

``.gz`` and ``.zst`` may follow any of the text formats.
"""

import functools
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from congling.core import files
from congling.core.addresses import refuse_address
from congling.core.artifact import leads_out
from congling.core.errors import UserError
from congling.core.progress import stage
from congling.core.text import one_line
from congling.data.config import SMALL_WORLD, DataConfig
from congling.data.document import Document
from congling.data.problems import FileNote, ReadingLog
from congling.data.smallworld.config import SmallWorldConfig
from congling.data.sources import columnar, epub, json_file, markup, plain, rows, table
from congling.data.sources.tree_lines import grown

Reader = Callable[[Path, FileNote, DataConfig, ReadingLog], Iterator[Document]]

READERS: dict[str, Callable[..., Iterator[Any]]] = {
    "txt": plain.read,
    "text": plain.read,
    "md": plain.read,
    "markdown": plain.read,
    "jsonl": json_file.read,
    "ndjson": json_file.read,
    "json": json_file.read,
    "csv": table.read,
    "tsv": table.read,
    "parquet": columnar.read,
    "arrow": columnar.read,
    "feather": columnar.read,
    **dict.fromkeys(("html", "htm", "xhtml", "xht", "shtml"), markup.read),
    "epub": epub.read,
}
_RUNNING = (plain.read, markup.read, epub.read)
"""Readers of running text, which holds no records."""
_COMPRESSED = {".gz", ".zst"}


def read(
    paths: Sequence[str | Path], config: DataConfig, findings: ReadingLog, take: rows.Take = rows.documents
) -> Iterator[Any]:
    """Yield the documents of files, folders (sorted, recursive) and the embedded corpus, in a fixed order.

    Of files that hold records, ``take`` says what is made of them; by default documents, as of all others.

    What had to be skipped or repaired is told to ``findings``; memory stays bounded whatever the files hold.

    Raises:
        UserError: a source does not exist, a folder holds nothing readable, or a named file cannot be read.
    """
    for source in paths:
        if str(source) == SMALL_WORLD and not files.exists(source):
            yield from _small_world(config, findings)
    found = _files(
        [_path(source) for source in paths if str(source) != SMALL_WORLD or files.exists(source)], findings
    )
    sizes = [path.stat().st_size for path, _, _ in found]
    with stage("reading", total=sum(sizes)) as read_so_far:
        for (path, name, alone), size in zip(found, sizes, strict=True):
            note, end = findings.file(name, size, _kind(path)), read_so_far.done + size
            try:
                for document in _reader(note.format, take)(path, note, config, findings):
                    note.documents += 1
                    yield document
                    read_so_far.done = min(end, read_so_far.done + _bytes(document))
            except UserError as error:
                if alone:
                    raise
                findings.problem("unreadable file", name, None, f"{error.what}; {error.hint or 'skipped'}")
            read_so_far.done = end


def _bytes(document: Any) -> int:
    """About how many bytes of its file a document was, for progress alone."""
    text = getattr(document, "text", "")
    return len(text) * (1 if text.isascii() else 3)


def files_of(sources: Sequence[str | Path]) -> list[str]:
    """The files that are read, in their order.

    Raises:
        UserError: a source does not exist, or a folder holds nothing readable.
    """
    return [str(path) for path, _, _ in _files([_path(source) for source in sources], ReadingLog())]


def has_records(file: str) -> bool:
    """Whether a file's name says that it holds records, and no running text."""
    return READERS.get(_kind(Path(file)), plain.read) not in _RUNNING


def reader_of(file: str) -> str:
    """What reads a file, by the ending of its name: files of equal bytes and readers hold the same."""
    return READERS.get(_format(Path(file)), plain.read).__module__


def _reader(kind: str, take: rows.Take) -> Reader:
    found = READERS.get(kind, plain.read)
    if found in _RUNNING:
        return found

    def whole(
        records: Iterable[rows.Record], note: FileNote, config: DataConfig, findings: ReadingLog
    ) -> Iterator[Any]:
        return take(records if config.text else grown(records), note, config, findings)

    return functools.partial(found, take=whole)


def _path(source: str | Path) -> Path:
    refuse_address(source)
    return Path(source)


def _kind(path: Path) -> str:
    """The format; of what no name tells from plain text, and is a page or a book, that."""
    named = _format(path)
    if READERS.get(named, plain.read) is not plain.read or not path.is_file():
        return named
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError:  # said where it is read
        return named
    return "epub" if epub.is_book(head) else "html" if markup.is_page(head) else named


def _format(path: Path) -> str:
    """The suffix without its dot, looking through ``.gz`` and ``.zst``."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1].removeprefix(".") if suffixes else ""


def _files(sources: Sequence[Path], findings: ReadingLog) -> list[tuple[Path, str, bool]]:
    """Every file with its short name, and whether a person named it (failing to read it is an error then)."""
    found: list[tuple[Path, str, bool]] = []
    for given in sources:
        source = files.located(given)
        try:
            mode = source.stat().st_mode
            files.require_outside_system(source)
            if not stat.S_ISDIR(mode):
                files.require_ordinary(mode, source)
        except OSError as error:
            raise _unreadable(given, error) from None
        found += _inside(source, findings) if stat.S_ISDIR(mode) else [(source, one_line(source.name), True)]
    names = Counter(name for _, name, _ in found)
    return [
        (path, name if names[name] == 1 else one_line(path.as_posix()), alone) for path, name, alone in found
    ]


def _unreadable(source: Path, error: OSError) -> UserError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        hint = "give a text, JSON, CSV or Parquet file, a folder of them, or 'smallworld'"
        return UserError("this source does not exist", value=str(source), hint=hint)
    return UserError(f"this source cannot be read ({error.strerror})", value=str(source))


def _inside(folder: Path, findings: ReadingLog) -> list[tuple[Path, str, bool]]:
    """The readable files below a folder, in a person's order: ``chapter2`` before ``chapter10``."""
    found, links = [], 0
    for path in sorted(_ordinary(folder, findings), key=lambda path: _natural(path, folder)):
        name = one_line(path.relative_to(folder).as_posix())
        if path.is_symlink() and leads_out(path, folder):
            links += 1
            reason = "leads out of the folder and is not followed; name what it leads to, to have it read"
            findings.problem("link", name, None, reason)
        elif not path.is_file():  # a link to a folder inside, whose files are met there, or to nothing
            continue
        elif _format(path) in READERS:
            found.append((path, name, False))
        else:
            reason = "not a kind of file that is read from folders; name it to try"
            findings.problem("other file", name, None, reason)
    if not found:
        hint = f"known kinds: {', '.join('.' + name for name in READERS)} (also with .gz or .zst)"
        hint += f"; {links} links lead out of it and are not followed" if links else ""
        raise UserError("this folder holds no readable file", value=str(folder), hint=hint)
    return found


def _ordinary(folder: Path, findings: ReadingLog) -> Iterator[Path]:
    """The files and links below a folder, but hidden ones and what is neither: pipes, sockets, devices."""
    for path in folder.rglob("*"):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.is_file() or path.is_symlink():
            yield path
        elif not path.is_dir():
            name = one_line(path.relative_to(folder).as_posix())
            findings.problem("other file", name, None, "a pipe, a socket or a device")


def _natural(path: Path, folder: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path.relative_to(folder).as_posix())
    return [(0, int(part[:18]), part) if part.isdecimal() else (1, 0, part) for part in parts]


def _small_world(config: DataConfig, findings: ReadingLog) -> Iterator[Document]:
    from congling.data import smallworld

    note = findings.file(SMALL_WORLD, 0, "generated")
    note.choice, note.why = "generated", "the embedded corpus makes whole documents"
    for document in smallworld.generate(config.smallworld or SmallWorldConfig.model_validate({})):
        note.documents += 1
        yield document
