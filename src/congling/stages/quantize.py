"""Fewer bits: linear layers of a trained model as codes on a grid, calibrated on what the model reads.

Reads a run or checkpoint, and for methods that look at inputs a text, by default the run's own training
shards; writes a checkpoint, which generate, chat, eval and adapters (sft … adapter.r=8) take as any other::

    congling quantize runs/book --method gptq --out q4
    congling quantize runs/book --method gptq bits=3 group_size=-1 sym=true --out q3
    congling quantize runs/book --method gptq --data chapter.txt --tokens 65536 --out q4
    congling quantize runs/book --method rtn bits=8 --out q8
    congling quantize runs/book --method awq+gptq bits=3 --out q3
    congling quantize runs/book --method int8 llm_int8_threshold=6 --out w8a8
    congling quantize runs/book --method smoothquant smoothing_strength=0.5 --out w8a8

Embedding, norms, routers and the output matrix stay as they are. What is held out is never read.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from congling.core.document import print_document
from congling.core.errors import Interrupted
from congling.core.interrupt import AGAIN
from congling.core.terminal import put
from congling.core.units import show_bytes, show_seconds
from congling.methods.options import AsJson

if TYPE_CHECKING:
    from congling.methods.calibration import Calibration
    from congling.methods.quantize import Quantised
    from congling.plan.quantisation import QuantisationPlan

Method = Literal["rtn", "hqq", "gptq", "awq", "awq+gptq", "int8", "smoothquant", "onebit"]


def command(
    model: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A run or a checkpoint.")],
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Values like bits=4 group_size=32 sym=true damp_percent=0.05.")
    ] = None,
    method: Annotated[
        Method,
        typer.Option(
            help="rtn and hqq look at weights alone, the others at what the model reads; int8 (LLM.int8) and "
            "smoothquant round inputs too; onebit is to be distilled afterwards."
        ),
    ] = "gptq",
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Calibration texts (repeatable), or one directory of shards; by default the run's."
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of it that are read.")] = 32_768,
    seed: Annotated[int, typer.Option(min=0, help="Which rows of it are drawn.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Put a trained model in fewer bits."""
    from congling.methods import quantize

    config = quantize.chosen(method, settings or [])
    try:
        found = quantize.run(
            model,
            out,
            config,
            data=tuple(data or ()),
            tokens=tokens,
            seed=seed,
            before=(lambda plan, text: None) if as_json else _show_plan,
        )
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; nothing was written. {AGAIN}") from None
    if as_json:
        print_document(found)
    else:
        _show(found)


def _show_plan(plan: "QuantisationPlan", text: "Calibration | None") -> None:
    for line in plan.lines():
        put(line)
    if text is not None:
        put(f"calibration: {text.tokens:,} tokens of {text.source} ({text.script['guess']})")


def _show(found: "Quantised") -> None:
    size = f"{show_bytes(found.size)}, before {show_bytes(found.size_before)}"
    put(f"quantised: {found.out} ({found.method}), {size}: {found.bits:.2f} bits a weight of the whole file")
    measured = [layer for layer in found.layers if layer.output_error is not None]
    if measured:
        worst = max(measured, key=lambda layer: layer.output_error or 0.0)
        put(f"error of outputs on the calibration: at most {worst.output_error:.2%} ({worst.place})")
        put(f"error of the last block's output: {found.drift[-1]:.2%}")
    for note in found.notes:
        put(f"note: {note}")
    put(f"took {show_seconds(found.seconds)}")
    put(f"  congling generate {found.out} --prompt …")
