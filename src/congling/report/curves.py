"""Curves of several runs in one picture: one kind of number in each, however many runs measure it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from congling.report.charts import Series
from congling.report.drawing import LARGE, SMALL, Chart, chart
from congling.report.measures import FIRST, columns, kind_of, measure
from congling.report.record import RunRecord, numeric
from congling.report.sides import RunSummary

MOST_CHARTS = 24
_BITS = "bits_per_character"
Points = list[tuple[float, float]]
Picture = tuple[str, str, list[Series], dict[str, str]]
"""Title, file, series and labels of the axes."""


def charts(sides: Sequence[RunSummary]) -> Iterator[Chart]:
    """Losses over tokens and over time, then a picture for each other number that is measured.

    Losses of texts, of answers and of methods never stand in one picture, nor nats of different tokens.
    """
    losses = [
        (f"validation_{_BITS}", "Held-out loss", "held-out", _over_tokens, "tokens seen"),
        (f"validation_{_BITS}", "Held-out loss over time", "held-out-time", _over_minutes, "minutes"),
        (_BITS, "Training loss", "training", _over_tokens, "tokens seen"),
    ]
    found = [picture for loss in losses for picture in _pictures(sides, *loss)]
    for name in _others(sides):
        file = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
        found += _pictures(sides, name, "", f"metric-{file}", _over_steps, "step")
    for number, (title, file, series, labels) in enumerate(found[:MOST_CHARTS]):
        yield chart(title, file, series, size=SMALL if number else LARGE, **labels)


def _pictures(
    sides: Sequence[RunSummary],
    metric: str,
    title: str,
    file: str,
    points: Callable[[RunRecord, str], Points],
    x_label: str,
) -> Iterator[Picture]:
    """One picture for each kind of a number, by its own name where ``title`` is empty; of several kinds the
    title says which it is.

    A series keeps the colour of its run in all of them.
    """
    shown = [side for side in sides if metric in _shown(side)]
    drawn = [(side, found, _kind(side, metric)) for side in shown if (found := points(side.run, metric))]
    kinds = list(dict.fromkeys(kind for _, _, kind in drawn))
    for number, kind in enumerate(kinds):
        mine = {side.name: found for side, found, one in drawn if one == kind}
        looked = metric.startswith("validation_")
        series = [Series(side.name, mine.get(side.name, []), dots=looked, faint=not looked) for side in sides]
        first = next(side.run for side, _, one in drawn if one == kind)
        what = measure(first, metric)
        told = title or ("Held-out " if looked else "") + what.title
        label = kind[1] if len({one[1] for one in kinds}) == len(kinds) else ", ".join(mine)
        told += f" ({label})" if len(kinds) > 1 and label not in told else ""
        labels = {"x_label": x_label, "y_label": what.unit}
        yield told[:1].upper() + told[1:], file if number == 0 else f"{file}-{number + 1}", series, labels


def _kind(side: RunSummary, metric: str) -> tuple[str, str, str]:
    """What only its like may stand beside: unit, kind of the number, and the tokenizer whose tokens count."""
    unit = measure(side.run, metric).unit
    counted = (side.tokenizer or "") if "nats/token" in unit else ""
    return unit, kind_of(side.run, metric), counted


def _others(sides: Sequence[RunSummary]) -> list[str]:
    """Numbers beyond the loss in bits per character, the most telling first, held-out before the others."""
    names = {name for side in sides for name in _shown(side) if name.removeprefix("validation_") != _BITS}
    order = {name: place for place, name in enumerate(FIRST)}

    def place(name: str) -> tuple[int, str, bool]:
        bare = name.removeprefix("validation_")
        return order.get(bare, len(order)), bare, bare == name

    return sorted(names, key=place)


def _shown(side: RunSummary) -> set[str]:
    """What is drawn of a run: the loss in nats only where it is not known in bits per character."""
    names = set(columns(side.run))
    return names - {f"{prefix}loss" for prefix in ("", "validation_") if prefix + _BITS in names}


def _over_steps(run: RunRecord, metric: str) -> Points:
    return _points(run, metric, lambda row, step: step)


def _over_tokens(run: RunRecord, metric: str) -> Points:
    tokens = {row.step: row.tokens for row in run.steps}

    def place(row: Mapping[str, Any], step: float) -> float | None:
        known = numeric(row.get("tokens"))
        return known if known is not None else tokens.get(int(step), 0.0 if step == 0 else None)

    return _points(run, metric, place)


def _over_minutes(run: RunRecord, metric: str) -> Points:
    at = run.seconds_at() | {0: 0.0}
    return _points(run, metric, lambda row, step: at[int(step)] / 60 if int(step) in at else None)


def _points(run: RunRecord, metric: str, place: Callable[[Mapping[str, Any], float], float | None]) -> Points:
    found: Points = []
    for row in run.metrics:
        value, step = numeric(row.get(metric)), numeric(row.get("step"))
        if value is not None and step is not None and (x := place(row, step)) is not None:
            found.append((x, value))
    return found
