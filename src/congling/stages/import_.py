"""Import a model of another program: to generate with, to evaluate, to train further.

Reads GGUF, Hugging Face folders, llama2.c and what training scripts keep with torch.save; writes a
checkpoint directory::

    congling import model.gguf --out base
    congling import Qwen3-0.6B --out base
    congling import model.bin --tokenizer tokenizer.model --out base
    congling import ckpt.pt --tokenizer gpt2 --out base
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from congling.core.artifact import Artifact
from congling.core.document import print_document
from congling.core.errors import Interrupted, UserError
from congling.core.interrupt import AGAIN
from congling.core.terminal import put
from congling.methods.options import AsJson

if TYPE_CHECKING:
    from congling.evals.conversion.verdict import Report
    from congling.interop.foreign import ForeignModel
    from congling.interop.torch_state import Missing


@dataclass(frozen=True)
class Import:
    """The checkpoint that was made, and what is known about it."""

    checkpoint: Artifact
    notes: tuple[str, ...]
    """What had to be changed on the way, in sentences."""
    report: "Report | None" = None
    """How it computes beside the program it came from."""
    page: Path | None = None
    """What there is to read about it."""


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
    overwrite: Annotated[bool, typer.Option(help="Replace what is at --out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring a model of another program here."""
    from congling.core.units import show_seconds
    from congling.interop.torch_state import Missing
    from congling.report.checkpoint_content import content_of_checkpoint

    started = time.monotonic()
    try:
        done = run(
            source,
            out,
            tokenizer=tokenizer,
            verify=verify,
            verify_text=verify_text,
            overwrite=overwrite,
            given=Missing(heads, rope_base, context, activation),
        )
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; nothing was written. {AGAIN}") from None
    if as_json:
        said = {"out": done.checkpoint.path, "notes": done.notes, "parity": done.report, "report": done.page}
        print_document(said | {"seconds": time.monotonic() - started})
        raise typer.Exit(1 if done.report is not None and done.report.misses else 0)
    for note in done.notes:
        put(f"note: {note}")
    put(f"made {done.checkpoint.path} in {show_seconds(time.monotonic() - started)}")
    put(f"the report is {done.page}")
    for step in content_of_checkpoint(done.checkpoint).steps:
        put(f"  {step.command}")
    if done.report is not None:
        from congling.evals.conversion.verdict import show

        if not show(done.report):
            raise typer.Exit(1)


def run(
    source: Path | str,
    out: Path | str,
    *,
    tokenizer: Path | None = None,
    verify: bool | None = None,
    verify_text: Path | None = None,
    overwrite: bool = False,
    given: "Missing | None" = None,
) -> Import:
    """Write a checkpoint and, by default where the other program is installed, compare.

    ``given`` is what a checkpoint of torch does not say.

    Raises:
        UserError: the source is damaged, of no known format, or has parts that are not known here; there is
            no tokenizer; or ``out`` exists.
    """
    from congling.core import artifact
    from congling.core.output import refuse_existing, refuse_inputs
    from congling.evals.conversion import verdict, verification
    from congling.interop import checkpoint_directory
    from congling.interop.detect import kind_of
    from congling.interop.formats import read_model
    from congling.report import checkpoint_content
    from congling.tokenizer.chat.templates import failure_of

    source, out = Path(source), Path(out)
    refuse_existing(out, overwrite=overwrite)
    refuse_inputs(out, source, tokenizer)
    kind = kind_of(source)
    if kind in ("run", "checkpoint"):
        raise UserError("this is a model of ours already", value=str(source), hint="use it as it is")
    model = read_model(source, tokenizer, given)
    text, skipped = verification.text_of(verify_text), verification.wanted(verify, kind, model)
    skipped = skipped or verification.comparable(verify, kind, source, model)
    with artifact.writing(
        out, "checkpoint", facts=_facts(model, source, kind), overwrite=overwrite
    ) as folder:
        checkpoint_directory.write(model, folder)
    made, notes = artifact.opened(out, "checkpoint"), tuple(model.facts.get("notes") or ())
    if model.tokenizer is not None and (failure := failure_of(model.tokenizer)):
        notes = (*notes, failure)
    if skipped is not None:
        verdict.save(None, out)
        return Import(
            made, (*notes, f"not checked ({skipped})"), page=checkpoint_content.write(out, out / "report")
        )
    ours = checkpoint_directory.read(out)
    try:
        report = verification.verify(ours, kind, source, type=_type(model, kind), text=text)
    except KeyboardInterrupt:
        verdict.save(None, out)
        raise Interrupted(f"stopped; {out} is written, but was not checked") from None
    verdict.save(report := replace(report, notes=notes), out)
    return Import(made, notes, report, checkpoint_content.write(out, out / "report"))


def _facts(model: "ForeignModel", source: Path, kind: str) -> dict[str, Any]:
    """What a checkpoint remembers of its origin."""
    name = str(model.facts.get("name") or source.stem)
    return {
        "name": name,
        "chat": bool(model.facts.get("chat", False)),
        "source": {"format": kind, "file": source.name},
        "notes": list(model.facts.get("notes") or ()),
    }


def _type(model: "ForeignModel", kind: str) -> str:
    """``F32`` where the other program computes in float32, else the type that most of the weights have."""
    types = model.facts.get("types") or {}
    if kind != "gguf":
        return "int8" if types else "F32"
    return max((name for name in types), key=lambda name: types[name] * (name != "F32"), default="F32")
