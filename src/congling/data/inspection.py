"""A look at a corpus before anything is made of it: the same work as ``make``, in a temporary folder."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from congling.core import artifact
from congling.core.disk import writing_to
from congling.data import corpus
from congling.data.config import DataConfig
from congling.data.document import Document, read_documents, read_rows

LOOK = 50_000_000  # characters read of a large corpus
FIRST = 3  # documents and drops shown


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a corpus holds and what would become of it."""

    summary: dict[str, Any]
    """As in ``summary.json`` of a documents directory."""
    first: Sequence[Document]
    """The first training documents."""
    dropped: Sequence[dict[str, Any]]
    """The first documents left out: ``id``, ``text``, ``reason``."""


def inspect(config: DataConfig, *, at_most: int | None = LOOK) -> Inspection:
    """Look at sources without leaving anything behind; reads at most ``at_most`` characters.

    A finished documents directory as the only source is shown as it is.

    Raises:
        UserError: a source cannot be read, or holds no text.
    """
    if len(config.sources) == 1 and artifact.exists(config.sources[0]):
        found = artifact.opened(config.sources[0], corpus.KIND, verify=True)
        return _shown(corpus.summary(found.path), found.path)
    with tempfile.TemporaryDirectory(prefix="congling-") as name, writing_to(name):
        return _shown(corpus.build(config, Path(name), at_most=at_most), Path(name))


def _shown(summary: dict[str, Any], folder: Path) -> Inspection:
    first = tuple(islice(read_documents(folder / "train.jsonl.zst"), FIRST))
    return Inspection(summary, first, tuple(islice(read_rows(folder / "dropped.jsonl.zst"), FIRST)))
