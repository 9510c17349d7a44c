"""Opening a model, and letting it write and answer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack, cast, overload

from congling.core.config import build
from congling.core.errors import UserError
from congling.infer import generate as generation
from congling.infer.chat import Conversation
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.infer.sampler import SamplingConfig
from congling.methods.evaluation import Adapters
from congling.tokenizer import store
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.encode import Message

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


def _opened(model: Model) -> Loaded:
    return model if isinstance(model, Loaded) else load_checkpoint(model)


def _sampling(given: Sampling) -> SamplingConfig:
    return build(SamplingConfig, given, where="sampling")
