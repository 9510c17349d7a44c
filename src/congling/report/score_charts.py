"""Curves of scores that ``eval --tasks`` measured, one picture for each group that has one."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from congling.evals import length_scores
from congling.evals.scores import Score
from congling.report.charts import Series
from congling.report.drawing import SMALL, Chart, chart
from congling.report.finding_charts import COPYING, NEEDLES, copying_chart, needle_charts
from congling.report.recorded_scores import measured


def score_charts(results: Mapping[str, Any]) -> Iterator[Chart]:
    """Pictures of what a run or checkpoint was measured by."""
    for number, one in enumerate(measured(results), 1):
        if one.task == length_scores.NAME and (found := _length(one.title, number, one.scores)) is not None:
            yield found
        if one.task == COPYING and (found := copying_chart(one.title, number, one.scores)) is not None:
            yield found
        if one.task == NEEDLES:
            yield from needle_charts(one.title, number, one.scores)


def _length(title: str, number: int, scores: Sequence[Score]) -> Chart | None:
    """Loss of the same tokens over tokens read: the model's, and the line that it has to beat.

    The band is the interval of the difference to the trained length, which alone has no gain.
    """
    found = length_scores.by_length(scores)
    own, gain, plain = found["nats"], found["gain"], found["plain"]
    trained = next((n for n in own if n not in gain), None)
    if not own or trained is None:
        return None
    start, last = own[trained].value, max([*own, *plain])
    band = [(float(n), start - high, start - low) for n, low, high in _intervals(gain)]
    band.append((float(trained), start, start))
    series = [Series("this model", _points(own), dots=True, band=sorted(band))]
    sliding = [score.value for score in scores if score.name == length_scores.SLIDING]
    if sliding:
        line = [(float(trained), sliding[0]), (float(last), sliding[0])]
        series.append(Series(f"without extension, sliding over {trained:,}", line))
    low, high = _range(series)
    beyond = [*([(float(trained), sliding[0])] if sliding and plain else []), *_points(plain)]
    series.append(Series("without extension, read on", _until(beyond, high), faint=True))
    return chart(
        f"Loss by {title}",
        f"length-{number}",
        series,
        x_label="tokens read, the scored ones last",
        y_label="nats/token",
        y_range=(low, high),
        log_x=True,
        size=SMALL,
    )


def _points(scores: Mapping[int, Score]) -> list[tuple[float, float]]:
    return [(float(n), scores[n].value) for n in sorted(scores)]


def _intervals(scores: Mapping[int, Score]) -> Iterator[tuple[int, float, float]]:
    for n, score in scores.items():
        if score.low is not None and score.high is not None:
            yield n, score.low, score.high


def _range(series: Sequence[Series]) -> tuple[float, float]:
    """Around the model and the line to beat: what fails beyond its length may leave the picture."""
    values = [y for one in series for _, y in one.points]
    values += [end for one in series for _, *ends in one.band for end in ends]
    low, high = min(values), max(values)
    margin = 0.1 * (high - low) or 0.1
    return max(0.0, low - margin), high + margin


def _until(points: Sequence[tuple[float, float]], high: float) -> list[tuple[float, float]]:
    """The points up to the first that is not in the picture."""
    inside = next((place for place, (_, y) in enumerate(points) if y > high), len(points))
    return list(points[: inside + 1])
