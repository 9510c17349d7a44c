"""A model, or an adapter, taken to another program, and compared there where that program is installed.

::

    run · checkpoint · GGUF · folder ─ read, adapters merged in ─ write ─ verify ─→ Conversion
    adapter ─ read for its base ─ write ─────────────────────────────────────────↗
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from congling.core.errors import Interrupted, UserError
from congling.core.output import refuse_existing, refuse_inputs
from congling.evals.conversion import verdict, verification
from congling.evals.conversion.verdict import Report
from congling.interop import adapter_directory, adapters, formats
from congling.interop.afterwards import adapter_commands, commands, limit
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import imatrix
from congling.interop.gguf.calibrated import Calibration, Rounding
from congling.interop.gguf.packing import rounded
from congling.interop.hf.card import record_damage
from congling.interop.hf.quantised.outgoing import natural
from congling.interop.source import Source, source_of
from congling.interop.stored_bits import stored_bits
from congling.methods import exported_damage
from congling.methods.exported_damage import ExportedDamage
from congling.methods.importance import calibration, importance_matrix
from congling.model.counts import parameters
from congling.quant.mixtures import COPY, PLAIN, named
from congling.transform.adapter import common_packing
from congling.transform.freeze import frozen
from congling.transform.merge import merged

Models = Literal["gguf", "hf", "llama2c", "ollama"]
IMATRIX = "imatrix"
"""A target that is no model, but what a text says of one."""
_UNPACKED = "an adapter was merged into layers in few bits: they are written as the floats that came of it"
Adapters = Literal["gguf-lora", "peft", "ggla"]
Strength = tuple[Path | str, float]
"""An adapter in any format, and how strongly it is merged in."""


@dataclass(frozen=True)
class Conversion:
    """What was written, and what is known about it."""

    path: Path
    notes: tuple[str, ...]
    """What had to be changed on the way, in sentences."""
    report: Report | None = None
    """How it computes in the program it is for."""
    limit: str = ""
    """How much a model reads there, in a sentence."""
    next: tuple[str, ...] = ()
    """Command lines that run it there, and one that measures what its fewer bits cost."""
    bits: float | None = None
    """That a weight of the whole file or folder takes; None of formats of other programs' own."""
    damage: ExportedDamage | None = None
    """What its fewer bits cost, where that was measured."""


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
    freeze: int | None = None,
    calibrate: Path | None = None,
    rounding: Rounding = "nearest",
    overwrite: bool = False,
) -> Conversion:
    """Convert and, by default where the other program is installed, compare.

    A difference that should not be is no exception: it is in the report, and the export stays. With
    ``freeze`` positions that depend on the text's length are those of that length, see ``transform.freeze``.
    ``calibrate``, a text, shards or an importance matrix, weighs the rounding of quantised GGUF files;
    ``rounding`` says whether codes are the nearest of ggml's search, or GPTQ's.

    Raises:
        UserError: the source is damaged or of no known format, the target cannot hold it, ``out`` exists, or
            the model does not read ``freeze`` tokens.
        Interrupted: Ctrl-C while the export, which stays, was compared.
    """
    source, out = Path(source), Path(out)
    _check_places(to, out, overwrite, source, base, tokenizer, calibrate, *(path for path, _ in lora))
    found = source_of(source)
    if found.is_adapter != (to in get_args(Adapters)):
        what = "an adapter goes to gguf-lora, peft or ggla, a model to gguf, hf, llama2c or ollama"
        hint = "to merge an adapter into its model, use --lora"
        raise UserError(what, value=f"{found.path} → {to}", hint=hint)
    if found.is_adapter:
        _refuse(type=type, version=version, verify=verify, verify_text=verify_text, lora=lora)
        _refuse(tokenizer=tokenizer, freeze=freeze, calibrate=calibrate, rounding=rounding != "nearest")
        return _adapter(found, to, out, base, overwrite)
    _refuse(base=base)
    _check_calibration(to, type, calibrate, rounding)
    model, notes = _changed(formats.read_model(found, tokenizer), lora, freeze)
    weighing = None
    if calibrate is not None and to == IMATRIX:
        matrix, more = importance_matrix(calibrate, model)
        imatrix.write(matrix, out, overwrite=overwrite)
        return Conversion(out, (*notes, *more))
    if calibrate is not None:
        weighing, more = calibration(calibrate, model, rounding)
        notes += more
    done = _model(model, to, out, type, version, verify, verify_text, overwrite, notes, weighing)
    if to not in ("gguf", "hf"):
        return done
    done = replace(done, bits=stored_bits(out).bits(parameters(model.config)))
    if lora or freeze is not None or not _loses(found, model, _type(model, to, type)):
        return done
    return _with_damage(done, found, measure=verify is not False)


