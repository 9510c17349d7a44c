"""The tables of a report: each from what a run recorded, and left out where nothing was."""

from collections.abc import Mapping
from dataclasses import dataclass

from congling.core.units import show_bytes, show_seconds
from congling.data.split import HELD_OUT
from congling.report.explain import seconds_per_step
from congling.report.record import RunRecord, mapping, numeric

REFERENCES = ("uniform", "unigram", "bigram", "floor")
"""Names of reference lines, in the order in which they are shown."""


@dataclass(frozen=True)
class Table:
    """Rows of text; ``numeric`` columns are set flush right."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    note: str = ""


def tables(run: RunRecord) -> tuple[Table, ...]:
    """Every table that has rows, the most telling first."""
    made = (
        _loss_table(run),
        _copy_table(run),
        _rule_table(run),
        _plan_table(run),
        _model_table(run),
        _corpus_table(run),
        _choice_table(run),
    )
    return tuple(table for table in made if table is not None and table.rows)


def total_seconds(run: RunRecord) -> float | None:
    """Wall-clock seconds of the run: as recorded, else up to the last timing row."""
    recorded = numeric(run.results.get("seconds"))
    return recorded if recorded is not None else max(run.seconds_at().values(), default=None)


def _loss_table(run: RunRecord) -> Table:
    held_out = mapping(run.results.get("held_out"))
    rows: list[tuple[str, ...]] = [
        (f"{name} (reference)", f"{run.scored_lines[name]:.3f}", "", "", "")
        for name in REFERENCES
        if name in run.scored_lines
    ]
    if run.best is not None:
        rows.append(
            (
                f"best during training ({HELD_OUT['validation']}), step {run.best.step:,}",
                f"{run.best.bits_per_character:.3f}",
                *(_number(run.best.values.get(name)) for name in ("bits_per_byte", "loss", "perplexity")),
            )
        )
    if held_out:
        rows.append(
            (
                f"this model, every token ({HELD_OUT[run.scored]})",
                *(
                    _number(held_out.get(name))
                    for name in ("bits_per_character", "bits_per_byte", "nats_per_token", "perplexity")
                ),
            )
        )
    tokens, characters = numeric(held_out.get("tokens")), numeric(held_out.get("characters"))
    note = (
        f"{tokens:,.0f} held-out tokens, {characters:,.0f} characters, never trained on."
        if tokens and characters
        else ""
    )
    return Table(
        "Held-out loss",
        ("model", "bits/character", "bits/byte", "nats/token", "perplexity"),
        tuple(rows),
        frozenset({1, 2, 3, 4}),
        note,
    )


def _rule_table(run: RunRecord) -> Table | None:
    found = mapping(run.results.get("rules"))
    names = {
        "grammar": "characters in sentences of the world",
        "facts": "statements that contradict nothing before",
        "couplets": "couplet lines whose sides match",
        "sums": "sums that are right",
    }
    values = ((text, numeric(found.get(name))) for name, text in names.items())
    rows = tuple((text, f"{value:.1%}") for text, value in values if value is not None)
    if not rows:
        return None
    note = f"Judged by rule in {found.get('texts', 0)} texts the model wrote from nothing."
    return Table("Right by the rules of the small world", ("what", "share"), rows, note=note)


def _copy_table(run: RunRecord) -> Table | None:
    found = mapping(run.results.get("copying"))
    if not found:
        return None
    rows = [
        ("generated text inside copied spans", f"{numeric(found.get('rate')) or 0:.1%}"),
        ("longest copied span", f"{found.get('longest', 0)} characters"),
    ]
    if found.get("longest_text"):
        rows.append(("that span", str(found["longest_text"])[:200]))
    return Table(
        "Copied from the training text",
        ("what", "how much"),
        tuple(rows),
        note=f"A span counts from {found.get('span', 20)} characters on that stand verbatim in the "
        "training text.",
    )


def _plan_table(run: RunRecord) -> Table | None:
    cost = mapping(run.plan.get("cost"))
    pairs = (
        ("time", numeric(cost.get("seconds")), total_seconds(run), show_seconds),
        (
            "a step",
            numeric(cost.get("seconds_per_step")),
            seconds_per_step(run),
            lambda value: f"{1000 * value:,.0f} ms",
        ),
        (
            "peak memory",
            numeric(cost.get("peak_memory")),
            numeric(run.results.get("peak_memory")),
            show_bytes,
        ),
    )
    rows = tuple(
        (name, show(planned), show(measured), f"{measured / planned - 1:+.0%}")
        for name, planned, measured, show in pairs
        if planned and measured
    )
    return Table(
        "Plan and measurement", ("what", "planned", "measured", "difference"), rows, frozenset({1, 2, 3})
    )


def _model_table(run: RunRecord) -> Table:
    parts = {
        part: count
        for part, value in mapping(mapping(run.plan.get("cost")).get("parameters")).items()
        if (count := numeric(value) or 0) > 0
    }
    total = sum(parts.values())
    rows = [(part, f"{count:,.0f}", f"{count / total:.1%}") for part, count in parts.items()]
    return Table(
        "Model",
        ("part", "parameters", "share"),
        (*rows, ("total", f"{total:,.0f}", "")) if rows else (),
        frozenset({1, 2}),
    )


def _corpus_table(run: RunRecord) -> Table:
    corpus = mapping(run.plan.get("corpus"))
    names = {
        "characters": "training characters",
        "tokens": "training tokens",
        "documents": "training documents",
        "median_tokens": "tokens of the median document",
        "vocab_size": "vocabulary",
        "validation_tokens": "held-out tokens (validation)",
        "validation_documents": "held-out documents (validation)",
        **(
            {"test_tokens": "held-out tokens (test)", "test_documents": "held-out documents (test)"}
            if numeric(corpus.get("test_documents"))
            else {}
        ),
    }
    rows = [
        (label, f"{value:,.0f}")
        for key, label in names.items()
        if (value := numeric(corpus.get(key))) is not None
    ]
    characters, tokens = numeric(corpus.get("characters")), numeric(corpus.get("tokens"))
    if characters and tokens:
        rows.append(("characters a token", f"{characters / tokens:.2f}"))
    return Table("Corpus and tokenizer", ("what", "how much"), tuple(rows), frozenset({1}))


def _choice_table(run: RunRecord) -> Table:
    choices = run.plan.get("choices")
    rows = (
        [
            tuple(_plain(one.get(key, "")) for key in ("key", "value", "why"))
            for one in choices
            if isinstance(one, Mapping)
        ]
        if isinstance(choices, list)
        else []
    )
    return Table("Why these settings", ("choice", "value", "why"), tuple(rows))


def _plain(value: object) -> str:
    """Truth as it stands in a recipe, all else as it is."""
    text = str(value)
    return text.lower() if text in ("True", "False") else text


def _number(value: object) -> str:
    found = numeric(value)
    return "" if found is None else f"{found:,.3f}"
