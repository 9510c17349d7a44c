"""A plan on the terminal: tables, the learning-rate curve, and the findings with their remedies."""

from collections.abc import Callable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from congling.core.console import Console
from congling.core.diagnosis import Diagnosis
from congling.core.units import plural, show_bytes, show_count, show_rate, show_seconds
from congling.model.positions_words import positions_in_words
from congling.plan.planning import Plan

_BARS = " ▁▂▃▄▅▆▇█"
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def show(plan: Plan, console: Console) -> None:
    """Print the whole plan."""
    console.print(_corpus_line(plan))
    console.print(_choices(plan))
    tables = (_parameters(plan), _costs(plan))
    for shown in (_side_by_side(*tables),) if console.width >= 130 else tables:
        console.print(shown)
    console.print(_rates(plan))
    for finding in plan.findings:
        console.print(diagnosis_text(finding))
    if not plan.findings:
        console.print("[green]nothing to warn about[/]")


def show_brief(plan: Plan, console: Console) -> None:
    """Print what will be run, what it costs and what to beware of, in a dozen lines without the reasons."""
    console.print(_corpus_line(plan))
    for name, text in _brief_lines(plan):
        console.print(f"[bold]{name:<8}[/] {escape(text)}", highlight=False)
    for finding in plan.findings:
        console.print(brief_diagnosis(finding))
        if finding.severity != "note":
            console.print(Text(f"  do: {finding.remedy}"))
    console.print("[dim]`congling plan` shows the reason of every choice, and so does the report[/]\n")


def _brief_lines(plan: Plan) -> list[tuple[str, str]]:
    """Names and contents of the lines."""
    model, train, cost = plan.model, plan.train, plan.cost
    heads = f"{model.attention.num_attention_heads} {plural(model.attention.num_attention_heads, 'head')}"
    steps = (
        f"{train.max_steps:,} {plural(train.max_steps, 'step')} of {show_count(cost.tokens_per_step)} tokens"
    )
    rates = curve(plan.learning_rates(32), height=1)[0]
    threads = [("threads", f"{one.value}: {one.why}") for one in plan.advice.choices if one.key == "threads"]
    return [
        (
            "model",
            f"{model.num_hidden_layers} × {model.hidden_size}, {heads}, context {_context(plan)}, "
            f"{model.mlp.kind} MLP",
        ),
        (
            "size",
            f"{show_count(cost.total_parameters)} parameters, {cost.embedding_share:.0%} of them "
            "embedding and head",
        ),
        ("training", f"{steps}: {cost.passes:.1f} passes over the text, dropout {model.dropout:g}"),
        ("rate", f"{rates} {train.optimizer.kind}, at most {train.optimizer.learning_rate:g}"),
        ("time", f"{_time_of(plan)} at {_speed(plan)}"),
        *threads,
        ("memory", f"{show_bytes(cost.peak_memory)} of {show_bytes(plan.machine.memory)}"),
        ("disk", f"{show_bytes(cost.disk_bytes)}, {show_bytes(plan.machine.free_disk)} are free"),
    ]


def _context(plan: Plan) -> str:
    """What the model reads, and what it was trained on, where its context was extended."""
    context, trained = plan.model.max_position_embeddings, plan.trained_length
    if trained is None or trained >= context:
        return str(context)
    return f"{context} (trained on {trained}; {positions_in_words(plan.model.positions)})"


def _time_of(plan: Plan) -> str:
    """How long it takes, and of how much time."""
    return f"{show_seconds(plan.cost.seconds)} of {show_seconds(plan.advice.budget)}"


def _speed(plan: Plan) -> str:
    """Tokens a second; and the share of the peak, unless it was measured at a busy moment."""
    cost = plan.cost
    speed = show_rate(cost.tokens_per_step / cost.seconds_per_step, "tokens")
    return speed + (f", {cost.utilisation:.0%} of the matmul peak" if cost.utilisation <= 1 else "")


def curve(values: Sequence[float], height: int = 4) -> list[str]:
    """Draw values in 0..1 as ``height`` lines of block characters, the highest first.

    >>> curve([0.0, 0.5, 1.0], height=1)
    [' ▄█']
    """
    eighths = [round(max(0.0, min(1.0, value)) * 8 * height) for value in values]
    return [
        "".join(_BARS[max(0, min(8, value - 8 * row))] for value in eighths)
        for row in reversed(range(height))
    ]


