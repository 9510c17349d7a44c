"""Take a model, or an adapter, to llama.cpp, Hugging Face, llama2.c or Ollama, and check it there.

::

    congling convert runs/book --to gguf --type Q8_0 --out book.gguf
    congling convert runs/book --to hf --out book-hf
    congling convert base.gguf --lora runs/style/adapter --to gguf --out merged.gguf
    congling convert runs/style/adapter --base base.gguf --to gguf-lora --out style.gguf

A model may come from a run, a checkpoint, a GGUF file, a Hugging Face folder or llama2.c. The report lands
with the export as ``parity.json``; where a float32 export computes anything else, the exit status is 1.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from congling.core.document import print_document
from congling.core.errors import Interrupted, UserError
from congling.core.interrupt import AGAIN
from congling.core.terminal import put
from congling.methods.options import AsJson

if TYPE_CHECKING:
    from congling.evals.conversion.verdict import Report
    from congling.interop.foreign import ForeignModel

Models = Literal["gguf", "hf", "llama2c", "ollama"]
Adapters = Literal["gguf-lora", "peft", "ggla"]
Strength = tuple[Path | str, float]
"""An adapter in any format, and how strongly it is merged in."""


@dataclass(frozen=True)
class Conversion:
    """What was written, and what is known about it."""

    path: Path
    notes: tuple[str, ...]
    """What had to be changed on the way, in sentences."""
    report: "Report | None" = None
    """How it computes in the program it is for."""
    limit: str = ""
    """How much a model reads there, in a sentence."""
    next: tuple[str, ...] = ()
    """Command lines that run it there."""


def command(
    source: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A run, checkpoint, adapter, or a model of another program."),
    ],
    to: Annotated[str, typer.Option(help="gguf, hf, llama2c, ollama; of adapters gguf-lora, peft, ggla.")],
    out: Annotated[Path, typer.Option(help="The file (gguf, gguf-lora, ggla) or folder to make.")],
    type: Annotated[
        str | None, typer.Option(help="Of the weights: F32 (default), F16, BF16; of GGUF also Q8_0, Q4_K_M …")
    ] = None,
    version: Annotated[int, typer.Option(help="Of llama2.c: 0, 1, or 2 with 8-bit weights.")] = 0,
    verify: Annotated[
        bool | None,
        typer.Option("--verify/--no-verify", help="Check in the program it is for, if installed."),
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
    overwrite: Annotated[bool, typer.Option(help="Replace what is at --out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a model, or an adapter, to another program, and check it there."""
    from congling.core.units import show_bytes, show_seconds

    started = time.monotonic()
    strengths = [_strength(text) for text in lora or ()]
    try:
        done = run(
            source,
            to,
            out,
            type=type,
            version=version,
            verify=verify,
            verify_text=verify_text,
            lora=strengths,
            base=base,
            tokenizer=tokenizer,
            overwrite=overwrite,
        )
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; nothing was written. {AGAIN}") from None
    if as_json:
        size, seconds = _size(done.path), time.monotonic() - started
        found = {"bytes": size, "notes": done.notes, "parity": done.report, "seconds": seconds}
        print_document({"out": done.path, **found})
        raise typer.Exit(1 if done.report is not None and done.report.misses else 0)
    for note in done.notes:
        put(f"note: {note}")
    put(f"wrote {done.path}, {show_bytes(_size(done.path))}, in {show_seconds(time.monotonic() - started)}")
    sound = True
    if done.report is not None:
        from congling.evals.conversion.verdict import show

        sound = show(done.report)
    for line in (done.limit, "next:", *(f"  {command}" for command in done.next)):
        if line:
            put(line)
    if not sound:
        raise typer.Exit(1)


