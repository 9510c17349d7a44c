"""What a contender's process runs: a workload trained by congling's loop or ``transformers``' Trainer."""

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from congling.core.config import build
from congling.data.token_split import TokenSplit
from congling.train.config import TrainConfig
from pacing import Pace, Workload, workload_from

FOREVER = 1_000_000  # steps; whoever measures ends the process


def congling(workload: Workload, pace: Callable[[], None], tell: Callable[[int], None]) -> None:
    """Train with congling's loop as ``pretrain`` does, its loader included.

    ``tell`` gets the number of parameters, ``pace`` is called after every step.
    """
    from congling.data.batches import CorpusBatches
    from congling.model.transformer import Transformer
    from congling.train.backends.single import Single
    from congling.train.loop import Trainer
    from congling.train.objectives.next_token import next_token

    config = training(workload)
    model = Transformer(workload.model)
    tell(sum(parameter.numel() for parameter in model.parameters()))
    batches = CorpusBatches(
        split(workload), context=config.max_length, rows=config.per_device_train_batch_size
    )
    Trainer(model, batches, next_token, config, Single(config)).run([lambda _: pace()])


def training(workload: Workload) -> TrainConfig:
    """The configuration that a workload stands for."""
    rate = {"learning_rate": 1e-3} if workload.optimizer == "adamw" else {}
    optimizer = {"kind": workload.optimizer} | rate
    values = {
        "max_steps": FOREVER,
        "max_length": workload.model.max_position_embeddings,
        "per_device_train_batch_size": workload.rows,
        "optimizer": optimizer,
        "device": workload.device,
        "torch_compile": "on" if workload.compile else "off",
        "precision": workload.precision,
    }
    return build(TrainConfig, values, where="workload")


def split(workload: Workload) -> TokenSplit:
    """The random ids as one document."""
    ids = tokens(workload)
    size = np.array([len(ids)])
    return TokenSplit(ids, size, size, size, eos_id=0, vocab_size=workload.model.vocab_size)


def transformers(workload: Workload, pace: Callable[[], None], tell: Callable[[int], None]) -> None:
    """Train the peer; ``tell`` gets its number of parameters, ``pace`` is called after every step."""
    from transformers import TrainerCallback

    import peers

    class Pacing(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            pace()

    model = peers.build(workload.model)
    tell(model.num_parameters())
    rows = peers.Rows(tokens(workload), workload.model.max_position_embeddings)
    peers.train(
        model,
        rows,
        batch=workload.rows,
        callbacks=[Pacing()],
        max_steps=FOREVER,
        learning_rate=1e-3,
        weight_decay=0.1,
        torch_compile=workload.compile,
        bf16=workload.precision == "bf16",
    )


def tokens(workload: Workload) -> np.ndarray:
    """Random ids: neither speed nor memory depends on which they are."""
    size = 64 * workload.tokens_per_step + 1
    return np.random.default_rng(0).integers(1, workload.model.vocab_size, size)


CONTENDERS = {"congling": congling, "transformers": transformers}


def main() -> None:
    """Train as the parent process paces it, until it goes away."""
    workload = workload_from(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes to standard error; the real standard output is for answers
    pace = Pace(workload, answers, sys.stdin)

    def tell(parameters: int) -> None:
        pace.parameters = parameters

    CONTENDERS[workload.who](workload, pace, tell)


if __name__ == "__main__":
    main()
