"""From texts to a model, and from there to scores, fewer bits and other programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from congling.core.config import as_overrides
from congling.evals.scores import Score
from congling.methods import conversion, evaluation
from congling.methods import damage as comparing
from congling.methods import quantize as quantisation
from congling.methods import train as training
from congling.methods.conversion import Conversion
from congling.methods.damage import Settings
from congling.methods.evaluation import Adapters, Evaluation
from congling.methods.quantize import Quantised
from congling.methods.train import Trained
from congling.plan.quantisation import TOKENS
from congling.plan.recipe import read
from congling.report.damage import DamageReport


def train(
    texts: Path | str | Sequence[Path | str],
    *,
    out: Path | str,
    budget: str | float | None = None,
    settings: Mapping[str, Any] | None = None,
    longer: str | None = None,
    force: bool = False,
) -> Trained:
    """Train a model from texts, and write its report; called again, it goes on where it stopped.

    Args:
        texts: files and folders of texts, or one recipe (``.toml``).
        out: the directory to write, or to go on with.
        budget: time for everything, in seconds or as ``"15m"``.
        settings: keys of recipes and their values, such as ``{"train.max_steps": 2000}``; what they leave
            open is chosen.
        longer: by how much the run that is there is to end later, such as ``"30m"`` or ``"2000steps"``.
        force: train even though the plan has an error.

    Raises:
        UserError: texts, settings or an existing ``out`` do not allow it.
        Interrupted: Ctrl-C; calling again goes on.
    """
    asked = dict(settings or {}) if budget is None else {**(settings or {}), "budget": budget}
    given = [texts] if isinstance(texts, (Path, str)) else list(texts)
    return training.run(read(given, as_overrides(asked)), out, longer=longer, force=force)


@overload
def evaluate(
    model: Path | str,
    *,
    shards: Path | str | None = None,
    documents: Path | str | None = None,
    adapters: Adapters = (),
    tasks: None = None,
    **settings: Any,
) -> Evaluation: ...


@overload
def evaluate(
    model: Path | str,
    *,
    documents: Path | str | None = None,
    adapters: Adapters = (),
    tasks: str | Sequence[str],
    data: Sequence[str] = (),
    **settings: Any,
) -> list[Score]: ...


def evaluate(
    model: Path | str,
    *,
    shards: Path | str | None = None,
    documents: Path | str | None = None,
    adapters: Adapters = (),
    tasks: str | Sequence[str] | None = None,
    data: Sequence[str] = (),
    **settings: Any,
) -> Evaluation | list[Score]:
    """Score a model on held-out text, or by tasks; a run remembers its scores.

    Args:
        model: a run, a checkpoint or a GGUF file.
        shards: what is scored; by default those beside the run.
        documents: what the model was trained on; by default those beside the run.
        adapters: on the model, and how strongly; nothing is remembered then.
        tasks: names of tasks in place of the held-out text, such as ``"continuation"``.
        data: files of texts or questions for the tasks; ``"task=file"`` for one task alone.
        settings: further options of :func:`congling.methods.evaluation.run` (``split``, ``limit_tokens``,
            ``copying`` …), or with tasks of :func:`congling.methods.evaluation.measure` (``limit``, ``seed``,
            ``shots`` …).

    Raises:
        UserError: no model, nothing to score it on, or an unknown task.
    """
    if tasks is None:
        return evaluation.run(model, shards, documents=documents, adapters=adapters, **settings)
    names = tasks if isinstance(tasks, str) else ",".join(tasks)
    scores, _ = evaluation.measure(model, names, data, documents=documents, adapters=adapters, **settings)
    return scores


def quantize(
    model: Path | str,
    out: Path | str,
    method: str = "gptq",
    *,
    settings: Mapping[str, Any] | None = None,
    data: Sequence[str] = (),
    tokens: int = TOKENS,
    seed: int = 0,
) -> Quantised:
    """Put a trained model in fewer bits, as a checkpoint that all other functions take.

    Args:
        model: a run or a checkpoint.
        out: the checkpoint to write.
        method: ``rtn``, ``hqq``, ``gptq``, ``awq``, ``awq+gptq``, ``int8``, ``smoothquant`` or ``onebit``.
        settings: of the method, such as ``{"bits": 3, "group_size": 64}``.
        data: calibration texts or conversations, or one directory of shards; by default what the model was
            trained on.
        tokens: how many of them are read.
        seed: which rows of them are drawn.

    Raises:
        UserError: there is no such model, method or setting, groups do not divide its layers, the calibration
            cannot be read, or something is at ``out``.
    """
    config = quantisation.chosen(method, as_overrides(settings or {}))
    return quantisation.run(model, out, config, data=data, tokens=tokens, seed=seed)


def damage(
    base: Path | str,
    quantised: Path | str | Sequence[Path | str],
    *,
    data: Sequence[str] = (),
    limit_tokens: int = comparing.TOKENS,
    context: int | None = None,
    layers: bool = True,
    texts: bool = True,
    seed: int = 0,
) -> DamageReport:
    """Say what models in fewer bits lost against the one they were made from, on the same held-out tokens.

    Args:
        base: a run, a checkpoint or a GGUF file.
        quantised: what was made of it, one or several.
        data: held-out texts, or shards; by default the shards beside the base.
        limit_tokens: about so many are scored.
        context: window in tokens; by default that of training.
        layers: whether to look at one layer at a time as well.
        texts: whether to let the models write as well.
        seed: of the intervals.

    Raises:
        UserError: a model cannot be read or has another vocabulary, or there is no held-out text.
    """
    others = [quantised] if isinstance(quantised, (Path, str)) else list(quantised)
    return comparing.run(base, others, Settings(data, limit_tokens, context, layers, texts, seed))


def convert(
    model: Path | str,
    to: str,
    out: Path | str,
    *,
    type: str | None = None,
    version: int = 0,
    verify: bool | None = None,
    adapters: Adapters = (),
    base: Path | str | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Take a model, or an adapter, to another program, and compare it there where that is installed.

    Args:
        model: a run, a checkpoint, an adapter, or a model of another program.
        to: ``gguf``, ``hf``, ``llama2c`` or ``ollama``; of an adapter ``gguf-lora``, ``peft`` or ``ggla``.
        out: the file or folder to make.
        type: of the weights: ``F32`` unless given, ``F16``, ``BF16``; of GGUF also ``Q8_0``, ``Q4_K_M`` …
        version: of llama2.c's format.
        verify: compare or not; by default where the other program is installed. ``False`` also leaves out
            what fewer bits cost, which is measured where held-out shards stand beside the run.
        adapters: merged into the model, and how strongly.
        base: of an adapter, the model it was made for.
        overwrite: replace what is at ``out``.

    Raises:
        UserError: the source is damaged or of no known format, the target cannot hold it, or ``out`` exists.
    """
    return conversion.run(
        model,
        to,
        out,
        type=type,
        version=version,
        verify=verify,
        lora=adapters,
        base=base,
        overwrite=overwrite,
    )
