"""Import a model of another program: to generate with, to evaluate, to train further.

Reads GGUF, Hugging Face folders, llama2.c and what training scripts keep with torch.save; writes a
checkpoint directory::

    congling import model.gguf --out base
    congling import Qwen3-0.6B --out base
    congling import model.bin --tokenizer tokenizer.model --out base
    congling import ckpt.pt --tokenizer gpt2 --out base
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from congling.core.document import print_document
from congling.core.errors import Interrupted
from congling.core.interrupt import AGAIN
from congling.core.terminal import put
from congling.methods.options import AsJson

if TYPE_CHECKING:
    from congling.methods.importing import Import


def command(
    source: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="GGUF, Hugging Face folder, llama2.c model.bin, .pt or .pth."),
    ],
    out: Annotated[Path, typer.Option(help="The checkpoint directory to make.")],
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Tokenizer, where the model comes without: a directory, .model, .json."),
    ] = None,
    verify: Annotated[
        bool | None,
        typer.Option("--verify/--no-verify", help="Check beside the other program, if installed."),
    ] = None,
    verify_text: Annotated[
        Path | None, typer.Option(help="A text to check with besides the built-in.")
    ] = None,
    heads: Annotated[
        int | None, typer.Option(min=1, help="Of a .pt/.pth that does not say it: heads of attention.")
    ] = None,
    rope_base: Annotated[
        float | None, typer.Option(min=1, help="Likewise: base of the rotary positions.")
    ] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Likewise: longest text, in tokens.")] = None,
    activation: Annotated[
        Literal["gelu", "gelu_new"] | None,
        typer.Option(help="Of nanoGPT: its GELU, exact (gelu, taken if left out) or the tanh form of GPT-2."),
    ] = None,
    dequantize: Annotated[
        bool, typer.Option("--dequantize", help="Of layers in few bits, keep the floats they stand for.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace what is at --out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring a model of another program here."""
    from congling.interop.torch_state import Missing
    from congling.methods import importing

    started = time.monotonic()
    try:
        done = importing.run(
            source,
            out,
            tokenizer=tokenizer,
            verify=verify,
            verify_text=verify_text,
            dequantize=dequantize,
            overwrite=overwrite,
            given=Missing(heads, rope_base, context, activation),
        )
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; nothing was written. {AGAIN}") from None
    if as_json:
        said = {"out": done.checkpoint.path, "notes": done.notes, "parity": done.report, "report": done.page}
        print_document(said | {"seconds": time.monotonic() - started})
        raise typer.Exit(1 if done.report is not None and done.report.misses else 0)
    if not _show(done, time.monotonic() - started):
        raise typer.Exit(1)


def _show(done: "Import", seconds: float) -> bool:
    """Say what was made, and whether it computes the same as the other program."""
    from congling.core.units import show_seconds
    from congling.evals.conversion import verdict
    from congling.report.checkpoint_content import content_of_checkpoint

    for note in done.notes:
        put(f"note: {note}")
    put(f"made {done.checkpoint.path} in {show_seconds(seconds)}")
    put(f"the report is {done.page}")
    for step in content_of_checkpoint(done.checkpoint).steps:
        put(f"  {step.command}")
    return done.report is None or verdict.show(done.report)
