"""The numbers at the top of a report: how good, of how much, how long; in the units of the method."""

from dataclasses import dataclass

from congling.core.units import show_count, show_seconds
from congling.data.split import HELD_OUT
from congling.report.measures import look_handed_on, measure, points
from congling.report.record import RunRecord, mapping, numeric
from congling.report.run_tables import total_seconds
from congling.report.weights import characters_a_token, model_of

HEADLINES = {
    "sft": ("bits_per_character", "loss", "loss_per_answer"),
    "dpo": ("accuracy", "margin", "loss"),
    "reward": ("accuracy", "margin", "loss"),
    "grpo": ("reward", "ended"),
    "ppo": ("reward", "ended"),
    "distill": ("divergence",),
}
"""Held-out numbers that say how well a method went, the most telling first."""
_ROLLOUTS = ("reward", "length", "kl", "entropy")


@dataclass(frozen=True)
class Tile:
    """A number and what it is."""

    value: str
    label: str


def tiles(run: RunRecord) -> list[Tile]:
    """Every tile that something was recorded for."""
    return [*_scored(run), *_held_out(run), *_rollouts(run), *_seen(run), *_time(run), *_limit(run)]


def _scored(run: RunRecord) -> list[Tile]:
    """The final score of a model of texts, and what it copies."""
    found = []
    held_out, best = mapping(run.results.get("held_out")), run.best
    bits = numeric(held_out.get("bits_per_character"))
    if bits is None and best is not None and run.method.corpus:
        bits = best.bits_per_character
    if bits is not None:
        found.append(Tile(f"{bits:.3f}", f"bits per character, {HELD_OUT[run.scored]}"))
    perplexity = numeric(held_out.get("perplexity"))
    if perplexity is not None:
        found.append(Tile(f"{perplexity:,.1f}", "perplexity a token"))
    rate = numeric(mapping(run.results.get("copying")).get("rate"))
    if rate is not None:
        found.append(Tile(f"{rate:.0%}", "of generated text copied verbatim"))
    return found


def _held_out(run: RunRecord) -> list[Tile]:
    """What the method is for, measured on held-out rows: before the first step, and of the best
    checkpoint."""
    handed_on, found = look_handed_on(run), []
    if handed_on is None:
        return []
    step, look = handed_on
    for name in HEADLINES.get(run.method.verb, ()):
        if name not in look:
            continue
        what, before = measure(run, name), run.looks.get(0, {}).get(name)
        since = "" if before is None else f", {what.show(before)} before training"
        unit = "" if what.share else f" ({what.unit})"
        found.append(Tile(what.show(look[name]), f"held-out {what.title}{unit} at step {step:,}{since}"))
    return found


def _rollouts(run: RunRecord) -> list[Tile]:
    """Of answers the model wrote to learn from: where reward, length and distance from the base stand."""
    if run.method.verb not in ("grpo", "ppo"):
        return []
    found = []
    for name in _ROLLOUTS:
        values = [value for _, value in points(run, name)]
        if values:
            what, tail = measure(run, name), values[-max(1, len(values) // 10) :]
            middle = sorted(tail)[len(tail) // 2]
            found.append(Tile(what.show(middle), f"{what.title} ({what.unit}) in the last steps"))
    return found


def _seen(run: RunRecord) -> list[Tile]:
    """How much was learnt from, and how often."""
    if not run.steps or not run.steps[-1].tokens:
        return []
    seen, times = run.steps[-1].tokens, passes(run)
    often = "" if times is None else f", {times:.1f} {'pass' if f'{times:.1f}' == '1.0' else 'passes'}"
    return [Tile(show_count(seen), f"{run.method.count(seen)} trained on{often}")]


def passes(run: RunRecord) -> float | None:
    """How often all that is learnt from was seen; None where its size is not known."""
    planned = numeric(mapping(run.plan.get("cost")).get("passes"))
    data = mapping(run.plan.get("data"))
    size = numeric(data.get("learnt" if run.method.verb == "sft" else "rows"))
    if run.method.verb in ("grpo", "ppo") or not run.steps:
        return None
    return run.steps[-1].tokens / size if size else planned


def _time(run: RunRecord) -> list[Tile]:
    found, seconds = [], total_seconds(run)
    if seconds:
        found.append(Tile(show_seconds(seconds), "training time"))
    speed = median(run, "tokens_per_second")
    if speed:
        share = median(run, "utilisation")
        known = f", {share:.0%} of the matmul peak" if share and share <= 1 else ""
        found.append(Tile(*_pace(speed, run.method.counted, run.method.count(2), known)))
    return found


def _pace(speed: float, noun: str, nouns: str, known: str) -> tuple[str, str]:
    """A speed with its unit; below one a second the seconds of each are told."""
    if speed < 1:
        return show_seconds(1 / speed), f"for each {noun}"
    return show_count(speed) if speed >= 10 else f"{speed:.1f}", f"{nouns} a second{known}"


def _limit(run: RunRecord) -> list[Tile]:
    model, characters = model_of(run), characters_a_token(run)
    if model is None:
        return []
    about = (
        f", about {show_count(model.max_position_embeddings * characters)} characters" if characters else ""
    )
    return [Tile(f"{model.max_position_embeddings:,}", f"tokens that the model reads at once{about}")]


def median(run: RunRecord, name: str) -> float | None:
    """The middle one of a column of the timing log."""
    values = sorted(value for row in run.timing if (value := numeric(row.get(name))) is not None)
    return values[len(values) // 2] if values else None
