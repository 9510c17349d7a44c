"""Texts that a model writes for a measurement: many prompts, some at a time, in their order."""

from collections.abc import Callable, Sequence

from congling.core.progress import track
from congling.infer.checkpoints import Loaded
from congling.infer.generate import Prompt, counted, generate
from congling.infer.sampler import SamplingConfig
from congling.infer.window import Overflow

GREEDY = SamplingConfig(temperature=0.0)
ROWS = 32
"""Prompts continued together."""


def written(
    loaded: Loaded,
    prompts: Sequence[Prompt],
    *,
    tokens: int,
    sampling: SamplingConfig = GREEDY,
    stop: Sequence[str] = (),
    label: str = "writing",
    on_overflow: Callable[[int, Overflow], None] | None = None,
) -> list[str]:
    """Continue every prompt by at most ``tokens``; prompts of like length share a batch.

    Equal seeds give equal texts, however prompts are batched; what is drawn is the model's own distribution,
    characters that it spoils included. ``on_overflow`` is told the number of a prompt whose beginning is not
    read.

    Raises:
        UserError: the model and the tokenizer do not fit.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    texts, numbers = [""] * len(prompts), counted(prompts)
    starts = range(0, len(order), ROWS)
    for start in track(starts, label, total=len(starts)):
        batch = order[start : start + ROWS]

        def told(found: Overflow, batch: list[int] = batch) -> None:
            if on_overflow is not None:
                on_overflow(batch[found.row], found)

        found = generate(
            loaded.model,
            loaded.tokenizer,
            [prompts[i] for i in batch],
            max_new_tokens=tokens,
            sampling=sampling.replace(whole_characters=False),
            stop=stop,
            on_overflow=told,
            numbers=[numbers[i] for i in batch],
        )
        for index, text in zip(batch, found, strict=True):
            texts[index] = text
    return texts
