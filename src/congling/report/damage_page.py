"""The damage of quantised models as tables and charts: what each lost, and where."""

from collections.abc import Callable, Iterator, Sequence

from congling.core.units import show_bytes
from congling.evals.damage import Band, Recovery
from congling.evals.paired import Difference, Measured
from congling.interop.stored_bits import PARTS, StoredBits
from congling.report.charts import Series
from congling.report.comparison import Comparison, Texts
from congling.report.damage import PARTED, DamageReport, WritingScores, bits_per_weight
from congling.report.drawing import SMALL, Chart, chart
from congling.report.run_tables import Table

_INTERVAL = "95 % interval"


def page(found: DamageReport) -> Comparison:
    """Everything, laid out like a comparison."""
    made = (
        _overview(found),
        _warnings(found),
        _calibration(found),
        _bits(found),
        _layers(found),
        _positions(found),
        _texts(found),
    )
    names = ", ".join(one.name for one in found.models)
    return Comparison(
        title=f"{names} against {found.base}",
        subtitle="; ".join(one.line for one in found.models),
        tables=tuple(table for table in made if table.rows),
        charts=tuple(_charts(found)),
        samples=tuple(_samples(found)),
        details=tuple(_matrices(found)),
        samples_note=f"Greedy; {PARTED} stands where a text parts from that of {found.base}.",
    )


def _overview(found: DamageReport) -> Table:
    """A column for each model, intervals in lines of their own: narrow enough for a telephone."""
    stored = [found.stored, *(one.stored for one in found.models)]
    damages = [one.damage for one in found.models]
    rows = [
        ("bits a weight", *(f"{bits_per_weight(found, one):.2f}" for one in stored)),
        ("file", *(show_bytes(one.file_bytes) for one in stored)),
        ("KL, nats/token", "", *(nats(one.kl.value) for one in damages)),
        (_INTERVAL, "", *(between(one.kl, nats) for one in damages)),
        ("KL, 99 % of tokens below", "", *(nats(one.kl_99) for one in damages)),
        ("same top-1 token", "", *(f"{one.agreement.value:.2%}" for one in damages)),
        ("loss, nats/token", f"{damages[0].before:.4f}", *(f"{one.nats.value:+.4f}" for one in damages)),
        (_INTERVAL, "", *(between(one.nats, "{:+.4f}".format) for one in damages)),
        *_saved([one.recovery for one in found.models]),
        ("verdict", "", *(one.verdict for one in damages)),
    ]
    head = ("", found.base, *(one.name for one in found.models))
    note = f"{found.text} Loss: of the base, then by how much each is worse, paired."
    return Table("Damage", head, tuple(rows), frozenset(range(1, len(head))), note)


def _saved(found: Sequence[Recovery | None]) -> Iterator[tuple[str, ...]]:
    """What is saved of the damage of rounding to nearest, where a model has its grid."""
    if not any(found):
        return
    yield "of RTN's KL saved", "", *("" if one is None else f"{one.kl.value:.1%}" for one in found)
    yield _INTERVAL, "", *("" if one is None else between(one.kl, "{:.1%}".format) for one in found)
    losses = ("" if one is None or one.nats is None else f"{one.nats:.1%}" for one in found)
    yield "of RTN's loss saved", "", *losses


def _warnings(found: DamageReport) -> Table:
    rows = [(one.name, text) for one in found.models for text in one.warnings]
    return Table("Warnings", ("model", "warning"), tuple(rows))


def _calibration(found: DamageReport) -> Table:
    told = [one for one in found.models if one.calibration]
    keys = dict.fromkeys(key for one in told for key in one.calibration)
    rows = [(key, *(one.calibration.get(key, "") for one in told)) for key in keys]
    return Table("How it was quantised", ("", *(one.name for one in told)), tuple(rows))


def _bits(found: DamageReport) -> Table:
    total = sum(found.weights.values())
    stored = [found.stored, *(one.stored for one in found.models)]
    rows = [
        (part, f"{count:,}", f"{count / total:.1%}", *(_part(one, part, count) for one in stored))
        for part in PARTS
        if (count := found.weights.get(part, 0)) or any(one.tensor_bytes[part] for one in stored)
    ]
    rows.append(("all", f"{total:,}", "", *(f"{one.bits(total):.2f}" for one in stored)))
    head = ("part", "weights", "share", found.base, *(one.name for one in found.models))
    return Table(
        "Bits a weight", head, tuple(rows), frozenset(range(1, len(head))), "As stored in the files."
    )


def _part(one: StoredBits, part: str, weights: int) -> str:
    if weights:
        return f"{8 * one.tensor_bytes[part] / weights:.2f}"
    return show_bytes(one.tensor_bytes[part]) if one.tensor_bytes[part] else ""


