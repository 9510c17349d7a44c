"""What a comparison of runs says, as plain values: tables, charts, texts side by side."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from congling.core.units import show_count, show_seconds
from congling.evals.paired import Difference, Measured, difference, paired
from congling.report.content import LONGEST_SAMPLE
from congling.report.curves import charts
from congling.report.drawing import Chart
from congling.report.explain import everything
from congling.report.origin import installed
from congling.report.record import numeric
from congling.report.run_tables import Table
from congling.report.settings import differing
from congling.report.sides import RunSummary

MOST_PROMPTS = 8
MOST_SETTINGS = 60
Texts = tuple[str, tuple[tuple[str, str | None], ...]]
"""A prompt, and for each run its name and what it wrote; None where it was not asked."""


@dataclass(frozen=True)
class RowScores:
    """What each run thinks of the same given answers: one number an answer and run."""

    nats: Mapping[str, Sequence[float]]
    """By the name of the run."""
    characters: Sequence[int]
    """Of each answer."""
    left_out: int = 0
    """Rows that some model has no room for; none of them counts for any."""

    def bits(self, name: str) -> float:
        """Bits per character over all answers together."""
        return math.fsum(self.nats[name]) / math.log(2) / sum(self.characters)

    def difference(self, first: str, second: str) -> Difference:
        """In bits per character, over the same answers."""
        one, other = ([value / math.log(2) for value in self.nats[name]] for name in (first, second))
        return paired(one, other, self.characters)


@dataclass(frozen=True)
class Comparison:
    """A whole comparison; the first run is what the others are measured against."""

    title: str
    subtitle: str
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    samples: tuple[Texts, ...]
    samples_note: str
    sides: tuple[RunSummary, ...] = ()
    rows: RowScores | None = None
    details: tuple[Table, ...] = ()
    """Long tables, which stand last on a page and not on a terminal."""
    version: str = field(default_factory=lambda: installed("congling"))


def compare(
    sides: Sequence[RunSummary],
    *,
    rows: RowScores | None = None,
    written: Mapping[str, Mapping[str, str]] | None = None,
    note: str = "",
) -> Comparison:
    """Gather what can be said of several runs; what was not recorded is left out.

    Args:
        sides: the runs, the first as the one to compare with.
        rows: what each thinks of given answers.
        written: texts by run and prompt, made for this comparison; recorded samples when not given.
        note: how those texts were made.
    """
    made = (
        _overview(sides, rows),
        _score_table(sides),
        _difference_table(sides, rows),
        _settings(sides),
        _warnings(sides),
    )
    if written is None:
        samples, note = _recorded(sides), note or "Samples of the last evaluation, as each run recorded them."
    else:
        samples = _side_by_side(sides, written)
    return Comparison(
        title=" · ".join(side.name for side in sides),
        subtitle=f"{len(sides)} runs; differences are taken from {sides[0].name}",
        tables=tuple(table for table in made if table.rows),
        charts=tuple(charts(sides)),
        samples=samples,
        samples_note=note,
        sides=tuple(sides),
        rows=rows,
    )


def same_tokenizer(sides: Sequence[RunSummary]) -> bool:
    """Whether all runs are known to count the same tokens, so that nats per token compare."""
    return len({side.tokenizer for side in sides}) == 1 and sides[0].tokenizer is not None


def same_text(first: RunSummary, second: RunSummary) -> bool:
    """Whether the held-out losses of two runs are known to be of the same text."""
    return bool(first.text & second.text)


def _overview(sides: Sequence[RunSummary], rows: RowScores | None) -> Table:
    nats = same_tokenizer(sides)
    head = ["run", "made by", "parameters", "trained", "tokens seen", "time", "best step"]
    head += [*(["held-out nats/token"] if nats else []), "held-out bits/char"]
    head += ["bits/char of the rows"] if rows is not None else []
    body = []
    for side in sides:
        sizes = ("–" if size is None else show_count(size) for size in (side.parameters, side.trained))
        cells = [side.name, side.made_by, *sizes]
        cells += [
            "–" if side.tokens is None else show_count(side.tokens),
            "–" if side.seconds is None else show_seconds(side.seconds),
        ]
        cells += [f"{side.step:,}", *([_number(side.nats)] if nats else []), _number(side.bits)]
        cells += [_number(rows.bits(side.name))] if rows is not None else []
        body.append(tuple(cells))
    return Table("Runs", tuple(head), tuple(body), frozenset(range(2, len(head))), _note(sides, rows))


def _note(sides: Sequence[RunSummary], rows: RowScores | None) -> str:
    """What must be known before any two losses are compared."""
    parts = []
    if not same_tokenizer(sides):
        parts.append("The tokenizers differ, or are not known: only bits per character compare.")
    splits = {side.split for side in sides if side.bits is not None}
    if len(splits) == 1:
        parts.append(f"Held-out losses are those of the {splits.pop()} split.")
    elif splits:
        named = ", ".join(f"{side.name} ({side.split})" for side in sides if side.bits is not None)
        parts.append(f"Held-out losses are of different splits: {named}.")
    scored = [side for side in sides if side.bits is not None and sides[0].bits is not None]
    if others := [side.name for side in scored[1:] if not same_text(sides[0], side)]:
        parts.append(
            f"The held-out text of {', '.join(others)} is not known to be that of {sides[0].name}: "
            "these losses are of different texts, and do not compare."
        )
    if rows is not None:
        parts.append(f"Scored on the same {len(rows.characters):,} answers, without their ends.")
        if rows.left_out:
            parts.append(f"Too long for one of the models, and counted for none: {rows.left_out:,}.")
    return " ".join(parts)


def _score_table(sides: Sequence[RunSummary]) -> Table:
    body = []
    for name in dict.fromkeys(name for side in sides for name in side.scores):
        found = [side.scores.get(name) for side in sides]
        counts = {one.n for one in found if one is not None}
        (count,) = counts if len(counts) == 1 else (None,)  # said once where all agree
        what = name if count is None else f"{name} (n {count:,})"
        body.append((what, *(_measured(one, tell_count=count is None) for one in found)))
    columns = frozenset(range(1, len(sides) + 1))
    note = "In brackets the 95 % interval, and n the number of cases, where the run recorded them."
    return Table("Scores", ("score", *(side.name for side in sides)), tuple(body), columns, note)


def _difference_table(sides: Sequence[RunSummary], rows: RowScores | None) -> Table:
    first, body = sides[0], []
    for side in sides[1:]:
        if side.bits is not None and first.bits is not None and same_text(first, side):
            found = difference(Measured(first.bits), Measured(side.bits))
            body.append(_difference_row("held-out bits/char", side, found))
        if rows is not None:
            found = rows.difference(first.name, side.name)
            body.append(_difference_row("bits/char of the rows", side, found))
        shared = [name for name in first.scores if name in side.scores]
        body += [
            _difference_row(name, side, difference(first.scores[name], side.scores[name])) for name in shared
        ]
    note = (
        "Paired: a bootstrap over the items both met. Unpaired: from the two intervals, as if the items had "
        "nothing to do with each other, so wider than need be. A star: the interval leaves out zero."
    )
    head = ("what", "run", "difference", "95 % interval", "how")
    return Table(f"Differences to {first.name}", head, tuple(body), frozenset({2, 3}), note)


def _difference_row(what: str, side: RunSummary, found: Difference) -> tuple[str, ...]:
    how = f"paired, {found.n:,} items" if found.how == "paired" else found.how
    interval = "–" if found.low is None else f"{found.low:+.3f} … {found.high:+.3f}"
    return what, side.name, f"{found.value:+.3f}" + (" *" if found.certain else ""), interval, how


def _settings(sides: Sequence[RunSummary]) -> Table:
    """The settings that are not the same in all runs, and the value in each."""
    rows = differing([side.run for side in sides])
    beyond = len(rows) - MOST_SETTINGS
    note = (
        "All others are the same."
        if beyond <= 0
        else f"Of these, the first {MOST_SETTINGS}; {beyond} more differ."
    )
    head = ("setting", *(side.name for side in sides))
    return Table("Settings that differ", head, tuple(rows[:MOST_SETTINGS]), note=note)


def _warnings(sides: Sequence[RunSummary]) -> Table:
    body = tuple(
        (side.name, finding.severity, finding.code, finding.what)
        for side in sides
        for finding in everything(side.run)
        if finding.severity != "note"
    )
    note = "congling explain RUN says why, and what to do."
    return Table("What stands out", ("run", "severity", "name", "what"), body, note=note)


def shared_prompts(sides: Sequence[RunSummary]) -> bool:
    """Whether the runs recorded samples of the same prompts, so that they can stand beside each other."""
    prompts = [frozenset(sample.prompt for sample in side.run.samples) for side in sides]
    return len(set(prompts)) == 1


def asked_prompts(sides: Sequence[RunSummary], most: int) -> list[str]:
    """Prompts of recorded samples, those that several runs have first, then in turn one of each run."""
    told = [[prompt.strip() for prompt in _last_looks(side) if prompt.strip()] for side in sides]
    turns = [prompt for turn in zip_longest(*told) for prompt in turn if prompt is not None]
    counts = Counter(prompt for prompts in told for prompt in set(prompts))
    return sorted(dict.fromkeys(turns), key=lambda prompt: -counts[prompt])[:most]


def _recorded(sides: Sequence[RunSummary]) -> tuple[Texts, ...]:
    """Recorded samples of each run's last evaluation; prompts that several runs have come first."""
    last = {side.name: _last_looks(side) for side in sides}
    prompts = dict.fromkeys(prompt for texts in last.values() for prompt in texts)
    order = sorted(prompts, key=lambda prompt: -sum(prompt in texts for texts in last.values()))
    return _side_by_side(sides, last, order[:MOST_PROMPTS])


def _last_looks(side: RunSummary) -> dict[str, str]:
    return {sample.prompt: sample.text for sample in sorted(side.run.samples, key=lambda one: one.step)}


def _side_by_side(
    sides: Sequence[RunSummary], texts: Mapping[str, Mapping[str, str]], prompts: Sequence[str] | None = None
) -> tuple[Texts, ...]:
    if prompts is None:
        prompts = list(dict.fromkeys(prompt for one in texts.values() for prompt in one))

    def cut(text: str | None) -> str | None:
        return None if text is None else text[:LONGEST_SAMPLE]

    return tuple(
        (prompt, tuple((side.name, cut(texts[side.name].get(prompt))) for side in sides))
        for prompt in prompts
    )


def _measured(score: Measured | None, *, tell_count: bool) -> str:
    if score is None:
        return "–"
    interval = "" if score.low is None or score.high is None else f"{score.low:.3f}–{score.high:.3f}"
    count = f"n {score.n:,}" if tell_count and score.n is not None else ""
    known = ", ".join(part for part in (interval, count) if part)
    return f"{score.value:.3f}" + (f" [{known}]" if known else "")


def _number(value: float | None) -> str:
    found = numeric(value)
    return "–" if found is None else f"{found:.3f}"
