"""Names of the scores of the length task, and scores sorted by them; no torch."""

from collections.abc import Iterable, Mapping

from congling.evals.scores import Score

NAME = "length"
COLUMNS = {
    "nats": "nats/token",
    "gain": "gain",
    "below-sliding": "below the sliding window",
    "plain": "without extension",
}
"""Kinds of scores of which there is one for each n, and what a column of them is called."""
SLIDING = f"{NAME}/sliding"


def by_length(scores: Iterable[Score]) -> Mapping[str, Mapping[int, Score]]:
    """Scores by kind and n; those of other names are left out."""
    found: dict[str, dict[int, Score]] = {kind: {} for kind in COLUMNS}
    for score in scores:
        _, _, rest = score.name.partition("/")
        kind, _, n = rest.partition("/")
        if kind in found and n.isascii() and n.isdecimal() and 0 < len(n) < 10:
            found[kind][int(n)] = score
    return found


def cell(kind: str, score: Score | None) -> str:
    """A score as it stands in a table: a loss, or a difference with its interval."""
    if score is None:
        return ""
    if kind in ("nats", "plain"):
        return f"{score.value:.4f}"
    between = "" if score.low is None or score.high is None else f" ({score.low:+.4f} … {score.high:+.4f})"
    return f"{score.value:+.4f}{between}"


def rows(scores: Iterable[Score]) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[str]]:
    """A table with a row for each n: its head, its rows, and what is to be said below it."""
    scores = list(scores)
    found = {kind: values for kind, values in by_length(scores).items() if values}
    lengths = sorted({n for values in found.values() for n in values})
    body = [(f"{n:,}", *(cell(kind, values.get(n)) for kind, values in found.items())) for n in lengths]
    notes = [f"{COLUMNS[kind]}: {next(iter(values.values())).protocol}" for kind, values in found.items()]
    sliding = next((one for one in scores if one.name == SLIDING), None)
    if sliding is not None:
        notes.insert(0, f"the line to beat: {sliding.value:.4f} nats/token, {sliding.protocol}")
    return ("tokens read", *(COLUMNS[kind] for kind in found)), body, notes
