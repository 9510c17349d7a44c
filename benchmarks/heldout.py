"""红楼梦 for every contender alike: chapters 1-72 to learn, 73-80 held out, one way to score, one clock."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from congling.data.config import DataConfig
from congling.data.shards import Shards
from congling.data.token_split import TokenSplit
from measuring import Options, circumstances
from reporting import Skipped

BOOK = "hlm/hlm_001-080.txt"
HELD_OUT = 8
"""Chapters at the end of the book that nobody trains on."""
OVERRIDES = ("data.documents=chapter", f"data.split.validation={HELD_OUT}", "data.split.order=last")
"""The same split, as overrides of ``congling train``."""


def book(options: Options) -> Path:
    """Find the corpus.

    Raises:
        Skipped: there is none.
    """
    path = options.corpora and options.corpora / BOOK
    if path is None or not path.is_file():
        raise Skipped(f"needs {BOOK}: give its folder by CONGLING_CORPORA or --corpus")
    return path


def prepare(text: Path, folder: Path, kind: Literal["bpe", "character"]) -> Shards:
    """Split, train a tokenizer and encode with congling's own stages; all of it on the contender's clock."""
    from congling.core.config import build
    from congling.data import corpus, shards
    from congling.tokenizer.config import TokenizerConfig
    from congling.tokenizer.training import train

    split = {"validation": HELD_OUT, "order": "last"}
    values = {"sources": [str(text)], "documents": "chapter", "split": split}
    corpus.make(build(DataConfig, values), folder / "documents")
    learnt = lambda: (document.text for document in corpus.documents(folder / "documents", "train"))  # noqa: E731
    train(TokenizerConfig(kind=kind), learnt, folder / "tokenizer")
    shards.write(folder / "documents", folder / "tokenizer", folder / "shards")
    return shards.open_shards(folder / "shards")


def bits_per_character(logits: Callable[[Any], Any], split: TokenSplit, context: int) -> float:
    """Score held-out chapters in windows that overlap by half: each token has half a window before it.

    ``logits`` maps ids (B, T) to scores (B, T, V). All tokens count, ends of chapters included; only
    characters of the text divide.
    """
    import torch

    from congling.evals.windows import split_row, window_starts

    nats, overlap = 0.0, context // 2
    with torch.inference_mode():
        for start in window_starts(len(split.tokens), context, overlap).tolist():
            row = split_row(split, start, context, overlap)
            ids = torch.from_numpy(row.ids)[None]
            scores = logits(ids[:, :-1])[0, row.start - 1 :].float()
            nats += float(torch.nn.functional.cross_entropy(scores, ids[0, row.start :], reduction="sum"))
    return nats / math.log(2) / int(split.characters.sum())


class Clock:
    """Seconds since this process was started, less the time spent on held-out scores."""

    def __init__(self) -> None:
        self._started, self._paused = psutil.Process().create_time(), 0.0

    def seconds(self) -> float:
        """Time on the clock."""
        return time.time() - self._started - self._paused

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Do something off the clock."""
        start = time.time()
        yield
        self._paused += time.time() - start


@dataclass
class Curve:
    """Held-out bits/character over time on the clock, of one contender."""

    contender: str
    budget: float
    settings: dict[str, Any] = field(default_factory=dict)
    points: list[tuple[float, float]] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=circumstances)

    def seconds_to(self, target: float) -> float | None:
        """When the target was first reached, interpolated between scores; None if it was not."""
        before: tuple[float, float] | None = None
        for seconds, bits in self.points:
            if bits <= target:
                if before is None or before[1] == bits:
                    return seconds
                return before[0] + (before[1] - target) / (before[1] - bits) * (seconds - before[0])
            before = (seconds, bits)
        return None

    def write(self, path: Path) -> None:
        """Keep it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(vars(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Curve":
        """Read what ``write`` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        content["points"] = [(seconds, bits) for seconds, bits in content["points"]]
        return cls(**content)


def marks(budget: float) -> list[float]:
    """When to score: every time the clock has grown by two fifths, and at the end."""
    found = [10.0]
    while found[-1] * 1.4 < budget:
        found.append(found[-1] * 1.4)
    return [mark for mark in found if mark < budget] + [budget]
