"""What to do about a run that is over: what helps next time, and only where a person can change it.

A plan warns before training, and says what to do then. Afterwards some of it is too late (a full disk), and
some names a value that the plan chose itself: "leave it to the plan" is no advice then. Every such sentence
stands here, whether `congling explain`, a report or the end of a command says it.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from congling.core.diagnosis import Diagnosis
from congling.report.record import RunRecord, mapping, numeric
from congling.train.runs.retention import BEFORE_DECAY

ANEW = "in a new run (--fresh)"
"""How advice begins that the finished run can no longer take."""
Remedy = Callable[[RunRecord, str], str | None]
"""From a run and what the plan advised before it to what helps now; None where nothing does any more."""

SIZES = ("model.num_hidden_layers", "model.hidden_size", "model.preset")
_BATCH = ("train.per_device_train_batch_size", "train.gradient_accumulation_steps", "train.max_length")
_MODEL_KEYS = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "max_position_embeddings",
    "dropout",
    "tie_word_embeddings",
    "family",
)
_FIELDS = {"severity", "code", "what", "why", "remedy"}


def given(run: RunRecord, *names: str) -> bool:
    """Whether a person gave one of these values (``train.per_device_train_batch_size``), or else the plan
    chose them all.

    Of a run that does not tell, a person is taken to have given them: advice to change them is right then.
    """
    known = _given(run)
    return known is None or any(
        one == name or one.startswith(name + ".") or name.startswith(one + ".")
        for one in known
        for name in names
    )


def _given(run: RunRecord) -> set[str] | None:
    recorded, choices = run.plan.get("given"), run.plan.get("choices")
    if isinstance(recorded, list):
        return {str(one) for one in recorded}
    if run.recipe:
        return set(keys({name: run.recipe.get(name) for name in ("model", "train", "tokenizer")}))
    if isinstance(choices, list):
        rows = [one for one in choices if isinstance(one, Mapping)]
        names = [str(one.get("key")) for one in rows if str(one.get("why", "")).startswith("given")]
        return {f"model.{name}" if name in _MODEL_KEYS else f"train.{name}" for name in names}
    return None


def keys(table: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Dotted names of all values of a table; an empty one has none."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from keys(value, f"{before}{name}.")
        elif value not in (None, "", (), []):
            yield f"{before}{name}"


def longer(run: RunRecord) -> str:
    """How to let a model learn for longer: a finished run goes on where its rate had not begun to fall."""
    taken, steps = max(run.seconds_at().values(), default=0.0), run.steps[-1].step if run.steps else 1000
    more = f"{max(1, round(taken / 60))}m" if taken >= 1 else f"{steps}steps"
    schedule = mapping(mapping(run.config.get("train")).get("schedule"))
    if schedule.get("kind") == "cosine" or not (run.path / BEFORE_DECAY).is_file():
        return f"train longer: {ANEW} with a longer --budget"  # nothing is left from before the rate fell
    if run.place != run.path:
        return f"train longer: congling train --out {shlex.quote(str(run.place))} --longer {more}"
    return f"train longer: the command that trained it, with --longer {more}"


def against_overfitting(run: RunRecord) -> str:
    """What to do where a run began to memorise."""
    parts = ["more dropout and weight decay"]
    parts += ["a smaller model"] if given(run, *SIZES) and run.method.verb == "pretrain" else []
    parts += ["fewer steps"] if given(run, "train.max_steps", "num_train_epochs") else ["a shorter run"]
    return f"{ANEW} {', '.join(parts)}, or more {'text' if run.method.verb == 'pretrain' else 'rows'}"


def planned(run: RunRecord) -> list[Diagnosis]:
    """What was found before the run began, with what can still be done about it."""
    found = run.plan.get("findings")
    rows = found if isinstance(found, list) else []
    return [one for row in rows if (read := _finding(row)) is not None and (one := _now(read, run))]


def _finding(row: object) -> Diagnosis | None:
    """A finding as a plan stored it; None where it is none."""
    if not isinstance(row, Mapping) or row.keys() != _FIELDS:
        return None
    if row["severity"] not in ("error", "warning", "note"):
        return None
    return Diagnosis(**row) if all(isinstance(row[key], str) for key in _FIELDS) else None


def _now(finding: Diagnosis, run: RunRecord) -> Diagnosis | None:
    remedy = AFTERWARDS.get(finding.code, _next_time)(run, finding.remedy)
    return None if remedy is None else replace(finding, remedy=remedy)


def _next_time(run: RunRecord, remedy: str) -> str:
    del run
    return remedy if remedy.startswith("nothing") else f"{ANEW}: {remedy}"


def _as_it_is(run: RunRecord, remedy: str) -> str:
    del run
    return remedy


def _too_late(run: RunRecord, remedy: str) -> None:
    del run, remedy


def _unless_planned(*names: str, else_: str | None = None) -> Remedy:
    """The plan's own advice where a person gave one of the values, else ``else_``, or to train longer."""

    def remedy(run: RunRecord, advised: str) -> str:
        return f"{ANEW}: {advised}" if given(run, *names) else else_ or longer(run)

    return remedy


