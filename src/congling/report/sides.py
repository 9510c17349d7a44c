"""One side of a comparison: what a run is and how good it became, read from its directory; no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from congling.evals.paired import Measured
from congling.evals.scores import labelled
from congling.report.measures import called
from congling.report.origin import manifest_of
from congling.report.record import RunRecord, locate, mapping, numeric, read
from congling.report.vocabularies import tokenizers_of
from congling.report.weights import checkpoint_of, parameters_of, trained_of

MOST_SCORES = 200
_DEEPEST = 6  # tables within tables of results.json that are looked into
_PLAIN = {"rules": ("score", "grammar", "facts", "couplets", "sums"), "copying": ("rate",)}
"""Results whose numbers stand in them as they are."""
_LOSSES = {"loss", "bits_per_character"}


@dataclass(frozen=True)
class RunSummary:
    """A run among others."""

    name: str
    run: RunRecord
    made_by: str
    """The verb that trained it, and what was trained."""
    parameters: int | None
    """Of the whole model; None where the run does not tell."""
    trained: int | None
    """How many of them were trained, or in an adapter beside them."""
    step: int
    """Of the best checkpoint."""
    tokens: float | None
    """Targets seen up to the end of the run; None where pairs are counted."""
    seconds: float | None
    nats: float | None
    """Held-out loss in nats per token, of the best checkpoint."""
    bits: float | None
    """The same in bits per character."""
    split: str
    """The split these losses are of: that of the final score, or validation where there is none."""
    tokenizer: str | None
    """Which pieces its text falls into: equal for runs that count the same tokens; None where not known."""
    text: frozenset[str]
    """What is known of the held-out text; two runs that share one of these were measured on the same text."""
    scores: Mapping[str, Measured]
    """Results by name, such as ``choice/accuracy``."""


def summaries(paths: Sequence[Path | str]) -> list[RunSummary]:
    """Read runs, each under a name of its own.

    Raises:
        UserError: there is no run at one of the paths.
    """
    runs = [read(locate(path)) for path in paths]
    names = _names([run.path for run in runs])
    tokenizers = tokenizers_of(runs)
    return [_side(*one) for one in zip(names, runs, tokenizers, strict=True)]


def _side(name: str, run: RunRecord, tokenizer: str | None) -> RunSummary:
    checkpoint = checkpoint_of(run)
    manifest = manifest_of(checkpoint) if checkpoint is not None else {}
    last = run.steps[-1] if run.steps else None
    step = numeric(mapping(manifest.get("facts")).get("step"))
    step = int(step) if step is not None else last.step if last else 0
    held_out, look = mapping(run.results.get("held_out")), _look(run, step)
    nats, bits = numeric(held_out.get("nats_per_token")), numeric(held_out.get("bits_per_character"))
    # A loss of texts comes with bits per character; that of a pair is in other units, and counts pairs.
    of_texts = bits is not None or "bits_per_character" in look
    seconds, split = run.seconds_at(), run.scored if bits is not None else "validation"
    return RunSummary(
        name=name,
        run=run,
        made_by=_made_by(run, manifest, checkpoint),
        parameters=parameters_of(run),
        trained=trained_of(run),
        step=step,
        tokens=_tokens(run) if of_texts or ("loss" not in look and "token" in run.method.counted) else None,
        seconds=numeric(run.results.get("seconds")) or max(seconds.values(), default=None),
        nats=nats if nats is not None else look.get("loss") if of_texts else None,
        bits=bits if bits is not None else look.get("bits_per_character"),
        split=split,
        tokenizer=tokenizer,
        text=_text(run, manifest, split),
        scores=_scores(run.results, step)
        | {
            f"held-out {called(run, key)}": Measured(value)
            for key, value in look.items()
            if key not in _LOSSES or not of_texts
        },
    )


def _tokens(run: RunRecord) -> float:
    return max((numeric(row.get("tokens")) or 0.0 for row in run.metrics), default=0.0)


def _names(paths: Sequence[Path]) -> list[str]:
    """Last parts of the paths, as many as tell them apart; for `congling train` that of its --out."""
    parts = [path.resolve().parts for path in paths]
    parts = [part[:-1] if part[-1] == "run" and len(part) > 2 else part for part in parts]
    for count in (1, 2, 3):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(names, 1)]


def _look(run: RunRecord, step: int) -> Mapping[str, float]:
    """Held-out numbers of the best checkpoint, else of the last evaluation."""
    looks = run.looks
    return looks.get(step) or (looks[max(looks)] if looks else {})


def _made_by(run: RunRecord, manifest: Mapping[str, Any], checkpoint: Path | None) -> str:
    command = manifest.get("command")
    verb = str(command[1]) if isinstance(command, list) and len(command) > 1 else ""
    verb = verb if verb.isascii() and verb.replace("-", "").isalpha() else ""
    verb = verb or run.method.verb
    adapter = checkpoint is not None and (checkpoint / "adapter.json").is_file()
    return " ".join(part for part in (verb, "adapter" if adapter else "") if part) or "–"


def _text(run: RunRecord, manifest: Mapping[str, Any], split: str) -> frozenset[str]:
    """Names of the held-out text: the inputs it was taken from, its reference lines, its very size."""
    parents, held_out = mapping(manifest.get("parents")), mapping(run.results.get("held_out"))
    known = [f"{name} {parents[name]} {split}" for name in ("shards", "data") if name in parents]
    lines = run.test_reference_lines if split == "test" else run.reference_lines
    lines = {name: value for name, value in lines.items() if name in ("unigram", "bigram")}
    known += [f"lines {sorted(lines.items())}"] if lines else []
    sizes = numeric(held_out.get("characters")), numeric(held_out.get("bytes"))
    known += [f"size {sizes}"] if None not in sizes else []
    return frozenset(known)


def _scores(results: Mapping[str, Any], step: int) -> dict[str, Measured]:
    """Measurements in ``results.json``: tables with a ``value``, however deep, and some plain numbers.

    Those of a checkpoint of another step than the best say so.
    """
    found: dict[str, Measured] = {}

    def walk(value: object, name: str, depth: int) -> None:
        if len(found) >= MOST_SCORES or depth > _DEEPEST:
            return
        if isinstance(value, list):
            for i, one in enumerate(value[:MOST_SCORES]):
                walk(one, f"{name}/{i}", depth + 1)
        elif isinstance(value, Mapping) and (number := numeric(value.get("value"))) is not None:
            own = value.get("name")
            if isinstance(own, str) and own:
                name = labelled(own, value.get("data"), value.get("shots"))
            of = numeric(value.get("step"))
            found[name if of in (None, step) else f"{name}, step {of:,.0f}"] = _measured(value, number)
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                walk(inner, f"{name}/{key}" if name else str(key), depth + 1)

    walk(results, "", 0)
    for group, keys in _PLAIN.items():
        for key in keys:
            if (number := numeric(mapping(results.get(group)).get(key))) is not None:
                found.setdefault(f"{group}/{key}", Measured(number))
    return found


def _measured(table: Mapping[str, Any], value: float) -> Measured:
    n = numeric(table.get("n"))
    items = {
        str(name): number
        for name, item in mapping(table.get("items")).items()
        if (number := numeric(item)) is not None
    }
    return Measured(
        value, numeric(table.get("low")), numeric(table.get("high")), None if n is None else int(n), items
    )
