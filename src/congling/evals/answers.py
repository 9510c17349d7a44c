"""What is looked at while a model learns to answer: the loss of held-out answers, and answers it gives."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from congling.data.examples import Example, in_order, targets_of
from congling.infer.generate import generate
from congling.infer.sampler import SamplingConfig
from congling.model.transformer import Transformer
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat import Message, chat_ids
from congling.train.config import TrainConfig
from congling.train.loop import Objective


def held_out_loss(
    examples: Sequence[Example], settings: TrainConfig, objective: Objective, place: Callable[[Any], Any]
) -> Callable[[Transformer], dict[str, float]]:
    """Model to ``loss`` (nats a learnt token) and ``bits_per_character`` of the learnt text.

    Args:
        examples: what was held out.
        settings: rows, context, and how many targets are enough.
        objective: whose ``loss`` is measured.
        place: takes a batch to the model's device.
    """
    characters = sum(example.characters for example in examples) / targets_of(examples)

    @torch.no_grad()
    def look(model: Transformer) -> dict[str, float]:
        nats = targets = 0.0
        for batch in in_order(
            examples, context=settings.context, rows=settings.rows, limit_targets=settings.evaluate_tokens
        ):
            nats += float(objective(model, place(batch)).metrics["loss"])
            targets += batch.count
        each = nats / targets
        bits = each / torch.log(torch.tensor(2.0)).item() / max(characters, 1e-9)
        return {"loss": each, "bits_per_character": bits}

    return look


def answers(
    tokenizer: Tokenizer, questions: Sequence[Sequence[Message]], settings: TrainConfig
) -> Callable[[Transformer], list[dict[str, str]]]:
    """Model to rows of ``prompt`` (the last thing said) and ``text``; the seed is fixed."""
    prompts = [chat_ids(tokenizer, question) for question in questions]
    said = [f"{question[-1]['content']}\n" for question in questions]

    def look(model: Transformer) -> list[dict[str, str]]:
        sampling = SamplingConfig(seed=settings.seed, temperature=0.7)
        notes: list[list[str]] = [[] for _ in prompts]
        texts = generate(model, tokenizer, prompts, max_new_tokens=settings.sample_tokens, sampling=sampling,
                         on_overflow=lambda found: notes[found.row].append(found.told()))  # fmt: skip
        return [
            {"prompt": prompt, "text": text} | ({"note": "; ".join(note)} if note else {})
            for prompt, text, note in zip(said, texts, notes, strict=True)
        ]

    return look
