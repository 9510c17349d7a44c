"""Continue a text with a trained model.

::

    congling generate runs/book --prompt 却说宝玉 --max-new-tokens 300 --temperature 0.7
    congling generate runs/book --prompt 却说 --prompt 且说 --no-stream
    congling generate base.gguf --lora a.gguf --lora-scaled b.gguf 0.4 --prompt 却说
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from congling.core.config import build
from congling.infer.mixing import Mix, MixingCommand, mix
from congling.infer.options import Lora, LoraScaled, ModelArgument, ModelOption, one_model

if TYPE_CHECKING:  # torch loads only when a model does
    from congling.infer.sampler import SamplingConfig

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
) -> None:
    """Continue a text with a trained model."""
    from congling.infer import generate
    from congling.infer.checkpoints import load_checkpoint
    from congling.infer.sampler import SamplingConfig

    sampling = build(SamplingConfig, {
        "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
        "repetition_penalty": repetition_penalty, "seed": seed,
    }, where="generate")  # fmt: skip
    place, adapters = one_model(model, model_file, "generate"), mix(lora, lora_scaled)
    prompts, stops = prompt or [""], stop or ()
    if not stream:
        texts = run(
            place, prompts, adapters=adapters, max_new_tokens=max_new_tokens, sampling=sampling, stop=stops
        )
        for start, text in zip(prompts, texts, strict=True):
            print(start + text + "\n")
        return
    loaded = load_checkpoint(place, adapters=adapters)
    for start in prompts:
        print(start, end="", flush=True)
        pieces = generate.stream(
            loaded.model,
            loaded.tokenizer,
            start,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stop=stops,
        )
        for piece in pieces:
            print(piece, end="", flush=True)
        print("\n")


def run(
    model: Path | str, prompts: Sequence[str], *, adapters: Mix | None = None, max_new_tokens: int = 200,
    sampling: "SamplingConfig | None" = None, stop: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """Continue all prompts at once; see :func:`congling.infer.generate.generate`.

    Raises:
        UserError: ``model`` leads to no checkpoint, or to a damaged one; an adapter belongs to another base.
    """
    from congling.infer.checkpoints import load_checkpoint
    from congling.infer.generate import generate

    loaded = load_checkpoint(model, adapters=adapters or ())
    return generate(
        loaded.model, loaded.tokenizer, prompts, max_new_tokens=max_new_tokens, sampling=sampling, stop=stop
    )