def _context(run: RunRecord, advised: str) -> str:
    """Shorter rows, unless they are as short already, or the plan chose them."""
    train, corpus = mapping(run.plan.get("train")), mapping(run.plan.get("corpus"))
    rows, median = numeric(train.get("max_length")), numeric(corpus.get("median_tokens"))
    shorter = rows is None or median is None or rows > 1.5 * max(32, median)
    if shorter and given(run, "train.max_length", "model.max_position_embeddings"):
        return f"{ANEW}: {advised}"
    return f"{ANEW}: train.document_mask = true"


def _vectors(run: RunRecord, advised: str) -> str:
    tied = mapping(run.plan.get("model")).get("tie_word_embeddings")
    if tied is True and "model.tie_word_embeddings" in advised:
        return f"{ANEW}: use a smaller vocabulary"
    return _next_time(run, advised)


def _fewer_passes(run: RunRecord, advised: str) -> str:
    return f"{ANEW}: {advised}" if given(run, "train.max_steps") else f"{ANEW}: more text, or a shorter run"


AFTERWARDS: Mapping[str, Remedy] = {
    "memory": _too_late,
    "disk": _too_late,
    "over-budget": _too_late,
    "attention-cost": _too_late,
    "long-documents": _too_late,
    "positions-elsewhere": _too_late,
    "will-memorise": _as_it_is,
    "small-validation": _as_it_is,
    "no-warmup": _unless_planned("train.schedule"),
    "many-passes": _fewer_passes,
    "context-beyond-documents": _context,
    "embedding-heavy": _vectors,
    "little-data": _unless_planned(*SIZES, else_=f"{ANEW}: add text"),
    "few-tokens-seen": _unless_planned(*SIZES),
    "few-steps": _unless_planned(*_BATCH),
    "batch-too-big": _unless_planned(*_BATCH, else_=f"{ANEW}: add text"),
    "very-long": _unless_planned(*SIZES, else_=f"{ANEW}: fewer steps, a faster machine, or --budget"),
}
"""By the code of a finding; any other remedy is put off to the next time as it is."""

_NOT_LEARNT = (
    "fine-tuning-rate",
    "tuning-rate-low",
    "rate-too-high",
    "tuning-rate-high",
    "table-rate-too-high",
    "context-beyond-documents",
    "vocabulary-too-big",
    "batch-too-big",
    "few-steps",
    "no-warmup",
    "rows-cut",
    "adapter-marks",
)
_BY_HEART = (
    "will-memorise",
    "no-dropout",
    "many-passes",
    "tiny-weight-decay",
    "little-data",
    "vocabulary-too-big",
    "rows-repeated",
    "few-rows",
)
CAUSES: Mapping[str, tuple[str, ...]] = {
    "at-unigram": _NOT_LEARNT,
    "above-bigram": _NOT_LEARNT,
    "not-better": (*_NOT_LEARNT, *_BY_HEART),
    "overfitting": _BY_HEART,
    "memorised": _BY_HEART,
}
"""What a plan may have found that leads to a symptom, the likeliest first."""
MOST_CAUSES = 3


def with_causes(symptoms: Iterable[Diagnosis], known: Iterable[Diagnosis]) -> Iterator[Diagnosis]:
    """Name, for each symptom, the causes that were known before the run, in place of a guess."""
    by_code = {finding.code: finding for finding in known}
    for symptom in symptoms:
        found = [by_code[code] for code in CAUSES.get(symptom.code, ()) if code in by_code][:MOST_CAUSES]
        if not found:
            yield symptom
            continue
        why = "; ".join(f"{cause.what}: {cause.why}" for cause in found)
        if symptom.code in ("overfitting", "memorised"):
            yield replace(symptom, why=f"{symptom.why}; known before the run: {why}")
        else:
            remedy = "; ".join(dict.fromkeys(cause.remedy for cause in found))
            yield replace(symptom, why=f"known before the run: {why}", remedy=remedy)
