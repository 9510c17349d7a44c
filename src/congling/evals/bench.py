"""What a task measures with: the model, the texts given or held out, the training texts where they are known.

::

    --data FILE ─┬─ texts ──────── drawn by a seed ── not among the training documents ─ held-out texts
                 └─ questions ───── drawn by a seed ─ (choice)
    RUN/../documents ─┬─ test, else validation ─ held-out texts, where no file is given
                      └─ train ───────────────── what may have been memorised
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from congling.core import artifact
from congling.core.errors import UserError
from congling.data import corpus
from congling.data.clean import clean
from congling.data.config import SMALL_WORLD, DataConfig
from congling.data.dedup import content_hash
from congling.data.document import Document
from congling.data.problems import FileNote, ReadingLog
from congling.data.sources import rows
from congling.data.sources.reading import read
from congling.infer.checkpoints import Loaded

T = TypeVar("T")
LIMIT = 200
"""Cases of a task, where no other number is asked for."""
_CLEANING = ("ruby", "collapse_blank_lines")  # settings of the data that change the characters of a text


@dataclass(frozen=True)
class Bench:
    """A model on the bench, and what to measure it with."""

    loaded: Loaded
    files: Sequence[str] = ()
    """Files or folders of texts or questions; without any the held-out documents are taken."""
    documents: Path | None = None
    """The finished documents the model was trained on."""
    limit: int = LIMIT
    """Cases of a task."""
    seed: int = 0
    """Which cases are drawn, and the seed of whatever else is."""
    by: str = "kind"
    """Field by which the loss is told apart; ``file`` for the file."""
    prefixes: Sequence[int] = (50, 100, 200)
    """Tokens of an entry that are given in the continuation task."""
    examples: Sequence[str] = ()
    """Files of solved questions to show before each question."""
    shots: int = 0
    """How many of them."""
    context: int | None = None
    """Tokens that the model was trained to read, in the length task; what its checkpoint says by default."""
    base: Path | str | None = None
    """The model before its context was extended, where its checkpoint does not lead to it."""
    chat: bool = False
    """Ask through the chat template instead of continuing plain text."""
    findings: ReadingLog = field(default_factory=ReadingLog)
    """What was left out, counted and named."""

    def held_out(self) -> list[Document]:
        """At most ``limit`` texts the model was not trained on, drawn by the seed, in their order.

        Raises:
            UserError: a file cannot be read, there are neither files nor documents, or all were trained on.
        """
        drawn = draw(self.unseen(), self.limit, self.seed)
        if not drawn:
            raise self.no_text()
        return drawn

    def unseen(self) -> Iterator[Document]:
        """All texts the model was not trained on, streamed, but for empty ones.

        Raises:
            UserError: a file cannot be read, or there are neither files nor documents.
        """
        if not self.files:
            split = corpus.held_out(self._known())
            found: Iterable[Document] = corpus.documents(self._known(), split)
            self.note(f"held-out texts are those of the {split} split")
        else:
            # Cleaned as the training text was: else a text the model knows would not be known again.
            cleaned = {key: value for key, value in self._made_with().items() if key in _CLEANING}
            config = DataConfig(sources=tuple(self.files), **cleaned)
            found = self._unseen(_texts(config, self.findings, self.by))
        return (document for document in found if document.text.strip())

    def no_text(self) -> UserError:
        """What to raise where there is no text to measure with."""
        return UserError(
            "there is no held-out text to measure with",
            value=" ".join(self.files) or str(self.documents),
            hint="name other files with --data, or hold out documents",
        )

    def training(self) -> Iterator[str]:
        """The texts the model was trained on, streamed.

        Raises:
            UserError: they are not known.
        """
        return (document.text for document in corpus.documents(self._known(), "train"))

    def trained(self) -> list[str]:
        """At most ``limit`` training texts, drawn by the seed."""
        return draw(self.training(), self.limit, self.seed)

    def small_world(self) -> dict[str, Any]:
        """The settings of the small world the model was trained on; none where it was trained on others."""
        config = self._made_with()
        return dict(config.get("smallworld") or {}) if config.get("sources") == [SMALL_WORLD] else {}

    def note(self, text: str) -> None:
        """Remember a sentence that is to stand below the scores, once."""
        if text not in self.findings.notes:
            self.findings.notes.append(text)

    def problem(self, kind: str, where: str, reason: str) -> None:
        """Count a case that is left out or changed, and keep the first of its kind by name."""
        name, _, place = where.rpartition(":")
        number = int(place) if name and place.isdigit() else None
        self.findings.problem(kind, name if number is not None else where, number, reason)

    def _made_with(self) -> dict[str, Any]:
        """The settings the training documents were made with; none where they are not known."""
        if self.documents is None:
            return {}
        config = artifact.opened(self.documents, corpus.KIND).facts.get("config")
        return dict(config) if isinstance(config, Mapping) else {}

    def _known(self) -> Path:
        if self.documents is None:
            hint = "name them with --documents, or texts to measure with by --data"
            raise UserError("the documents of this model are not known", hint=hint)
        return self.documents

    def _unseen(self, documents: Iterable[Document]) -> Iterator[Document]:
        known = self.documents is not None
        seen = {content_hash(text) for text in self.training()} if known else set[int]()
        for document in documents:
            if content_hash(document.text) in seen:
                self.problem("seen in training", document.id, "equal to a training document")
            else:
                yield document


def draw(items: Iterable[T], limit: int, seed: int) -> list[T]:
    """At most ``limit`` of the items, each as likely as any other, in their order (Vitter's algorithm R)."""
    random, kept = Random(seed), list[tuple[int, T]]()
    for number, item in enumerate(items):
        if number < limit:
            kept.append((number, item))
        elif (place := random.randrange(number + 1)) < limit:
            kept[place] = (number, item)
    return [item for _, item in sorted(kept, key=lambda pair: pair[0])]


def _texts(config: DataConfig, findings: ReadingLog, by: str) -> Iterator[Document]:
    """Documents of files, cleaned, each with the field ``by`` of its record among its meta data."""

    def take(
        records: Iterable[rows.Record], note: FileNote, config: DataConfig, findings: ReadingLog
    ) -> Iterator[Document]:
        values: dict[int, Any] = {}

        def watched() -> Iterator[rows.Record]:
            for record in records:
                if isinstance(record.value, dict):
                    values[record.place] = record.value.get(by)
                yield record

        for document in rows.documents(watched(), note, config, findings):
            place = document.id.removeprefix(f"{note.file}:").partition(".")[0]
            # Pieces of one record follow each other: what stands before has been asked for.
            value = values.get(int(place))
            meta = dict(document.meta) | ({by: value} if isinstance(value, (str, int)) else {})
            yield replace(document, meta=meta)

    for document in read(config.sources, config, findings, take):
        yield replace(document, text=clean(document.text, config)[0])
