"""What a fine-tuning run shows before it starts: the rows, what is learnt, memory, findings; no torch."""

from collections.abc import Sequence

from congling.core.console import Console
from congling.core.diagnosis import Diagnosis
from congling.core.units import plural, show_bytes, show_count
from congling.data.tuning.examples import Example
from congling.data.tuning.row_reader import SplitRows
from congling.plan.show import brief_diagnosis
from congling.plan.tuning_plan import TuningFacts, memory_of, passes
from congling.train.config import TrainConfig


def show(
    facts: TuningFacts,
    examples: SplitRows[Example],
    train: TrainConfig,
    findings: Sequence[Diagnosis],
    *,
    adapter: bool,
    learnt: int,
    console: Console,
) -> None:
    """Print a line for each; ``learnt`` counts the values that are trained."""
    for line in (*_data(facts, examples), *_work(facts, train, adapter=adapter, learnt=learnt)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for finding in findings:
        console.print(brief_diagnosis(finding), soft_wrap=True)


def _data(facts: TuningFacts, examples: SplitRows[Example]) -> list[str]:
    kinds = ((examples.rows, "conversation"), (examples.texts, "text"))
    read = " and ".join(f"{count} {plural(count, name)}" for count, name in kinds if count)
    lines = [
        f"{read}: {len(examples.held_out)} held out, {facts.examples} {plural(facts.examples, 'example')} to "
        f"learn from; {show_count(facts.targets)} of {show_count(facts.inputs)} tokens are in the loss"
    ]
    findings = examples.findings
    for kind, count in findings.counts.most_common():
        first = next((one for one in findings.examples if one.kind == kind), None)
        place = f", first {first.place}: {first.reason}" if first is not None else ""
        lines.append(f"  {count} × {kind}{place}")
    return [*lines, *(f"  {note}" for note in findings.notes)]


def _work(facts: TuningFacts, train: TrainConfig, *, adapter: bool, learnt: int) -> list[str]:
    values = show_count(learnt)
    what = f"an adapter of {values} values" if adapter else f"all {values} values"
    step = (
        f"{train.per_device_train_batch_size * train.gradient_accumulation_steps} × {train.max_length} tokens"
    )
    parts = memory_of(facts, train, adapter=adapter, trained=learnt)
    held = ", ".join(f"{name} {show_bytes(size)}" for name, size in parts.items() if size)
    return [
        f"training {what}: {train.max_steps} {plural(train.max_steps, 'step')} of {step}, "
        f"{passes(facts, train):.1f} passes, rate {train.optimizer.learning_rate:g}",
        *_scoring(facts, train),
        f"memory about {show_bytes(sum(parts.values()))}: {held}",
    ]


def _scoring(facts: TuningFacts, train: TrainConfig) -> list[str]:
    """How often the held-out loss is measured, and on how much."""
    if not facts.held_out:
        return []
    every, scored = train.interval("evaluate"), train.eval_tokens
    part = "all held-out rows"
    if scored is not None and scored < facts.held_out_targets:
        share = scored / facts.held_out_targets
        part = f"always the same {share:.0%} of held-out rows (train.eval_tokens={scored})"
    return [f"held-out loss at the start and every {every} {plural(every, 'step')}, of {part}"]
