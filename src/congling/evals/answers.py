"""Evaluation during fine-tuning: the loss of held-out answers, and answers to held-out questions."""

import math
from collections.abc import Callable, Sequence

import torch

from congling.data.batches import Batch
from congling.data.tuning.examples import Example, evaluation_batches, spread
from congling.evals.likelihood import target_nats
from congling.evals.samples import Samples
from congling.model.transformer import Transformer
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.encode import Message, chat_ids
from congling.train.backends.single import Single
from congling.train.config import TrainConfig


def held_out_loss(
    examples: Sequence[Example], settings: TrainConfig, backend: Single
) -> Callable[[Transformer], dict[str, float]]:
    """Model to ``loss`` (nats a learnt token), ``loss_per_answer`` (the same within each answer, a mean over
    answers: of the first a long answer is most, of the second each is one) and ``bits_per_character``.

    Args:
        examples: what was held out.
        settings: rows, context, and how many targets are enough.
        backend: takes a batch to the model's device; processes share the batches.
    """
    looked_at = spread(examples, settings.max_length, settings.eval_tokens)
    characters = sum(example.characters for row in looked_at for example in row)

    @torch.no_grad()
    def look(model: Transformer) -> dict[str, float]:
        def score(batch: Batch) -> Sequence[float]:
            placed = backend.to_device(batch)
            hidden = model(placed.tokens, positions=placed.positions, documents=placed.documents)
            counts = placed.weights > 0
            each = torch.cat([one for one, _ in target_nats(model, hidden[counts], placed.targets[counts])])
            by_answer = (each * placed.weights[counts]).double().sum()
            return float(each.double().sum()), float(by_answer), len(each), batch.count

        batches = evaluation_batches(
            examples,
            context=settings.max_length,
            rows=settings.per_device_train_batch_size,
            limit_targets=settings.eval_tokens,
            answer=1.0,
        )
        found = backend.each_part(score, list(batches))
        nats, by_answer, targets, answered = map(sum, zip(*found, strict=True))
        bits = nats / math.log(2) / max(characters, 1e-9)
        return {"loss": nats / targets, "loss_per_answer": by_answer / answered, "bits_per_character": bits}

    return look


def answers(tokenizer: Tokenizer, questions: Sequence[Sequence[Message]], settings: TrainConfig) -> Samples:
    """What the model answers, behind the last thing said."""
    prompts = [chat_ids(tokenizer, question) for question in questions]
    said = [f"{question[-1]['content']}\n" for question in questions]
    return Samples(tokenizer, prompts, said, settings, temperature=0.7)
