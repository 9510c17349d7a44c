"""Continue a text with a trained model.

::

    congling generate runs/book --prompt 却说宝玉 --max-new-tokens 300 --temperature 0.7
    congling generate runs/book --prompt 却说 --prompt 且说 --no-stream
    congling generate base.gguf --lora a.gguf --lora-scaled b.gguf 0.4 --prompt 却说
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from congling.core import terminal
from congling.core.document import print_document
from congling.core.terminal import put
from congling.infer.mixing import Mix, MixingCommand, mix
from congling.infer.options import Lora, LoraScaled, ModelArgument, ModelOption, one_model
from congling.methods.options import AsJson

if TYPE_CHECKING:  # torch loads only when a model does
    from congling.infer.checkpoints import Loaded
    from congling.infer.sampler import SamplingConfig
    from congling.infer.window import Overflow

COMMAND = MixingCommand


def command(
    model: ModelArgument = None,
    model_file: ModelOption = None,
    lora: Lora = None,
    lora_scaled: LoraScaled = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", help="What to continue; repeatable.")
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", min=1, help="Longest continuation, in tokens.")
    ] = 200,
    temperature: Annotated[float, typer.Option(help="0 = always the likeliest token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Choose among the k likeliest tokens.")] = None,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest tokens of this share.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Leave out tokens below this share of the likeliest.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1: avoid repeating tokens.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal texts.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="End before this string; repeatable.")] = None,
    stream: Annotated[bool, typer.Option(help="Show the text as it is written.")] = True,
    whole_characters: Annotated[
        bool, typer.Option(help="Draw nothing that would spoil a character (U+FFFD).")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Continue a text with a trained model."""
    from congling.core.config import build
    from congling.data.encoding import from_outside
    from congling.infer.checkpoints import load_checkpoint
    from congling.infer.sampler import SamplingConfig

    values = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "whole_characters": whole_characters,
    }
    sampling = build(SamplingConfig, values, where="generate")
    place, adapters = one_model(model, model_file, "generate"), mix(lora, lora_scaled)
    prompts = [from_outside(text) for text in prompt or [""]]
    stops = [from_outside(text) for text in stop or ()]
    if stream and not as_json:
        return _stream(load_checkpoint(place, adapters=adapters), prompts, max_new_tokens, sampling, stops)
    found: list[Overflow] = []
    texts = run(
        place,
        prompts,
        adapters=adapters,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        stop=stops,
        on_overflow=found.append,
    )
    _show(prompts, texts, found, as_json=as_json)


def _show(
    prompts: Sequence[str], texts: Sequence[str], found: Sequence["Overflow"], *, as_json: bool
) -> None:
    """Print finished texts, each behind its prompt."""
    if as_json:
        rows = [{"prompt": start, "text": text} for start, text in zip(prompts, texts, strict=True)]
        return print_document({"texts": rows, "warnings": [one.told() for one in found]})
    for start, text in zip(prompts, texts, strict=True):
        put(start + text + "\n")
    _warn(found)


def _stream(
    loaded: "Loaded", prompts: Sequence[str], new_tokens: int, sampling: "SamplingConfig", stop: Sequence[str]
) -> None:
    """Show one text after another as it is written."""
    from congling.infer import generate

    found: list[Overflow] = []
    trained_length: int | None = loaded.trained_length
    for start, number in zip(prompts, generate.counted(prompts), strict=True):
        put(start, end="")
        if any(one.kind == "beyond" for one in found):
            trained_length = None  # said already
        found.clear()
        pieces = generate.stream(
            loaded.model,
            loaded.tokenizer,
            start,
            max_new_tokens=new_tokens,
            sampling=sampling,
            stop=stop,
            on_overflow=found.append,
            trained_length=trained_length,
            number=number,
        )
        for piece in pieces:
            put(piece, end="")
        put("\n")
        _warn(found)


def run(
    model: Path | str,
    prompts: Sequence[str],
    *,
    adapters: Mix | None = None,
    max_new_tokens: int = 200,
    sampling: "SamplingConfig | None" = None,
    stop: Sequence[str] = (),
    on_overflow: "Callable[[Overflow], None] | None" = None,
) -> list[str]:
    """Continue all prompts at once; see :func:`congling.infer.generate.generate`.

    Raises:
        UserError: ``model`` leads to no checkpoint, or to a damaged one; an adapter belongs to another base.
    """
    from congling.infer.checkpoints import load_checkpoint
    from congling.infer.generate import generate

    loaded = load_checkpoint(model, adapters=adapters or ())
    return generate(
        loaded.model,
        loaded.tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        stop=stop,
        on_overflow=on_overflow,
        trained_length=loaded.trained_length,
    )


def _warn(found: "Sequence[Overflow]") -> None:
    """Say which prompts were not read from their beginning, or are longer than trained on, each kind once."""
    for kind in dict.fromkeys(one.kind for one in found):
        rows = [one for one in found if one.kind == kind]
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        terminal.say(f"{'note' if kind == 'beyond' else 'warning'}: {rows[0].told()}{more}")
