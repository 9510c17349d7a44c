"""Plain text and Markdown: any encoding, any line length, cut into documents by its structure."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from congling.data import segmenter
from congling.data.config import DataConfig
from congling.data.document import Document
from congling.data.encoding import Encoding
from congling.data.problems import FileNote, Place, ReadingLog
from congling.data.sources import stream

LONGEST_LINE = 1 << 20  # bytes held of one line; the rest of it becomes the next


def read(path: Path, note: FileNote, config: DataConfig, findings: ReadingLog) -> Iterator[Document]:
    """Yield the documents of a text file.

    Raises:
        UserError: the file is no text, or its encoding cannot be told.
    """
    found = stream.encoding_of(path, note.file, config.encoding)
    note.encoding, note.encoding_why = found.codec, found.why
    seen = segmenter.survey(_lines(path, note.file, found, ReadingLog()))
    if not seen.characters:
        findings.problem(
            "empty file", note.file, None, "no text in it" if note.bytes else "the file has no bytes"
        )
        return
    choice = segmenter.choose(seen, config)
    note.choice, note.why = choice.kind, choice.why
    if choice.kind == "separator":
        findings.notes.append(f"{note.file} is divided into documents: {choice.why}")
    for part in segmenter.segments(_lines(path, note.file, found, findings), choice, config):
        place = Place(note.file, part.line)
        findings.foreign_tokens.look(part.text, str(place))
        yield Document(part.text, str(place), {"title": part.title} if part.title else {}, place)


def _lines(path: Path, name: str, found: Encoding, findings: ReadingLog) -> Iterator[tuple[int, str]]:
    """Decoded lines with their numbers; over-long ones in parts that end at sentence borders."""
    codec = stream.codec_of_lines(found)
    decoder = codecs.getincrementaldecoder(codec)("replace")
    carried, reported = "", 0
    for line in stream.lines(path, name, found, findings, longest=LONGEST_LINE):
        if line.ends and not carried and not decoder.getstate()[0]:
            text, reason = stream.decoded(line.data, codec)
            if reason:
                findings.problem("invalid bytes", name, line.number, f"{reason}; replaced by U+FFFD")
            yield line.number, text.removesuffix("\r")
            continue
        if line.number != reported:
            findings.problem(
                "long line", name, line.number, f"over {LONGEST_LINE} bytes; cut at sentence borders"
            )
            reported = line.number
        text = carried + decoder.decode(line.data, final=line.ends)
        *whole, carried = segmenter.cut(text, LONGEST_LINE // 4)
        for piece in whole:
            yield line.number, piece
        if line.ends:
            yield line.number, carried.removesuffix("\r")
            carried = ""
            decoder.reset()
