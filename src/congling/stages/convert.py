"""Export a model, or an adapter, to llama.cpp, Hugging Face, llama2.c or Ollama, and check it there.

::

    congling convert runs/book --to gguf --type Q8_0 --out book.gguf
    congling convert runs/book --to gguf --type Q4_K_M --calibrate book.txt --rounding gptq --out book.gguf
    congling convert runs/book --to hf --out book-hf
    congling convert base.gguf --lora runs/style/adapter --to gguf --out merged.gguf
    congling convert runs/style/adapter --base base.gguf --to gguf-lora --out style.gguf

A model may come from a run, a checkpoint, a GGUF file, a Hugging Face folder or llama2.c. The report lands
with the export as ``parity.json``; where a float32 export computes anything else, the exit status is 1.
"""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from congling.core.document import print_document
from congling.core.errors import Interrupted, UserError
from congling.core.interrupt import AGAIN
from congling.core.terminal import put
from congling.methods.options import AsJson

if TYPE_CHECKING:  # what converts loads only when something is converted
    from congling.methods.conversion import Conversion, Strength


Target = Annotated[
    str, typer.Option(help="gguf, hf, llama2c, ollama, imatrix; of adapters gguf-lora, peft, ggla.")
]
Type = Annotated[
    str | None,
    typer.Option(
        help="Of the weights: F32 (default), F16, BF16. GGUF: Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q3_K_M, Q2_K …, "
        "codebooks IQ4_XS to IQ1_S, ternary TQ2_0 and TQ1_0; COPY, the default of a model in few bits, keeps "
        "its codes. hf: GPTQ, AWQ, CT or BNB of a model in few bits."
    ),
]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        metavar="TEXT|SHARDS|IMATRIX",
        help="What the model reads: ggml's search for scales and codes weighs each input by its mean square "
        "there. IQ1, IQ2 and IQ3_XXS need it.",
    ),
]
Round = Annotated[
    str,
    typer.Option(
        help="Codes of GGUF types: nearest to the weights (ggml's search), or gptq, nearest in what layers "
        "compute on the --calibrate text; same size, same programs."
    ),
]


def command(
    source: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A run, checkpoint, adapter, or a model of another program."),
    ],
    to: Target,
    out: Annotated[Path, typer.Option(help="The file (gguf, gguf-lora, ggla) or folder to make.")],
    type: Type = None,
    calibrate: Calibrate = None,
    rounding: Round = "nearest",
    version: Annotated[int, typer.Option(help="Of llama2.c: 0, 1, or 2 with 8-bit weights.")] = 0,
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify",
            help="Check in the program it is for, if installed, and measure fewer bits.",
        ),
    ] = None,
    verify_text: Annotated[
        Path | None, typer.Option(help="A text to check with besides the built-in.")
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(help="Adapter to merge in, in any format; FILE=0.5 with that strength. Repeatable."),
    ] = None,
    base: Annotated[Path | None, typer.Option(help="Of an adapter: the model it was made for.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Use this tokenizer, not the model's own.")] = None,
    freeze: Annotated[
        int | None,
        typer.Option(metavar="LENGTH", min=1, help="Positions that depend on the length: those of this one."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace what is at --out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a model, or an adapter, to another program, and check it there."""
    from congling.methods.conversion import run

    started = time.monotonic()
    try:
        done = run(
            source,
            to,
            out,
            type=type,
            version=version,
            verify=verify,
            verify_text=verify_text,
            lora=[_strength(text) for text in lora or ()],
            base=base,
            tokenizer=tokenizer,
            freeze=freeze,
            calibrate=calibrate,
            rounding=rounding,  # type: ignore[arg-type]
            overwrite=overwrite,
        )
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; nothing was written. {AGAIN}") from None
    if not (_print if as_json else _show)(done, time.monotonic() - started):
        raise typer.Exit(1)


def _print(done: "Conversion", seconds: float) -> bool:
    """The same for a program."""
    found = {
        "bytes": _size(done.path),
        "bits": done.bits,
        "notes": done.notes,
        "parity": done.report,
        "damage": done.damage,
        "seconds": seconds,
    }
    print_document({"out": done.path, **found})
    return done.report is None or not done.report.misses


def _show(done: "Conversion", seconds: float) -> bool:
    """Say what was made, and whether it is sound."""
    from congling.core.units import show_bytes, show_seconds

    for note in done.notes:
        put(f"note: {note}")
    bits = "" if done.bits is None else f", {done.bits:.2f} bits a weight"
    put(f"wrote {done.path}, {show_bytes(_size(done.path))}{bits}, in {show_seconds(seconds)}")
    sound = True
    if done.report is not None:
        from congling.evals.conversion.verdict import show

        sound = show(done.report)
    if done.damage is not None:
        put(f"damage: {done.damage.line}")
    for line in (done.limit, "next:", *(f"  {command}" for command in done.next)):
        if line:
            put(line)
    return sound


def _strength(text: str) -> "Strength":
    """``FILE`` or ``FILE=0.5``; a file whose name has such an end is taken as it is."""
    name, _, number = text.rpartition("=")
    if not name or Path(text).exists():
        return text, 1.0
    try:
        strength = float(number)
    except ValueError:
        return text, 1.0
    if not math.isfinite(strength):
        raise UserError("the strength must be a finite number", where="--lora", value=text)
    return name, strength


def _size(path: Path) -> int:
    return sum(
        file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()
    )
