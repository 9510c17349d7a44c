"""A converted model checked in the program it is for.

Float32 exports must compute the same as the model here; of other types the file is read back, so that the
report tells rounding (against the model it was made from) and the other program's arithmetic (against the
file as read here) apart.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from congling.core import files, machine
from congling.core.errors import UserError
from congling.core.progress import stage
from congling.evals.conversion.parity import TEXT, WINDOW, Engine, Lengths, compare, divergence, perplexity
from congling.evals.conversion.provoking import texts_for
from congling.evals.conversion.verdict import Report
from congling.interop.assembly import transformer
from congling.interop.foreign import ForeignModel
from congling.interop.formats import gguf_in
from congling.model.counts import parameters
from congling.quant.coded import CodedLinear
from congling.quant.int8 import Int8Linear
from congling.tokenizer.base import Tokenizer

ACCURACY = {"gguf": 1e-3, "ollama": 1e-3, "hf": 1e-4, "llama2c": 1e-3}
"""Largest difference of logits between two float32 programs, by format."""
_GELU_TABLE = 1e-2
"""llama.cpp looks up the GELU of GPT-2 in a table of 16-bit values."""
_VERIFYING = 8  # bytes a parameter: the model here and there, in float32
_LONGEST_TEXT = 20_000  # characters
_LONGEST = {"hf": 4096}  # tokens of the long text
_ELSEWHERE = 1024
"""In other programs: llama.cpp's angles are the less exact the further (1.4e-3 in logits at 4,096)."""
_LOGITS = 2**26
"""Scores of the long text that a program holds."""
_PACKAGES = {"gguf": "xllamacpp", "ollama": "xllamacpp", "hf": "transformers"}
_QUANTISED = {
    "GPTQ": ("auto-round", "auto-round-lib"), "AWQ": ("auto-round", "auto-round-lib"),
    "CT": ("compressed-tensors",), "BNB": ("bitsandbytes",),
}  # fmt: skip
"""What transformers needs besides, by type."""
_IN_HALF = 2e-2
"""Three bits of GPTQ are computed in float16 there."""


def lacking(target: str, type: str = "F32") -> str | None:
    """A package without which the program that a format is for cannot be asked; ``None``: all are there.

    Of run.c there is always a reader here.
    """
    needed = [_PACKAGES[target]] if target in _PACKAGES else []
    for package in (*needed, *_QUANTISED.get(type, ())):
        try:
            version(package)
        except PackageNotFoundError:
            return package
    return None


@stage("comparing with the other program")
def verify(
    original: ForeignModel,
    target: str,
    path: Path,
    *,
    type: str = "F32",
    reader: Callable[[Path], ForeignModel] | None = None,
    text: str = TEXT,
) -> Report:
    """Compare a model with what another program makes of the files at ``path``.

    ``reader`` reads those files back; it is needed for types other than float32.

    Raises:
        UserError: the program is not installed or refuses the files, or the model has no tokenizer.
    """
    if original.tokenizer is None:
        raise UserError("without a tokenizer nothing can be verified", hint="name one with --tokenizer")
    unrounded, before, lengths = transformer(original), None, lengths_of(original, target)
    model, kl, layers = unrounded, None, None
    if reader is not None and type != "F32":
        before = perplexity(unrounded, original.tokenizer, text, lengths)
        model = transformer(reader(path))
    engine = _ENGINES[target](path, original)
    try:
        more = texts_for(original.tokenizer, target)
        parity = compare(model, original.tokenizer, engine, text, more, lengths)
        if before is not None:
            kl = divergence(unrounded, original.tokenizer, engine, text, lengths)
        if type in _QUANTISED and _rounds_inputs(original):
            layers = _layer_difference(engine, path, original.tokenizer, text)
    finally:
        if (close := getattr(engine, "close", None)) is not None:
            close()
    accuracy = _accuracy(original, target, type)
    return Report(target, type, parity, before, accuracy, divergence=kl, layer_difference=layers)


