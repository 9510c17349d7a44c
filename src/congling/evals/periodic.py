"""Evaluation during pretraining: the held-out loss, and samples from the same prompts."""

from collections.abc import Callable

from congling.data.token_split import TokenSplit
from congling.evals.loss import evaluate
from congling.evals.samples import Samples
from congling.model.transformer import Transformer
from congling.tokenizer.base import Tokenizer
from congling.train.backends.single import Single
from congling.train.config import TrainConfig


def held_out_loss(
    split: TokenSplit, settings: TrainConfig, backend: Single
) -> Callable[[Transformer], dict[str, float]]:
    """Model to ``loss`` (nats per token) and ``bits_per_character``; processes share the windows.

    Windows do not overlap, which is quick; the loss is a little above that of ``evaluate``'s own windows, in
    which every token has others before it.
    """

    def look(model: Transformer) -> dict[str, float]:
        report = evaluate(
            model,
            split,
            context=settings.max_length,
            rows=settings.per_device_train_batch_size,
            overlap=0,
            limit_tokens=settings.eval_tokens,
            document_mask=settings.document_mask,
            each_part=backend.each_part,
        )
        return {"loss": report.nats_per_token, "bits_per_character": report.bits_per_character}

    return look


def continuations(tokenizer: Tokenizer, settings: TrainConfig) -> Samples:
    """How the model continues the prompts of the run."""
    prompts = settings.sample_prompts
    return Samples(tokenizer, prompts, prompts, settings, temperature=0.8)
