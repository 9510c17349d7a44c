"""Bring a model of another program here: as a checkpoint, compared with the program it came from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from congling.core import artifact
from congling.core.artifact import Artifact
from congling.core.errors import Interrupted, UserError
from congling.core.output import refuse_existing, refuse_inputs
from congling.evals.conversion import verdict, verification
from congling.evals.conversion.verdict import Report
from congling.interop import checkpoint_directory, formats
from congling.interop.detect import kind_of
from congling.interop.foreign import ForeignModel
from congling.interop.hf.quantised.outgoing import KIND_OF
from congling.interop.source import Source
from congling.interop.torch_state import Missing
from congling.quant.config import FACT
from congling.quant.int8 import Int8Linear
from congling.report import checkpoint_content
from congling.tokenizer.chat.templates import failure_of

_UNPACKED = "its layers in few bits were unpacked: the checkpoint holds the floats they stand for"
_STACKED = "experts of a mixture are one matrix here, so " + _UNPACKED
_KEPT = "its layers stay in few bits, with the same codes: adapters learn on them, their own weights do not"


@dataclass(frozen=True)
class Import:
    """The checkpoint that was made, and what is known about it."""

    checkpoint: Artifact
    notes: tuple[str, ...]
    """What had to be changed on the way, in sentences."""
    report: Report | None = None
    """How it computes beside the program it came from."""
    page: Path | None = None
    """What there is to read about it."""


def run(
    source: Path | str,
    out: Path | str,
    *,
    tokenizer: Path | None = None,
    verify: bool | None = None,
    verify_text: Path | None = None,
    dequantize: bool = False,
    overwrite: bool = False,
    given: Missing | None = None,
) -> Import:
    """Write a checkpoint and, by default where the other program is installed, compare.

    ``given`` is what a checkpoint of torch does not say. Layers in few bits of a Hugging Face folder stay so,
    but those of a mixture of experts; with ``dequantize`` they become the floats they stand for.

    Raises:
        UserError: the source is damaged, of no known format, or has parts that are not known here; there is
            no tokenizer; or ``out`` exists.
    """
    source, out = Path(source), Path(out)
    refuse_existing(out, overwrite=overwrite)
    refuse_inputs(out, source, tokenizer)
    kind = kind_of(source)
    if kind in ("run", "checkpoint"):
        raise UserError("this is a model of ours already", value=str(source), hint="use it as it is")
    model = formats.read_model(Source(source, kind), tokenizer, given)
    text, type = verification.text_of(verify_text), _type(model, kind)
    skipped = verification.wanted(verify, kind, model, type)
    skipped = skipped or verification.comparable(verify, kind, source, model)
    rounds_inputs = isinstance(next(iter(model.layers.values()), None), Int8Linear)
    model = _in_few_bits(model, dequantize)
    if rounds_inputs and not model.layers:
        skipped = skipped or "the other program rounds inputs to 8 bits too, and the checkpoint does not"
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
        report = verification.verify(ours, kind, source, type=type, text=text)
    except KeyboardInterrupt:
        verdict.save(None, out)
        raise Interrupted(f"stopped; {out} is written, but was not checked") from None
    verdict.save(report := replace(report, notes=notes), out)
    return Import(made, notes, report, checkpoint_content.write(out, out / "report"))


def _in_few_bits(model: ForeignModel, dequantize: bool) -> ForeignModel:
    """The model as it is written, with a note on what becomes of its layers in few bits."""
    mixture = model.config.mlp.kind == "moe"
    if FACT not in model.facts or not (model.layers or mixture):
        return model
    kept = not mixture and not dequantize
    more = [_KEPT if kept else _STACKED if mixture else _UNPACKED]
    facts = {**model.facts, "notes": [*(model.facts.get("notes") or ()), *more]}
    return replace(model, facts=facts) if kept else replace(model, facts=facts, layers={})


def _facts(model: ForeignModel, source: Path, kind: str) -> dict[str, Any]:
    """What a checkpoint remembers of its origin."""
    name = str(model.facts.get("name") or source.stem)
    return {
        "name": name,
        "chat": bool(model.facts.get("chat", False)),
        "source": {"format": kind, "file": source.name},
        "notes": list(model.facts.get("notes") or ()),
        **({FACT: model.facts[FACT]} if model.layers else {}),
    }


def _type(model: ForeignModel, kind: str) -> str:
    """``F32`` where the other program computes in float32, else the type that most of the weights have."""
    types = model.facts.get("types") or {}
    if FACT in model.facts:
        return KIND_OF[model.facts[FACT]["method"]]
    if kind != "gguf":
        return "int8" if types else "F32"
    return max((name for name in types), key=lambda name: types[name] * (name != "F32"), default="F32")