def run(
    source: Path | str,
    to: str,
    out: Path | str,
    *,
    type: str | None = None,
    version: int = 0,
    verify: bool | None = None,
    verify_text: Path | None = None,
    lora: Sequence[Strength] = (),
    base: Path | str | None = None,
    tokenizer: Path | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Convert and, by default where the other program is installed, compare.

    A difference that should not be is no exception: it is in the report, and the export stays.

    Raises:
        UserError: the source is damaged or of no known format, the target cannot hold it, or ``out`` exists.
        Interrupted: Ctrl-C while the export, which stays, was compared.
    """
    from congling.core.output import refuse_existing, refuse_inputs
    from congling.interop import adapter_directory
    from congling.interop.detect import ADAPTERS, kind_of

    if to not in (*get_args(Models), *get_args(Adapters)):
        hint = "one of: " + ", ".join((*get_args(Models), *get_args(Adapters)))
        raise UserError("no such target", value=to, hint=hint)
    source, out = Path(source), Path(out)
    refuse_existing(out, overwrite=overwrite)
    refuse_inputs(out, source, base, tokenizer, *(path for path, _ in lora))
    if out.is_dir() and to in ("gguf", "gguf-lora", "ggla"):
        raise UserError(
            "this is a directory, and a file is made", value=str(out), hint="name it: --out DIR/NAME"
        )
    source = adapter_directory.locate(source) or source  # of a run of sft, its adapter
    adapter = kind_of(source) in ADAPTERS
    if adapter != (to in get_args(Adapters)):
        what = "an adapter goes to gguf-lora, peft or ggla, a model to gguf, hf, llama2c or ollama"
        raise UserError(what, value=f"{source} → {to}", hint="to merge an adapter into its model, use --lora")
    if adapter:
        _refuse(
            type=type, version=version, verify=verify, verify_text=verify_text, lora=lora, tokenizer=tokenizer
        )
        return _adapter(source, to, out, base, overwrite)
    _refuse(base=base)
    return _model(_opened(source, tokenizer, lora), to, out, type, version, verify, verify_text, overwrite)


def _refuse(**options: object) -> None:
    """Raise if one of the options was given, of a model to an adapter or the other way round."""
    if given := next((name for name, value in options.items() if value), None):
        what = "this option is for models" if given != "base" else "this option is for adapters"
        raise UserError(what, value=f"--{given.replace('_', '-')}", hint="leave it out")


def _opened(source: Path, tokenizer: Path | None, lora: Sequence[Strength]) -> "ForeignModel":
    """The model with its adapters merged in."""
    from congling.interop.detect import kind_of
    from congling.interop.formats import read_model

    if kind_of(source) == "run":
        from congling.infer.checkpoints import locate_checkpoint

        source = locate_checkpoint(source)
    model = read_model(source, tokenizer)
    if not lora:
        return model
    from congling.interop.adapters import read_any
    from congling.interop.gguf.packing import rounded
    from congling.quant.mixtures import PLAIN
    from congling.transform.adapter import common_packing
    from congling.transform.merge import merged

    architecture = model.facts.get("architecture")
    adapters = [(read_any(path, model.config, architecture), strength) for path, strength in lora]
    packing, weights = common_packing(adapter for adapter, _ in adapters), model.weights
    dense = set(model.facts.get("types", ())) <= PLAIN  # a GGUF file is rounded already
    if packing is not None and dense:  # what an adapter was trained beside is what it is merged into
        weights = rounded(weights, model.config, packing)
    return replace(model, weights=merged(weights, adapters))


def _model(
    model: "ForeignModel",
    to: str,
    out: Path,
    type: str | None,
    version: int,
    verify: bool | None,
    verify_text: Path | None,
    overwrite: bool,
) -> Conversion:
    from congling.evals.conversion import verdict, verification
    from congling.interop.afterwards import commands, limit
    from congling.interop.formats import READERS, write_model

    if to == "llama2c" and type not in (None, "F32"):
        raise UserError("llama2.c has no types, but versions", value=type, hint="use --version 2 for 8 bits")
    if to != "llama2c" and version:
        raise UserError("only llama2.c has versions", value=version, hint="leave out --version")
    text = verification.text_of(verify_text)
    skipped = verification.wanted(verify, to, model)
    told = limit(model, to), tuple(commands(model, to, out, version=version))
    chosen = (type or "F32").upper()
    notes = write_model(model, to, out, type=chosen, version=version, overwrite=overwrite)  # type: ignore[arg-type]
    if skipped is not None:
        verdict.save(None, out)
        return Conversion(out, (*notes, f"not checked ({skipped})"), None, *told)
    kind = "int8" if version == 2 else chosen
    try:
        report = verification.verify(model, to, out, type=kind, reader=READERS[to], text=text)  # type: ignore[index]
    except KeyboardInterrupt:
        verdict.save(None, out)
        raise Interrupted(f"stopped; {out} is written, but was not checked") from None
    verdict.save(report := replace(report, notes=tuple(notes)), out)
    return Conversion(out, tuple(notes), report, *told)


def _adapter(source: Path, to: str, out: Path, base: Path | str | None, overwrite: bool) -> Conversion:
    """Write an adapter; ours know their base, those of other programs do not."""
    from congling.interop import adapter_directory, adapters
    from congling.interop.afterwards import adapter_commands

    architecture = None
    if base is not None:
        model = _opened(Path(base), None, ())
        config, architecture = model.config, model.facts.get("architecture")
    elif adapter_directory.locate(source) is not None:
        config = adapter_directory.base_of(adapter_directory.read(source)).model
    else:
        raise UserError(
            "this adapter does not say what its base is", where=source, hint="name it with --base"
        )
    adapter = adapters.read_any(source, config, architecture)
    notes = adapters.write(adapter, config, to, out, architecture, overwrite=overwrite)  # type: ignore[arg-type]
    if adapter.packed_base is not None:  # no foreign format can say so
        notes.append(f"it belongs to its base as a GGUF file of type {adapter.packed_base}")
    named = base if base is not None else adapter.facts.get("base_path")
    commands = adapter_commands(to, out, None if named is None else str(named))
    return Conversion(out, tuple(notes), next=tuple(commands))


def _strength(text: str) -> Strength:
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
