"""The curves of one run: loss and training for any method, and each number that its method measures."""

import math
from collections.abc import Sequence

from congling.data.split import HELD_OUT
from congling.report.charts import Reference, Series
from congling.report.drawing import SMALL, Chart, chart
from congling.report.measures import FIRST, columns, measure, points
from congling.report.record import RunRecord, numeric
from congling.report.run_tables import REFERENCES

TOGETHER = (("chosen", "rejected"),)
"""Numbers that stand in one picture, since what tells is how they part."""
MOST = 14
_TRAINING, _LOOKED_AT = "training", HELD_OUT["validation"]


def charts(run: RunRecord) -> list[Chart]:
    """The curves of a run, the most telling first: of texts always the same five, else what was recorded."""
    if run.method.corpus:
        return [*_of_texts(run), *_measured(run, {"divergence"}), *_of_training(run)]
    found = [*_measured(run), *_of_training(run)]
    return [one for one in found if "<polyline" in one.svg] or [_nothing()]


def _of_texts(run: RunRecord) -> list[Chart]:
    """The loss in bits per character beside the reference lines; in nats per token where only that is
    known."""
    at = run.seconds_at()
    if run.held_out or any(math.isfinite(row.bits_per_character) for row in run.steps):
        train = [(row.step, row.tokens, row.bits_per_character) for row in run.steps]
        held_out = [(row.step, row.tokens, row.bits_per_character) for row in run.held_out]
        unit, lines = "bits per character", run.reference_lines
    else:
        tokens = {row.step: row.tokens for row in run.steps} | {0: 0.0}
        looks = {step: look["loss"] for step, look in run.looks.items() if "loss" in look}
        train = [(row.step, row.tokens, row.loss) for row in run.steps]
        held_out = [(step, tokens[step], loss) for step, loss in looks.items() if step in tokens]
        unit, lines = "nats per token", {}
    references = [Reference(name, lines[name]) for name in REFERENCES if name in lines]
    by_tokens = [[(seen, loss) for _, seen, loss in rows] for rows in (train, held_out)]
    by_minutes = [
        [(at[step] / 60, loss) for step, _, loss in rows if step in at] for rows in (train, held_out)
    ]
    return [
        chart("Loss", "loss", _both(*by_tokens), x_label="tokens seen", y_label=unit, references=references),
        chart(
            "Loss over time",
            "loss-time",
            _both(*by_minutes),
            x_label="minutes",
            y_label=unit,
            references=references,
            size=SMALL,
        ),
    ]


def _measured(run: RunRecord, only: set[str] | None = None) -> list[Chart]:
    """A picture for each number that is measured, in training and on held-out rows."""
    names = list(dict.fromkeys(name.removeprefix("validation_") for name in columns(run)))
    if only is None and "bits_per_character" in names and run.method.next_token:
        names.remove("loss")  # the same in another unit
    names = [name for name in names if only is None or name in only]
    order = {name: place for place, name in enumerate(FIRST)}
    names.sort(key=lambda name: order.get(name, len(FIRST)))
    found: list[Chart] = []
    for name in names[:MOST]:
        group = next((group for group in TOGETHER if name in group and set(group) <= set(names)), None)
        if group is not None and name != group[0]:
            continue
        size = {} if not found and only is None else {"size": SMALL}
        found.append(_picture(run, group or (name,), **size))
    return found


def _picture(run: RunRecord, names: Sequence[str], **options: tuple[int, int]) -> Chart:
    what = measure(run, names[0])
    series = [
        Series(
            f"{name}, {part}" if len(names) > 1 else part,
            points(run, prefix + name),
            dots=bool(prefix),
            faint=not prefix,
        )
        for name in names
        for part, prefix in ((_TRAINING, ""), (_LOOKED_AT, "validation_"))
    ]
    title = " and ".join(names) + " answers" if len(names) > 1 else what.title
    file = "-".join(names).replace("_", "-")
    file = "".join(letter for letter in file if letter.isascii() and (letter.isalnum() or letter == "-"))
    return chart(_heading(title), f"metric-{file}", series, x_label="step", y_label=what.unit, **options)


def _of_training(run: RunRecord) -> list[Chart]:
    """How training itself went: rate, gradients, speed."""
    if not run.steps:
        return []
    peak = max((row.lr for row in run.steps if row.lr > 0), default=1.0)
    speed, nouns = _speeds(run), run.method.count(2)
    return [
        chart(
            "Learning rate",
            "rate",
            [Series("learning rate", [(row.step, row.lr) for row in run.steps])],
            x_label="step",
            y_label="learning rate",
            y_range=(0.0, peak),
            size=SMALL,
        ),
        chart(
            "Gradient norm",
            "gradient",
            [Series("norm", [(row.step, row.gradient_norm) for row in run.steps], faint=True)],
            x_label="step",
            y_label="norm before clipping",
            size=SMALL,
        ),
        chart(
            "Speed",
            "speed",
            [Series(f"{nouns}/s", speed, faint=True)],
            x_label="step",
            y_label=f"{nouns} per second",
            size=SMALL,
        ),
    ]


def _speeds(run: RunRecord) -> list[tuple[float, float]]:
    pairs = ((numeric(row.get("step")), numeric(row.get("tokens_per_second"))) for row in run.timing)
    return [(step, speed) for step, speed in pairs if step is not None and speed is not None]


def _both(train: list[tuple[float, float]], held_out: list[tuple[float, float]]) -> list[Series]:
    return [Series(_TRAINING, train, faint=True), Series(_LOOKED_AT, held_out, dots=True)]


def _nothing() -> Chart:
    return chart("Loss", "loss", [], x_label="step", y_label="loss")


def _heading(title: str) -> str:
    return title[:1].upper() + title[1:]
