"""What ``import congling`` offers: from a text to a model and onward, as plain functions.

::

    train(texts, out=…) ─→ a run ─┬─ generate · chat ─→ texts
                                  ├─ evaluate ─→ scores
    load(model) · tokenizer(model)┴─ convert(to=…) ─→ a model for another program

A model is the path of a run, a checkpoint or a GGUF file, or what ``load`` returned. Mistakes that a person
can mend raise :class:`congling.core.errors.UserError`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast, overload

from congling.core.config import as_overrides, build
from congling.core.errors import UserError
from congling.evals.scores import Score
from congling.infer import generate as generation
from congling.infer.chat import Conversation
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.infer.sampler import SamplingConfig
from congling.methods import conversion, evaluation
from congling.methods import train as training
from congling.methods.conversion import Conversion
from congling.methods.evaluation import Adapters, Evaluation
from congling.methods.train import Trained
from congling.plan.recipe import read
from congling.tokenizer import store
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.encode import Message

__all__ = ["chat", "convert", "evaluate", "generate", "load", "tokenizer", "train"]

Model = Path | str | Loaded
"""What leads to a model, or one that is open already."""


class Sampling(TypedDict, total=False):
    """How tokens are drawn; see :class:`congling.infer.sampler.SamplingConfig` for each."""

    temperature: float
    """0.8 unless given; 0 always takes the likeliest token."""
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int
    """Equal seeds give equal texts."""


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


def load(model: Path | str, *, device: str | None = None, adapters: Adapters = ()) -> Loaded:
    """Open a model with its tokenizer, so that several calls can share it.

    Args:
        model: a run, a checkpoint, or a GGUF file, whose matrices stay packed.
        device: such as ``"cpu"`` or ``"cuda:1"``; by default the first GPU, else the CPU.
        adapters: runs, folders or files of adapters, and how strongly each acts.

    Raises:
        UserError: there is none, it is damaged, or an adapter was made for another base.
    """
    return load_checkpoint(model, device, adapters=adapters)


def tokenizer(path: Path | str) -> Tokenizer:
    """Open a tokenizer directory, or the tokenizer of a run or checkpoint.

    Raises:
        UserError: there is none, or it is damaged.
    """
    return store.load(store.locate(Path(path)))


@overload
def generate(  # pyright: ignore[reportOverlappingOverload]: a text is a sequence of texts, too
    model: Model,
    prompts: str,
    *,
    max_new_tokens: int = 200,
    stop: Sequence[str] = (),
    **sampling: Unpack[Sampling],
) -> str: ...


@overload
def generate(
    model: Model,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 200,
    stop: Sequence[str] = (),
    **sampling: Unpack[Sampling],
) -> list[str]: ...


def generate(
    model: Model,
    prompts: str | Sequence[str],
    *,
    max_new_tokens: int = 200,
    stop: Sequence[str] = (),
    **sampling: Unpack[Sampling],
) -> str | list[str]:
    """Continue a prompt, or several at once; returns what is new, without the prompt.

    Args:
        model: a path, or what ``load`` returned.
        prompts: one text, or several.
        max_new_tokens: at most so many tokens each.
        stop: strings before which a text ends.
        sampling: how tokens are drawn, see :class:`Sampling`.

    Raises:
        UserError: there is no model, or a value of ``sampling`` is out of its range.
    """
    loaded = _opened(model)
    texts = generation.generate(
        loaded.model,
        loaded.tokenizer,
        [prompts] if isinstance(prompts, str) else prompts,
        max_new_tokens=max_new_tokens,
        sampling=_sampling(sampling),
        stop=stop,
    )
    return texts[0] if isinstance(prompts, str) else texts


def chat(
    model: Model,
    messages: str | Sequence[Mapping[str, str]],
    *,
    max_new_tokens: int = 200,
    **sampling: Unpack[Sampling],
) -> str:
    """Answer a question, or the last message of a conversation.

    A model tuned for chat sees the messages through its template; any other continues their plain text. For
    an answer that streams, and a history that is kept, see :class:`congling.infer.chat.Conversation`.

    Args:
        model: a path, or what ``load`` returned.
        messages: a question, or tables with ``role`` (``system``, ``user``, ``assistant``) and ``content``;
            a system message stands first, and the last one is the user's.
        max_new_tokens: at most so many tokens.
        sampling: how tokens are drawn, see :class:`Sampling`.

    Raises:
        UserError: there is no model, or no question at the end of the messages.
    """
    said = (
        [{"role": "user", "content": messages}] if isinstance(messages, str) else [dict(m) for m in messages]
    )
    if not said or said[-1].get("role") != "user" or any("content" not in message for message in said):
        hint = 'such as [{"role": "user", "content": "你好"}]'
        raise UserError("the last message must be a question of the user", value=said[-1:], hint=hint)
    system = said.pop(0)["content"] if said[0]["role"] == "system" else None
    talk = Conversation(
        _opened(model), sampling=_sampling(sampling), max_new_tokens=max_new_tokens, system=system
    )
    talk.messages += cast(list[Message], said[:-1])
    return "".join(talk.answer(said[-1]["content"]))


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
        verify: compare or not; by default where the other program is installed.
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


def _opened(model: Model) -> Loaded:
    return model if isinstance(model, Loaded) else load_checkpoint(model)


def _sampling(given: Sampling) -> SamplingConfig:
    return build(SamplingConfig, given, where="sampling")
