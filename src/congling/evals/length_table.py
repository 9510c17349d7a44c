"""The scores of the length task as one table: a row for each n, and the line to beat below it."""

from collections.abc import Mapping, Sequence
from typing import Any

from congling.evals.length import NAME
from congling.evals.scores import Score

COLUMNS = {
    "nats": "nats/token",
    "gain": "gain",
    "below-sliding": "below the sliding window",
    "plain": "not extended",
}
"""Kinds of scores that have a column."""


def length_table(title: str, scores: Sequence[Score]) -> Any:
    """Losses by tokens read, beside what the same tokens cost the model before it was extended."""
    from rich.table import Table
    from rich.text import Text

    found = by_length(scores)
    shown = [kind for kind in COLUMNS if found.get(kind)]
    table = Table("tokens read", title=Text(title), title_justify="left", caption_justify="left")
    table.columns[0].justify = "right"
    for kind in shown:
        table.add_column(COLUMNS[kind], justify="right")
    for n in sorted({n for kind in shown for n in found[kind]}):
        cells = [_cell(kind, found[kind].get(n)) for kind in shown]
        table.add_row(f"{n:,}", *cells)
    notes = [f"{COLUMNS[kind]}: {next(iter(found[kind].values())).protocol}" for kind in shown]
    sliding = next((one for one in scores if one.name == f"{NAME}/sliding"), None)
    if sliding is not None:
        notes.insert(0, f"the line to beat: {sliding.value:.4f} nats/token, {sliding.protocol}")
    table.caption = Text("\n".join(notes))
    return table


def by_length(scores: Sequence[Score]) -> Mapping[str, Mapping[int, Score]]:
    """Scores by kind and n, those without n left out."""
    found: dict[str, dict[int, Score]] = {}
    for score in scores:
        _, _, rest = score.name.partition("/")
        kind, _, n = rest.partition("/")
        if n.isdecimal():
            found.setdefault(kind, {})[int(n)] = score
    return found


def _cell(kind: str, score: Score | None) -> str:
    if score is None:
        return ""
    if kind in ("nats", "plain"):
        return f"{score.value:.4f}"
    between = "" if score.low is None or score.high is None else f" ({score.low:+.4f} … {score.high:+.4f})"
    return f"{score.value:+.4f}{between}"
