"""Talk to a trained model in the terminal.

::

    congling chat runs/book
    congling chat base.gguf --lora-scaled adapter.gguf 0.8

``/reset`` forgets the conversation, ``/quit`` ends it; Ctrl-C stops an answer, and at the prompt ends the
chat.
"""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from congling.core.config import build
from congling.data.encoding import from_outside
from congling.infer.mixing import MixingCommand, mix
from congling.infer.options import Lora, LoraScaled, ModelArgument, ModelOption, one_model

if TYPE_CHECKING:  # torch loads only when a model does
    from congling.infer.chat import Conversation

_NOT_TUNED = """\
This model was trained to continue text and has not been tuned to answer:
it will go on from what you write, with everything said so far before it."""

COMMAND = MixingCommand


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
) -> None:
    """Talk to a trained model in the terminal."""
    from congling.infer.chat import Conversation
    from congling.infer.checkpoints import load_checkpoint
    from congling.infer.sampler import SamplingConfig

    sampling = build(SamplingConfig, {
        "temperature": temperature, "top_p": top_p, "repetition_penalty": repetition_penalty, "seed": seed,
    }, where="chat")  # fmt: skip
    loaded = load_checkpoint(one_model(model, model_file, "chat"), adapters=mix(lora, lora_scaled))
    print(f"{loaded.checkpoint.path}: /reset forgets, /quit ends")
    if not loaded.tuned_for_chat:
        print(_NOT_TUNED)
    run(
        Conversation(
            loaded, sampling=sampling, max_new_tokens=max_new_tokens, system=system and from_outside(system)
        )
    )


def run(conversation: "Conversation") -> None:
    """Read lines from standard input and answer them until ``/quit``, the end of input, or Ctrl-C."""
    while True:
        try:
            line = from_outside(input("\n> ")).strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if line == "/quit":
            return
        if line == "/reset":
            conversation.reset()
            print("(forgotten)")
        elif line.startswith("/"):
            print("unknown command; there are /reset and /quit")
        elif line:
            _answer(conversation, line)


def _answer(conversation: "Conversation", line: str) -> None:
    try:
        for piece in conversation.answer(line):
            print(piece, end="", flush=True)
        print()
        for notice in conversation.notices:
            print(f"({notice}; /reset begins anew)", file=sys.stderr)
    except KeyboardInterrupt:
        print(" … (stopped)")
