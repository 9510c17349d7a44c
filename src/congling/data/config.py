"""What to read, how to make documents of it, and which of them to hold out."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from congling.core.config import Config
from congling.core.units import Amount
from congling.data.smallworld.config import SmallWorldConfig

SMALL_WORLD = "smallworld"
"""As a source: the corpus that congling generates itself."""

LossReduction = Literal["token", "answer"]
"""What weighs the same in a loss: every learnt token, or every answer, each of its tokens one n-th of it."""
DocumentChoice = Literal["auto", "file", "line", "paragraph", "chapter", "pieces"]


def _named(source: str) -> str:
    if not source.strip():
        raise ValueError("a source is a file, a folder or 'smallworld', and this is none")
    return source


class SplitConfig(Config):
    """Which documents are held out: for choosing between settings and steps, and for the final score."""

    validation: Annotated[float | int, Field(gt=0, le=10**12)] = 0.1
    """Below 1 a share of the documents, otherwise their number; of fewer than ten at random a share of the
    characters, as near as whole documents come."""
    test: Annotated[float | int, Field(ge=0, le=10**12)] = 0
    """The same of a part that nothing is chosen by: it is taken first, and the final score is measured on
    it. With 0 there is none, and the score is that of the validation documents."""
    order: Literal["random", "last"] = "random"
    """``last`` holds out the end of the corpus: the last chapters of a book."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    largest: Annotated[Amount, Field(gt=0)] = 2_000_000
    """Most characters a share may hold out: beyond, a larger part only costs training text."""

    @model_validator(mode="after")
    def _whole(self) -> "SplitConfig":
        for name in ("validation", "test"):
            if (wanted := getattr(self, name)) >= 1 and wanted != int(wanted):
                raise ValueError(f"{name} is a share below 1 or a whole number of documents")
        return self


class DataConfig(Config):
    """From files to documents.

    >>> DataConfig(sources=("book.txt",)).documents
    'auto'
    """

    sources: Annotated[tuple[Annotated[str, AfterValidator(_named)], ...], Field(min_length=1)]
    """Files and folders, or ``smallworld`` for the embedded corpus."""
    documents: DocumentChoice = "auto"
    """What one document of a plain text file is; ``auto`` looks at the file and says why."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """What stands between documents of a text, such as ``<|endoftext|>``; usual marks are found unasked."""
    text: str | None = None
    """For records: a field name or a template (``"{title}\\n{text}"``); ``None`` recognises usual layouts."""
    encoding: str | None = None
    """Read every text file in this encoding instead of detecting it."""
    ruby: Literal["remove", "keep"] = "remove"
    """Reading marks of the form ``&&字ㄗˋ&&``, as in dictionaries: leave the character, or the whole."""
    collapse_blank_lines: bool = True
    """Keep at most one blank line in a row."""
    piece: Annotated[Amount, Field(ge=100)] = 4000
    """Target size, in characters, of the pieces of a text without visible structure."""
    longest: Annotated[Amount, Field(ge=1000)] = 1_000_000
    """Longer documents are cut at paragraph or sentence borders; in characters."""
    smallest: Annotated[Amount, Field(ge=1)] = 1
    """Shorter documents are dropped; in characters."""
    largest_record: Annotated[Amount, Field(ge=1000)] = 16_000_000
    """A record of more bytes is skipped and named, so that one line cannot fill the memory."""
    deduplicate: bool = True
    """Drop documents equal to an earlier one, and training documents that overlap a held-out document."""
    overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of common 13-character sequences from which a training document counts as a near copy."""
    split: SplitConfig = SplitConfig()
    smallworld: SmallWorldConfig | None = None
    """Settings of the embedded corpus; only with ``smallworld`` among the sources."""

    @model_validator(mode="after")
    def _small_world(self) -> "DataConfig":
        if self.smallworld is not None and SMALL_WORLD not in self.sources:
            raise ValueError('a [smallworld] table needs sources = ["smallworld"]')
        return self
