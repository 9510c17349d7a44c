"""Curves of several runs in one picture: losses in bits a character, and whatever else their methods log."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from congling.plan.record import RunRecord, numeric
from congling.report.charts import Series
from congling.report.content import SMALL, Chart, chart
from congling.report.sides import Side

MOST_CHARTS = 10
_PLACES = {"step", "tokens", "lr", "rate", "gradient_norm", "skipped"}
_UNITS = {
    "bits_per_character": "bits/char", "loss": "nats/token, or the method's own loss", "kl": "nats/token",
    "entropy": "nats/token", "length": "tokens an answer", "ended": "share of the answers",
    "accuracy": "share", "clipped": "share",
}  # fmt: skip
Points = list[tuple[float, float]]


def charts(sides: Sequence[Side]) -> Iterator[Chart]:
    """Held-out loss over tokens and over time, training loss, then a picture for each other metric."""
    held_out = "validation_bits_per_character"
    yield _overlaid(sides, "Held-out loss", "held-out", held_out, _over_tokens, "tokens seen", dots=True)
    yield _overlaid(
        sides,
        "Held-out loss over time",
        "held-out-time",
        held_out,
        _over_minutes,
        "minutes",
        dots=True,
        small=True,
    )
    yield _overlaid(
        sides, "Training loss", "training", "bits_per_character", _over_tokens, "tokens seen", small=True
    )
    for name in _others(sides)[:MOST_CHARTS]:
        looked = name.startswith("validation_")
        title = ("Held-out " if looked else "") + name.removeprefix("validation_").replace("_", " ")
        title = "KL" if title == "kl" else title
        file = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
        yield _overlaid(
            sides,
            title[:1].upper() + title[1:],
            f"metric-{file}",
            name,
            _over_steps,
            "step",
            dots=looked,
            small=True,
        )


def _others(sides: Sequence[Side]) -> list[str]:
    """Metrics beyond the loss in bits a character; the loss itself where a run has no bits."""
    counts: dict[str, int] = {}
    for side in sides:
        names = {name for row in side.run.metrics for name in row if numeric(row[name]) is not None} - _PLACES
        for kind in ("", "validation_"):
            if f"{kind}bits_per_character" in names:
                names -= {f"{kind}bits_per_character", f"{kind}loss"}
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: (-counts[name], name))


def _overlaid(
    sides: Sequence[Side], title: str, file: str, metric: str,
    points: Callable[[RunRecord, str], Points], x_label: str, *, dots: bool = False, small: bool = False,
) -> Chart:  # fmt: skip
    series = [Series(side.name, points(side.run, metric), dots=dots, faint=not dots) for side in sides]
    bare = metric.removeprefix("validation_")
    size: dict[str, Any] = {"size": SMALL} if small else {}
    return chart(
        title, file, series, x_label=x_label, y_label=_UNITS.get(bare, bare.replace("_", " ")),
        legend_above=True, **size,
    )  # fmt: skip


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
