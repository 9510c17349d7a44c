"""From a configuration to documents: document ``i`` depends on the seed and ``i`` alone.

So any worker can write any part of the corpus, and a larger corpus begins with the smaller one of the same
seed. Facts and answers are not stored beside the text: the text tells them (``facts.py``, ``questions.py``).
"""

from collections.abc import Iterator
from itertools import accumulate, count
from math import log2
from random import Random

from congling.data.document import Document
from congling.data.smallworld.config import KINDS, Kind, SmallWorldConfig
from congling.data.smallworld.long import writing as long
from congling.data.smallworld.script import to_traditional
from congling.data.smallworld.world import world


class Generator:
    """Writes the documents of one world; ``document(i)`` may be asked for in any order."""

    def __init__(self, config: SmallWorldConfig) -> None:
        self.world = world(config.script)
        self._seed = config.seed
        self._long_characters = config.long_characters
        weights = [config.mix.get(kind, 0.0) for kind in KINDS]
        total = sum(weights)
        # Thresholds instead of a weighted draw, for speed; the last one is exactly 1 whatever the rounding.
        ends = [end / total for end in accumulate(weights)]
        last = max(k for k, weight in enumerate(weights) if weight > 0)
        self._kinds: list[tuple[float, Kind, float]] = [
            (1.0 if k == last else ends[k], kind, -log2(weights[k] / total))
            for k, kind in enumerate(KINDS)
            if weights[k] > 0
        ]
        self._random = Random()

    def document(self, index: int) -> Document:
        """Document number ``index`` (from 0), with its ``kind`` and its information ``bits`` as meta data."""
        random = self._random
        # Random.random() after an integer seed gives the same numbers in all versions of Python
        random.seed(self._seed << 64 | index)
        draw = random.random()
        _, kind, bits = next(row for row in self._kinds if draw < row[0])
        if kind == "long":
            text, more = long.document(self._long_characters, random.random)
            text = to_traditional(text) if self.world.script == "hant" else text
        else:
            text, more = self.world.grammars[kind].write(random.random)
        return Document(text, f"{kind}-{index:06d}", {"kind": kind, "bits": bits + more})


def generate(config: SmallWorldConfig) -> Iterator[Document]:
    """Yield documents until their text reaches ``config.size`` bytes of UTF-8; memory stays constant."""
    generator = Generator(config)
    size = 0
    for index in count():
        document = generator.document(index)
        yield document
        size += len(document.text.encode())
        if size >= config.size:
            return
