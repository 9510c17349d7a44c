"""What a run over rows other than conversations says before it starts."""

from collections.abc import Sequence

from congling.core.console import Console
from congling.core.diagnosis import Diagnosis
from congling.core.units import plural, show_bytes, show_count
from congling.data.problems import Findings
from congling.plan.show import brief_finding
from congling.plan.tuning_plan import TuningFacts, memory_of
from congling.train.config import TrainConfig


def show_rows(kept: int, held_out: int, noun: str, findings: Findings, console: Console) -> None:
    """Count the rows, and everything that is wrong with others, with the first of each kind."""
    say(
        console,
        f"{kept + held_out} {plural(kept + held_out, noun)}: {held_out} held out, {kept} to learn from",
    )
    for kind, count in findings.counts.most_common():
        first = next((one for one in findings.examples if one.kind == kind), None)
        place = f", first {first.place}: {first.reason}" if first is not None else ""
        say(console, f"  {count} × {kind}{place}")
    for note in findings.sentences:
        say(console, f"  {note}")


def show_work(
    what: str,
    facts: TuningFacts,
    train: TrainConfig,
    learnt: int,
    *,
    adapter: bool,
    console: Console,
    findings: Sequence[Diagnosis] = (),
) -> None:
    """Say what is learnt, in how many steps of what, at which rate, in how much memory; then the findings."""
    values = f"an adapter of {show_count(learnt)} values" if adapter else f"all {show_count(learnt)} values"
    steps = f"{train.max_steps} {plural(train.max_steps, 'step')} of {what}"
    say(console, f"training {values}: {steps}, rate {train.optimizer.learning_rate:g}")
    parts = memory_of(facts, train, adapter=adapter, trained=learnt)
    held = ", ".join(f"{name} {show_bytes(size)}" for name, size in parts.items() if size)
    say(console, f"memory about {show_bytes(sum(parts.values()))}: {held}")
    for finding in findings:
        console.print(brief_finding(finding), soft_wrap=True)


def say(console: Console, text: str) -> None:
    """One plain line."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
