"""A small Llama-shaped model of long documents of the small world, for what is learnt at longer contexts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from congling.data.smallworld.config import SmallWorldConfig
from congling.data.smallworld.generator import Generator
from congling.data.tuning.examples import Example, ExampleBatches
from congling.model.config import ModelConfig
from congling.model.families import llama
from congling.model.transformer import Transformer
from congling.train.backends.single import Single
from congling.train.config import AdamWConfig, TrainConfig, WSDConfig
from congling.train.loop import Trainer
from congling.train.objectives.next_token import next_token

Ids = NDArray[np.int64]


def documents(count: int, characters: int) -> tuple[list[Ids], int]:
    """Documents as ids of their characters behind a 0 that begins each, and how many ids there are."""
    made = Generator(SmallWorldConfig(seed=5, mix={"long": 1.0}, long_characters=characters))
    texts = [made.document(index).text for index in range(count)]
    known = {character: 1 + index for index, character in enumerate(sorted(set("".join(texts))))}
    return [np.array([0, *(known[one] for one in text)]) for text in texts], len(known) + 1


def windows(texts: Sequence[Sequence[int] | Ids], context: int) -> list[Ids]:
    """Texts one after the other, cut into rows of ``context`` + 1 ids, ``context`` apart."""
    ids = np.concatenate([np.asarray(text, np.int64) for text in texts])
    return [ids[start : start + context + 1] for start in range(0, len(ids) - context, context)]


def shape(vocabulary: int, context: int, layers: int, width: int) -> ModelConfig:
    """Llama's, with 4 heads."""
    return llama(
        vocab_size=vocabulary,
        max_position_embeddings=context,
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=4,
    )


def train(model: Transformer, rows: Sequence[Ids], steps: int, *, at_once: int, rate: float) -> None:
    """Train all weights by AdamW, in float32, on rows of one length."""
    context = len(rows[0]) - 1
    config = TrainConfig(
        max_steps=steps,
        max_length=context,
        per_device_train_batch_size=at_once,
        optimizer=AdamWConfig(learning_rate=rate),
        schedule=WSDConfig(warmup_ratio=0.1),
        device="cpu",
        precision="fp32",
    )
    every = np.ones(context + 1, bool)
    examples = [Example(ids.astype(np.int32), every, context, "") for ids in rows]
    batches = ExampleBatches(examples, context=context, rows=at_once)
    Trainer(model, batches, next_token, config, Single(config)).run()
