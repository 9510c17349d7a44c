"""Talk to a trained model in the terminal.

::

    congling chat runs/book
    congling chat base.gguf --lora-scaled adapter.gguf 0.8

``/help`` lists what can be said to the chat itself. Ctrl-C stops an answer, Ctrl-D leaves; in a terminal,
lines can be edited and come back with the arrow keys.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from congling.core import interrupt, terminal
from congling.core.errors import UserError
from congling.core.terminal import put
from congling.infer.history import History, chat_history
from congling.infer.mixing import MixingCommand, mix
from congling.infer.options import Lora, LoraScaled, ModelArgument, ModelOption, one_model
from congling.infer.terminal import interactive, line_reader, read_message

if TYPE_CHECKING:  # torch loads only when a model does
    from congling.infer.chat import Conversation

_NOT_TUNED = """\
This model was trained to continue text and has not been tuned to answer:
it will go on from what you write, with everything said so far before it."""

COMMAND = MixingCommand
TALKS = True
"""Silence is right: it is the person's turn."""


def command(
    model: ModelArgument = None,
    model_file: ModelOption = None,
    lora: Lora = None,
    lora_scaled: LoraScaled = None,
    system: Annotated[str | None, typer.Option(help="What the model is told beforehand.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 200,
    temperature: Annotated[float, typer.Option(help="0 = always the likeliest token.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest tokens of this share.")] = 0.95,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1: avoid repeating tokens.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Equal seeds and words give equal answers.")] = 0,
    history: Annotated[
        bool, typer.Option(envvar="CONGLING_HISTORY", help="Remember what is typed, in a file of your own.")
    ] = True,
) -> None:
    """Talk to a trained model in the terminal."""
    from congling.core.config import build
    from congling.data.encoding import from_outside
    from congling.infer.chat import Conversation
    from congling.infer.checkpoints import load_checkpoint
    from congling.infer.sampler import SamplingConfig

    sampling = build(
        SamplingConfig,
        {
            "temperature": temperature,
            "top_p": top_p,
            "repetition_penalty": repetition_penalty,
            "seed": seed,
        },
        where="chat",
    )
    loaded = load_checkpoint(one_model(model, model_file, "chat"), adapters=mix(lora, lora_scaled))
    put(f"{loaded.checkpoint.path}: /help lists commands, /reset forgets, /quit ends")
    if loaded.lengths:
        put(f"It reads {loaded.lengths}.")
    if not loaded.tuned_for_chat:
        print(_NOT_TUNED)
    run(
        Conversation(
            loaded, sampling=sampling, max_new_tokens=max_new_tokens, system=system and from_outside(system)
        ),
        chat_history() if history and interactive() else None,
    )


def run(conversation: "Conversation", history: History | None = None) -> None:
    """Read messages from standard input and answer them until ``/quit`` or the end of input.

    Ctrl-C stops an answer. Where nobody can edit lines it ends the chat between answers; in a terminal it
    drops what was typed, and twice in a row it leaves as well. ``history`` is what was typed before.
    """
    from congling.infer.commands import COMMANDS

    history = history or History(None)
    read, stopped = line_reader(history, list(COMMANDS)), False
    while True:
        try:
            line = read_message(read, history).strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            interrupt.acknowledge()
            print()
            if stopped or not interactive():
                return
            print("(Ctrl-D or /quit leaves, and so does Ctrl-C once more)")
            stopped = True
            continue
        stopped = False
        if not line:
            continue
        if line.startswith("/") and not line.startswith("//"):
            if not _obey(conversation, line):
                return
            continue
        _show(conversation, conversation.answer(line.removeprefix("/") if line.startswith("//") else line))


def _obey(conversation: "Conversation", line: str) -> bool:
    """Carry out a command; false where it ends the chat."""
    from congling.infer.commands import COMMANDS

    name, _, rest = line.partition(" ")
    if name in ("/quit", "/exit"):
        return False
    try:
        if name == "/retry":
            _show(conversation, conversation.retry())
        elif name in COMMANDS:
            put(COMMANDS[name].run(conversation, rest.strip()))
        else:
            put(f"unknown command: {name}; /help lists them")
    except UserError as error:
        put(str(error))
    return True


def _show(conversation: "Conversation", answer: Iterator[str]) -> None:
    """Print an answer as it is written, and what could not be read for it."""
    try:
        for piece in answer:
            put(piece, end="")
        print()
        for notice in conversation.notices:
            terminal.say(f"({notice}; /reset begins anew)")
    except KeyboardInterrupt:
        interrupt.acknowledge()
        print(" … (stopped)")
