"""A small model, batches made from the step, and a trainer around them."""

import numpy as np

from congling.data.batches import Batch
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.train.backends.single import Single
from congling.train.config import TrainConfig
from congling.train.loop import Trainer
from congling.train.objectives.next_token import next_token

VOCABULARY, CONTEXT = 61, 12


def small_model(family="qwen3", **sizes):
    clex, family = family == "clex", "qwen3" if family == "clex" else family
    config = FAMILIES[family](
        **{
            "vocab_size": VOCABULARY,
            "max_position_embeddings": CONTEXT,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            **sizes,
        }
    )
    if clex:
        scaling = {"rope_type": "clex", "original_max_position_embeddings": CONTEXT}
        config = config.replace(positions={"rope_scaling": scaling})
    model = Transformer(config)
    model.initialise(1)
    return model


def settings(**changes):
    return TrainConfig(
        **{
            "max_steps": 6,
            "max_length": CONTEXT,
            "per_device_train_batch_size": 2,
            "device": "cpu",
            "precision": "fp32",
            **changes,
        }
    )


class SplitBatches:
    """Eight rows a step, with weights, dealt to ranks and cut into micro-batches of ``rows``."""

    def __init__(self, rows):
        self.rows, self.accumulation = rows, 8 // rows

    def __call__(self, step, rank, world):
        random = np.random.default_rng(step)
        tokens = random.integers(0, VOCABULARY, (8, CONTEXT + 1))
        weights = (random.random((8, CONTEXT)) < 0.7).astype(np.float32)
        mine = np.array_split(np.arange(8), world)[rank]
        return [
            Batch(tokens[part, :-1], tokens[part, 1:], weights[part], count=float(weights[part].sum()))
            for part in np.array_split(mine, len(mine) // self.rows)
        ]


def trainer(config, rows=2, model=None, objective=next_token, backend=None):
    model = small_model() if model is None else model
    return Trainer(
        model,
        SplitBatches(rows),
        objective,
        config,
        backend or Single(config),
        after_update=model.update_balance,
    )
