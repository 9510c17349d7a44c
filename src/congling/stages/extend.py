"""A longer context for a trained rotary model, without training: its positions are stretched.

Reads a run, a checkpoint or a model of another program, and held-out text to choose by; writes a checkpoint::

    congling extend runs/book --context 1024 --search --out long
    congling extend runs/book --context 1024 --method yarn --beta 8/0.25 --data chapter.txt --out long
    congling extend runs/book --context 1024 --method clex --out long
    congling pretrain shards --tokenizer long/tokenizer --from long train.max_length=1024 --out longer

With ``--search`` or a text, losses are told beside the sliding window of the model as it was, which costs
nothing and must be beaten. NTK-by-parts is ``--method yarn --attention-factor 1``.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from congling.core.document import print_document
from congling.core.errors import Interrupted, UserError
from congling.core.interrupt import AGAIN
from congling.core.terminal import put
from congling.methods.options import AsJson

if TYPE_CHECKING:
    from congling.methods.extend import Extended

Method = Literal["yarn", "linear", "ntk", "dynamic", "longrope", "clex"]
Target = Literal["gguf", "hf", "llama2c", "ollama"]


def command(
    base: Annotated[Path, typer.Argument(help="A run, a checkpoint, or a model of another program.")],
    context: Annotated[int, typer.Option(min=1, help="Tokens that it is to read.")],
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")],
    method: Annotated[Method, typer.Option(help="How positions are stretched.")] = "yarn",
    factor: Annotated[
        float | None, typer.Option(help="By how much; by default what suffices: context / trained length.")
    ] = None,
    beta: Annotated[
        str | None,
        typer.Option(metavar="FAST/SLOW", help="yarn: turns that a pair stays from, and is divided up to."),
    ] = None,
    attention_factor: Annotated[
        float | None, typer.Option(help="yarn, longrope: what cosines and sines are multiplied by.")
    ] = None,
    factors: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="longrope: short_factor and long_factor.")
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Try ramps of yarn on held-out text, and take the best.")
    ] = False,
    to: Annotated[
        Target | None, typer.Option(help="Only what this target can hold: gguf, hf, llama2c, ollama.")
    ] = None,
    shards: Annotated[
        Path | None, typer.Option(help="Held-out text, in the model's tokens; by default beside the run.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Held-out texts instead; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws what clex adds, and the texts of --data.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Let a model read more than it was trained on."""
    ramp = None if beta is None else _ramp(beta)
    from congling.methods.extend import run

    values: dict[str, Any] = {"factor": factor, "beta": ramp, "attention_factor": attention_factor}
    values |= {"factors": factors, "search": search, "to": to, "shards": shards, "seed": seed}
    try:
        found = run(base, out, context=context, method=method, data=tuple(data or ()), **values)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; nothing was written. {AGAIN}") from None
    if as_json:
        print_document(found)
    else:
        _show(found)


def _show(found: "Extended") -> None:
    put(f"extended: {found.out}, {found.trained:,} → {found.context:,} tokens, factor {found.factor:g}")
    put(f"positions: {found.positions}")
    if found.pairs is not None:
        same, between, slower = found.pairs
        put(f"pairs of channels: {same} as before, {between} in between, {slower} slower by the whole factor")
    put(f"can go to: {', '.join(found.targets) or 'no other program as it is'}")
    if found.lines:
        from congling.core.console import Console

        Console().print(_table(found))
        put(found.verdict)
    for note in found.notes:
        put(f"note: {note}")
    put(f"the report is {found.report}")
    for step in found.steps:
        put(f"  {step.command}")


def _table(found: "Extended") -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(caption="the same tokens in each row, nats per token", caption_justify="left")
    table.add_column("positions", no_wrap=True)
    heads = (f"behind {found.context:,}", "- sliding", "95 % interval", f"behind {found.trained:,}")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for line in found.lines:
        gap = line.over_sliding
        certain = gap.low is not None and gap.high is not None and line.name != "sliding"
        between = f"{gap.low:+.3f} … {gap.high:+.3f}" if certain else ""
        less = "" if line.name == "sliding" else f"{gap.value:+.3f}"
        table.add_row(Text(line.name), f"{line.nats:.3f}", less, between, f"{line.within:.3f}")
    return table


def _ramp(text: str) -> tuple[float, float]:
    parts = text.replace(",", "/").split("/")
    try:
        fast, slow = (float(part) for part in parts)
    except ValueError:
        raise UserError("turns of a ramp are two numbers", where="--beta", value=text, hint="32/1") from None
    return fast, slow