def _loses(source: Source, model: ForeignModel, type: str) -> bool:
    """Whether a model of ours is put, or was before, in fewer bits than its floats."""
    fewer = type not in PLAIN and (type != COPY or bool(model.layers))
    return fewer and source.kind in ("run", "checkpoint")


def _with_damage(done: Conversion, source: Source, *, measure: bool) -> Conversion:
    """With what its fewer bits cost, kept in its card or report, and the command that measures all of it."""
    base = exported_damage.base_of(source)
    done = replace(done, next=(*done.next, exported_damage.command(source, done.path, base)))
    if base is None or not measure:
        return done
    try:
        found = exported_damage.measured(base, done.path)
    except UserError as error:
        return replace(done, notes=(*done.notes, f"what its fewer bits cost was not measured: {error}"))
    except KeyboardInterrupt:
        what = f"stopped; {done.path} is written, but what its fewer bits cost was not measured"
        raise Interrupted(what) from None
    if found is not None:
        verdict.save(done.report, done.path, found.to_json())
        if done.path.is_dir():
            record_damage(done.path, f"What it lost, {found.line}.")
    return replace(done, damage=found)


def _check_places(to: str, out: Path, overwrite: bool, *inputs: Path | str | None) -> None:
    """Raise for an unknown target, and where writing would destroy or go astray."""
    if to not in (*get_args(Models), IMATRIX, *get_args(Adapters)):
        hint = "one of: " + ", ".join((*get_args(Models), IMATRIX, *get_args(Adapters)))
        raise UserError("no such target", value=to, hint=hint)
    refuse_existing(out, overwrite=overwrite)
    refuse_inputs(out, *inputs)
    if out.is_dir() and to in ("gguf", IMATRIX, "gguf-lora", "ggla"):
        raise UserError(
            "this is a directory, and a file is made", value=str(out), hint="name it: --out DIR/NAME"
        )


def _check_calibration(to: str, type: str | None, calibrate: Path | None, rounding: str) -> None:
    """Raise where a calibration would change nothing, or is missing."""
    if rounding not in get_args(Rounding):
        raise UserError("no such rounding", value=rounding, hint=f"one of: {', '.join(get_args(Rounding))}")
    if calibrate is None:
        if to == IMATRIX or rounding != "nearest":
            raise UserError("this needs a text to calibrate on", value=to, hint="--calibrate FILE")
    elif to not in ("gguf", "ollama", IMATRIX):
        raise UserError("a calibration weighs the types of GGUF", value=to, hint="leave --calibrate out")
    elif to != IMATRIX and (type is None or type.upper() == COPY or named(type) in PLAIN):
        what = "a calibration weighs what is quantised, and this type is not"
        raise UserError(what, value=type, hint="--type Q4_K_M, or another of fewer bits")


def _frozen(model: ForeignModel, length: int) -> tuple[ForeignModel, list[str]]:
    """The model with the positions of one length, and what is to be said of it."""
    config, weights = frozen(model.config, model.weights, length)
    if config == model.config:
        return model, ["its positions do not depend on the text's length: --freeze changes nothing"]
    note = f"positions are those of a text of {length:,} tokens, also for shorter texts; the context is "
    note += f"{config.max_position_embeddings:,}"
    return replace(model, config=config, weights=weights), [note]


def _refuse(**options: object) -> None:
    """Raise if one of the options was given, of a model to an adapter or the other way round."""
    if given := next((name for name, value in options.items() if value), None):
        what = "this option is for models" if given != "base" else "this option is for adapters"
        raise UserError(what, value=f"--{given.replace('_', '-')}", hint="leave it out")