def _layers(found: DamageReport) -> Table:
    known = [(one.name, one.layers) for one in found.models if one.layers is not None]
    if not known:
        return Table("One layer at a time", (), ())
    head = ["layer"]
    for name, _ in known:
        head += [f"{name}: KL (of the sum)", "error"]
    rows = []
    for index, layer in enumerate(known[0][1].layers):
        cells = [layer.name]
        for _, report in known:
            own = report.layers[index]
            share = f" ({own.kl / report.total:.0%})" if report.total > 0 else ""
            cells += [nats(own.kl) + share, _small(own.error)]
        rows.append(tuple(cells))
    sums = [cell for _, report in known for cell in (nats(report.total), "")]
    whole = [cell for _, report in known for cell in (nats(report.whole), "")]
    rows += [("sum", *sums), ("all at once", *whole)]
    count = known[0][1].tokens
    note = f"Each layer quantised alone, on {count:,} tokens. Error: ‖ŷ − y‖² / ‖y‖² of what a block adds."
    return Table("One layer at a time", tuple(head), tuple(rows), frozenset(range(1, len(head))), note)


def _matrices(found: DamageReport) -> Iterator[Table]:
    for one in found.models:
        if one.layers is None:
            continue
        rows = [
            (
                matrix.name,
                *(_small(value) for value in (matrix.weight_error, matrix.output_error)),
                "" if matrix.outlier_ratio is None else f"{matrix.outlier_ratio:.1f}",
                "" if matrix.outliers is None else str(matrix.outliers),
            )
            for matrix in one.layers.matrices
        ]
        head = ("matrix", "‖W−Ŵ‖² / ‖W‖²", "‖ŷ−y‖² / ‖y‖²", "max |x| / median", "channels ≥ 6.0")
        note = "Errors on inputs of the base; its largest |x| of a channel by the median of the channels."
        if one.layers.folded:
            note += (
                " Norms differ: scales are folded in, or weights were trained since; matrices do not compare."
            )
        yield Table(f"Matrices of {one.name}", head, tuple(rows), frozenset({1, 2, 3, 4}), note)


def _positions(found: DamageReport) -> Table:
    head = ["tokens read", f"{found.base}: nats/token"]
    for one in found.models:
        head += [f"{one.name}: KL", "loss"]
    rows = []
    for index, band in enumerate(found.models[0].bands):
        cells = [f"{band.first:,} – {band.last:,}", f"{band.before:.4f}"]
        for one in found.models:
            cells += [nats(one.bands[index].kl.value), _difference(one.bands[index].nats)]
        rows.append(tuple(cells))
    note = "By how many tokens of the window were read before."
    return Table("By position", tuple(head), tuple(rows), frozenset(range(len(head))), note)


def _texts(found: DamageReport) -> Table:
    rows = [(found.base, "", *_written(found.writing))]
    for one in found.models:
        equal, tokens = (sum(getattr(text, name) for text in one.greedy) for name in ("equal", "tokens"))
        parted = f"{equal:,} of {tokens:,}" if one.greedy else ""
        rows.append((one.name, parted, *_written(one.writing)))
    head = ("model", "greedy tokens until texts part", "right by the small world's rules", "copied")
    kept = [0, *(i for i in range(1, len(head)) if any(row[i] for row in rows))]
    narrow = tuple(tuple(row[i] for i in kept) for row in rows) if len(kept) > 1 else ()
    return Table("What they write", tuple(head[i] for i in kept), narrow, frozenset(range(1, len(kept))))


def _written(scores: WritingScores) -> tuple[str, str]:
    rules = "" if scores.rules is None else f"{scores.rules.score:.1%}"
    return rules, "" if scores.copying is None else f"{scores.copying.rate:.1%}"


def _samples(found: DamageReport) -> Iterator[Texts]:
    for index, text in enumerate(found.models[0].greedy):
        others = [(one.name, one.greedy[index].after) for one in found.models]
        yield text.prompt, ((found.base, text.before), *others)


def _charts(found: DamageReport) -> Iterator[Chart]:
    layered = [
        Series(one.name, [(float(i), part.kl) for i, part in enumerate(one.layers.layers)], dots=True)
        for one in found.models
        if one.layers is not None
    ]
    if layered:
        yield chart(
            "KL of each layer quantised alone",
            "layers",
            layered,
            x_label="0 = embedding, blocks, output last",
            y_label="nats/token",
            size=SMALL,
        )
    if len(found.models[0].bands) > 1:
        series = [
            Series(one.name, _curve(one.bands), dots=True, band=list(_around(one.bands)))
            for one in found.models
        ]
        labels = {"x_label": "tokens read before", "y_label": "nats/token"}
        yield chart("KL by position", "positions", series, log_x=True, size=SMALL, **labels)


def _curve(bands: Sequence[Band]) -> list[tuple[float, float]]:
    return [(float(band.last), band.kl.value) for band in bands]


def _around(bands: Sequence[Band]) -> Iterator[tuple[float, float, float]]:
    for band in bands:
        if band.kl.low is not None and band.kl.high is not None:
            yield float(band.last), band.kl.low, band.kl.high


def between(one: Measured | Difference, form: Callable[[float], str]) -> str:
    """An interval, where there is one."""
    return "" if one.low is None or one.high is None else f"{form(one.low)} … {form(one.high)}"


def nats(value: float) -> str:
    """Nats to three digits, however small.

    >>> nats(0.0123456), nats(0.00000123), nats(0.0)
    ('0.0123', '1.23e-06', '0')
    """
    return f"{value:.3g}"


def _difference(one: Difference) -> str:
    around = between(one, "{:+.4f}".format)
    return f"{one.value:+.4f}" + (f" ({around})" if around else "")


def _small(value: float | None) -> str:
    return "" if value is None else f"{value:.2e}"
