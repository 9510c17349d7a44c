"""What is looked at while a model learns to answer: the loss of held-out answers, and answers it gives."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from congling.data.examples import Example, in_order, spread
from congling.evals.likelihood import target_nats
from congling.infer.generate import generate
from congling.infer.sampler import SamplingConfig
from congling.model.transformer import Transformer
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat import Message, chat_ids
from congling.train.config import TrainConfig


def held_out_loss(
    examples: Sequence[Example], settings: TrainConfig, place: Callable[[Any], Any]
) -> Callable[[Transformer], dict[str, float]]:
    """Model to ``loss`` (nats a learnt token), ``loss_per_answer`` (the same within each answer, a mean over
    answers: of the first a long answer is most, of the second each is one) and ``bits_per_character``.

    Args:
        examples: what was held out.
        settings: rows, context, and how many targets are enough.
        place: takes a batch to the model's device.
    """
    looked_at = spread(examples, settings.context, settings.evaluate_tokens)
    characters = sum(example.characters for row in looked_at for example in row)

    @torch.no_grad()
    def look(model: Transformer) -> dict[str, float]:
        nats = by_answer = answered = 0.0
        targets = 0
        for batch in in_order(
            examples, context=settings.context, rows=settings.rows, limit_targets=settings.evaluate_tokens,
            answer=1.0,
        ):  # fmt: skip
            placed = place(batch)
            hidden = model(placed.tokens, positions=placed.positions, documents=placed.documents)
            counts = placed.weights > 0
            each = torch.cat([one for one, _ in target_nats(model, hidden[counts], placed.targets[counts])])
            nats += float(each.double().sum())
            by_answer += float((each * placed.weights[counts]).double().sum())
            targets, answered = targets + len(each), answered + batch.count
        bits = nats / math.log(2) / max(characters, 1e-9)
        return {"loss": nats / targets, "loss_per_answer": by_answer / answered, "bits_per_character": bits}

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