def _changed(
    model: ForeignModel, lora: Sequence[Strength], freeze: int | None
) -> tuple[ForeignModel, list[str]]:
    """The model with adapters merged in and positions frozen, and what is to be said of that."""
    notes = [_UNPACKED] if lora and model.layers else []
    model = _with_adapters(model, lora) if lora else model
    if freeze is None:
        return model, notes
    model, more = _frozen(model, freeze)
    return model, [*notes, *more]


def _with_adapters(model: ForeignModel, lora: Sequence[Strength]) -> ForeignModel:
    """The model with adapters merged in: in floats, for its codes no longer stand for what it is."""
    architecture = model.facts.get("architecture")
    found = [(adapters.read_any(path, model.config, architecture), strength) for path, strength in lora]
    packing, weights = common_packing(adapter for adapter, _ in found), model.weights
    dense = set(model.facts.get("types", ())) <= PLAIN  # a GGUF file is rounded already
    if packing is not None and dense:  # what an adapter was trained beside is what it is merged into
        weights = rounded(weights, model.config, packing)
    return replace(model, weights=merged(weights, found), layers={})


def _model(
    model: ForeignModel,
    to: str,
    out: Path,
    type: str | None,
    version: int,
    verify: bool | None,
    verify_text: Path | None,
    overwrite: bool,
    notes: list[str],
    weighing: Calibration | None,
) -> Conversion:
    """``notes``: what has been changed so far."""
    if to == "llama2c" and type not in (None, "F32"):
        raise UserError("llama2.c has no types, but versions", value=type, hint="use --version 2 for 8 bits")
    if to != "llama2c" and version:
        raise UserError("only llama2.c has versions", value=version, hint="leave out --version")
    text = verification.text_of(verify_text)
    chosen = _type(model, to, type)
    skipped = verification.wanted(verify, to, model, chosen)
    told = limit(model, to), tuple(commands(model, to, out, version=version))
    notes = notes + formats.write_model(
        model,
        to,  # type: ignore[arg-type]
        out,
        type=chosen,
        version=version,
        overwrite=overwrite,
        calibration=weighing,
    )
    if skipped is not None:
        verdict.save(None, out)
        return Conversion(out, (*notes, f"not checked ({skipped})"), None, *told)
    kind = "int8" if version == 2 else chosen
    try:
        report = verification.verify(model, to, out, type=kind, reader=formats.READERS[to], text=text)  # type: ignore[index]
    except KeyboardInterrupt:
        verdict.save(None, out)
        raise Interrupted(f"stopped; {out} is written, but was not checked") from None
    verdict.save(report := replace(report, notes=tuple(notes)), out)
    return Conversion(out, tuple(notes), report, *told)


def _type(model: ForeignModel, to: str, type: str | None) -> str:
    """Of the weights: as a person says; else one that holds layers in few bits as they are."""
    if type is None and to in ("gguf", "ollama") and model.layers:
        return COPY
    if type is None and to == "hf" and model.layers and model.config.mlp.kind != "moe":
        return natural(model.layers)
    return (type or "F32").upper()


def _adapter(source: Source, to: str, out: Path, base: Path | str | None, overwrite: bool) -> Conversion:
    """Write an adapter; ours know their base, those of other programs do not."""
    architecture = None
    if base is not None:
        model = formats.read_model(source_of(base))
        config, architecture = model.config, model.facts.get("architecture")
    elif source.kind == "adapter":
        config = adapter_directory.base_of(adapter_directory.read(source.path)).model
    else:
        raise UserError(
            "this adapter does not say what its base is", where=source.path, hint="name it with --base"
        )
    adapter = adapters.read_any(source, config, architecture)
    notes = adapters.write(adapter, config, to, out, architecture, overwrite=overwrite)  # type: ignore[arg-type]
    if adapter.packed_base is not None:  # no foreign format can say so
        notes.append(f"it belongs to its base as a GGUF file of type {adapter.packed_base}")
    named = base if base is not None else adapter.facts.get("base_path")
    commands = adapter_commands(to, out, None if named is None else str(named))
    return Conversion(out, tuple(notes), next=tuple(commands))