def lengths_of(model: ForeignModel, target: str) -> Lengths:
    """How long the texts are: of a model with stretched positions one is as long as its context, within
    bounds, and none is longer than the other programs compute alike."""
    config = model.config
    context = config.trained_length if config.depends_on_length else config.max_position_embeddings
    stretched = config.positions.kind == "rope" and config.positions.rope_scaling is not None
    if not stretched and "extended" not in model.facts:
        return Lengths(context)
    longest = _LONGEST.get(target, _ELSEWHERE)
    return Lengths(context, min(context, longest, max(WINDOW, _LOGITS // config.vocab_size)))


def wanted(asked: bool | None, target: str, model: ForeignModel, type: str = "F32") -> str | None:
    """Why a conversion is not verified; ``None`` when it is.

    ``asked`` is what a person said; when they said nothing, what is possible is done.

    Raises:
        UserError: they asked for it, and the program is not installed.
    """
    if asked is False:
        return "--no-verify"
    if target not in _ENGINES:
        if asked:
            raise UserError("there is no program here to check this with", value=target)
        return "the training script it comes from is no program that can be asked"
    if (found := _unasked(target, model, type)) is not None:
        why, hint = found
        if asked:
            raise UserError(why, hint=hint)
        return f"{why}; {hint}"
    if asked is None and model.tokenizer is None:
        return "there is no tokenizer to make a text with"
    if asked is None and _VERIFYING * parameters(model.config) > machine.memory_bytes() / 2:
        return "too large to hold twice in memory here; --verify does it nevertheless"
    return None


def _unasked(target: str, model: ForeignModel, type: str) -> tuple[str, str] | None:
    """Why no program here can be asked, and what to do; ``None``: one can."""
    if (package := lacking(target, type)) is not None:
        extra = "quant" if type in _QUANTISED else "hf" if target == "hf" else "gguf"
        return f"{package} is not installed", f"pip install 'congling[{extra}]' checks the next one"
    layer = next(iter(model.layers.values()), None)
    if type == "GPTQ" and isinstance(layer, CodedLinear) and layer.bits == 3 and layer.zeros is not None:
        return "no program here runs three bits with zero points", "quantise with sym=true to have it checked"
    return None


def comparable(asked: bool | None, kind: str, source: Path, model: ForeignModel) -> str | None:
    """Why a model cannot be checked in the program it came from; ``None`` when it can.

    Raises:
        UserError: a person asked for it.
    """
    from congling.interop.hf.model import unloadable

    reason = unloadable(source, str(model.facts.get("architecture"))) if kind == "hf" else None
    if reason is not None and asked:
        raise UserError(reason, value=str(source), hint="leave --verify out")
    return reason


def text_of(file: Path | None) -> str:
    """The built-in test text, after the beginning of a person's own file if there is one.

    Raises:
        UserError: the file cannot be read as UTF-8.
    """
    if file is None:
        return TEXT
    try:
        return files.text(file)[:_LONGEST_TEXT] + "\n" + TEXT
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", value=str(file)) from None
    except UnicodeDecodeError:
        raise UserError("this text is not UTF-8", value=str(file)) from None


def _accuracy(model: ForeignModel, target: str, type: str) -> float | None:
    """Allowed difference of logits; llama.cpp and runq round activations too where weights are no float32."""
    if type in _QUANTISED:
        return _accuracy_in_few_bits(model, type)
    if type != "F32" and target != "hf":
        return None
    mlp = model.config.mlp
    gelu = mlp.kind == "plain" or (mlp.kind == "gated" and mlp.hidden_act != "silu")
    table = target in ("gguf", "ollama") and gelu
    return _GELU_TABLE if table else ACCURACY[target]


def _accuracy_in_few_bits(model: ForeignModel, type: str) -> float | None:
    """That of float32 where transformers computes in it. Where inputs are rounded too, numbers are told."""
    if _rounds_inputs(model):
        return None
    layer = next(iter(model.layers.values()), None)
    in_half = type == "GPTQ" and isinstance(layer, CodedLinear) and layer.bits == 3
    return _IN_HALF if in_half else ACCURACY["hf"]


def _rounds_inputs(model: ForeignModel) -> bool:
    return isinstance(next(iter(model.layers.values()), None), Int8Linear)


def _layer_difference(engine: Any, path: Path, tokenizer: Tokenizer, text: str) -> float:
    from congling.evals.conversion.layers import layer_difference

    return layer_difference(engine, path, [tokenizer.bos_id, *tokenizer.encode(text)[: WINDOW - 1]])


def _llama_cpp(path: Path, model: ForeignModel) -> Engine:
    from congling.interop.engines.llama_cpp import LlamaCpp

    file = gguf_in(path) if path.is_dir() else path
    longest = max(512, lengths_of(model, "gguf").long)
    return LlamaCpp(file, context=min(model.config.max_position_embeddings, longest))


def _transformers(path: Path, model: ForeignModel) -> Engine:
    from congling.interop.engines.transformers import TransformersEngine

    return TransformersEngine(path)


def _llama2c(path: Path, model: ForeignModel) -> Engine:
    """run.c puts a space before every text; that is left out where the tokenizer here puts none."""
    from congling.interop.engines.llama2c import Llama2C

    spaced = Llama2C(path)
    assert model.tokenizer is not None
    same = spaced.tokenize("a") == model.tokenizer.encode("a")
    return spaced if same else Llama2C(path, dummy_space=False)


_ENGINES: Mapping[str, Callable[[Path, ForeignModel], Engine]] = {
    "gguf": _llama_cpp,
    "ollama": _llama_cpp,
    "hf": _transformers,
    "llama2c": _llama2c,
}