def brief_diagnosis(finding: Diagnosis) -> Text:
    """Render one finding in a line: how serious, and what."""
    return Text.assemble((f"{finding.severity}: ", _STYLES[finding.severity]), finding.what)


def diagnosis_text(finding: Diagnosis) -> RenderableType:
    """Render one finding: what, why, and what to do; lines that break go on below their own text."""
    what = Text.assemble((f"{finding.severity}: ", _STYLES[finding.severity]), (finding.what, "bold"))
    reasons = Table.grid(padding=(0, 1))
    reasons.add_row("  why:", Text(finding.why))
    if finding.remedy:
        reasons.add_row("  do:", Text(finding.remedy))
    return Group(what, reasons)


def _corpus_line(plan: Plan) -> str:
    corpus, machine = plan.corpus, plan.machine
    guess = " (estimated)" if corpus.estimated else ""
    where = machine.accelerator or f"{machine.cores} {plural(machine.cores, 'core')}"
    rate = f"{machine.peak / 1e9:,.0f} GFLOP/s {'measured' if machine.measured else 'assumed'}"
    named = (("character", corpus.characters), ("token", corpus.tokens), ("document", corpus.documents))
    counts = ", ".join(f"{show_count(count)} {plural(count, noun)}" for noun, count in named)
    return (
        f"[bold]corpus[/]   {counts}, vocabulary {corpus.vocab_size:,}{guess}\n"
        f"[bold]machine[/]  {escape(where)}, {show_bytes(machine.memory)} memory, {rate}"
    )


def _choices(plan: Plan) -> Table:
    table = Table("choice", "value", "why", title="configuration", title_justify="left", show_lines=False)
    for choice in plan.advice.choices:
        table.add_row(choice.key, escape(choice.value), escape(choice.why))
    return table


def _parameters(plan: Plan) -> Table:
    table = Table("part", "parameters", "share", title="model", title_justify="left")
    total = plan.cost.total_parameters
    for part, count in plan.cost.parameters.items():
        if count:
            table.add_row(part, f"{count:,}", f"{count / total:.1%}")
    table.add_row("total", f"{total:,}", "", style="bold")
    table.add_row("embedding and head", "", f"{plan.cost.embedding_share:.1%}", style="dim")
    return table


def _costs(plan: Plan) -> Table:
    cost = plan.cost
    table = Table("what", "how much", "of which", title="cost", title_justify="left")
    table.add_row(
        "steps",
        f"{plan.train.max_steps:,}",
        f"{show_count(cost.tokens_per_step)} tokens each, {_speed(plan)}",
    )
    table.add_row("tokens", show_count(cost.tokens), f"{cost.passes:.1f} passes over the text")
    arithmetic = f"attention {cost.attention_share:.0%} of it, at {plan.train.max_length:,} tokens a row"
    table.add_row("arithmetic", f"{cost.flops:.2g} FLOPs", arithmetic)
    table.add_row("time", show_seconds(cost.seconds), _largest(cost.time, show_seconds))
    table.add_row("memory", show_bytes(cost.peak_memory), _largest(cost.memory, show_bytes))
    table.add_row("disk", show_bytes(cost.disk_bytes), _largest(cost.disk, show_bytes))
    return table


def _largest(parts: Mapping[str, float], shown: Callable[[float], str]) -> str:
    order = sorted((part for part in parts if parts[part] > 0), key=lambda part: -parts[part])
    return ", ".join(f"{part} {shown(parts[part])}" for part in order[:3])


def _rates(plan: Plan) -> RenderableType:
    peak = plan.train.optimizer.learning_rate
    lines = [
        f"[bold]learning rate[/], {plan.train.optimizer.kind}, peak {peak:g}, over "
        f"{plan.train.max_steps:,} steps"
    ]
    return Group(
        *lines, *(Text("  " + line, style="green") for line in curve(plan.learning_rates())), Text("")
    )


def _side_by_side(*tables: Table) -> Table:
    grid = Table.grid(padding=(0, 3))
    grid.add_row(*tables)
    return grid
