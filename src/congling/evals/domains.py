"""Held-out loss by domain: documents grouped by a field of their records, so that an average hides none.

nats/token says how well the model does by its own tokens, bits/character compares across tokenizers; both
are sums over the documents of a domain divided once, with a bootstrap over documents.
"""

import math
from collections import defaultdict

from congling.data.document import Document
from congling.evals.bench import Bench
from congling.evals.likelihood import text_nats
from congling.evals.scores import Score, ratio

_NAME = 40  # characters of a domain's name that are shown
MOST = 30
"""Domains told apart; the smaller ones beyond are one."""
REST = "(others)"
ALL = "all"


def run(bench: Bench) -> list[Score]:
    """``domains/NAME/nats`` and ``domains/NAME/bits`` of every domain, and of all together.

    Raises:
        UserError: there is no text to measure with.
    """
    documents = bench.held_out()
    loaded = bench.loaded
    measured = text_nats(
        loaded.model,
        loaded.tokenizer,
        [document.text for document in documents],
        context=loaded.reading.context,
    )
    groups: dict[str, list[tuple[float, int, int]]] = defaultdict(list)
    for document, (nats, tokens) in zip(documents, measured, strict=True):
        groups[domain(document, bench.by)].append((nats, tokens, len(document.text)))
    everything = [row for rows in groups.values() for row in rows]
    found = _scores(ALL, everything, bench)
    if len(groups) < 2:
        return found
    largest = sorted(groups, key=lambda name: (-len(groups[name]), name))
    for name in largest[:MOST]:
        found += _scores(name, groups[name], bench)
    rest = [row for name in largest[MOST:] for row in groups[name]]
    return found + (_scores(REST, rest, bench) if rest else [])


def domain(document: Document, by: str) -> str:
    """The domain of a document: a field of its record, or the file it stood in."""
    value = document.id.rpartition(":")[0] if by == "file" else document.meta.get(by)
    text = " ".join(str(value).split()).replace("/", "∕") if value not in (None, "") else "(none)"
    return text[:_NAME]


def _scores(name: str, rows: list[tuple[float, int, int]], bench: Bench) -> list[Score]:
    nats, tokens, characters = zip(*rows, strict=True)
    protocol = (
        f"whole documents by {bench.by}, their end included; windows of "
        f"{bench.loaded.reading.context} tokens, half of them overlapping"
    )
    bits = [value / math.log(2) for value in nats]
    return [
        ratio(f"domains/{name}/nats", nats, tokens, "nats/token", protocol, seed=bench.seed),
        ratio(f"domains/{name}/bits", bits, characters, "bits/character", protocol, seed=bench.seed),
    ]
