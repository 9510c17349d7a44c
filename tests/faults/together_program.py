"""One of two processes that train together until one of them is gone: the run directory is its argument."""

import sys

from congling.core.errors import UserError
from congling.train.backends.ddp import build_backend
from congling.train.runs.train import RunParts, train
from support.training_doubles import settings, trainer

if __name__ == "__main__":
    config = settings(
        max_steps=100_000,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        ddp_timeout=float(sys.argv[2]),
        save_steps=1000,
    )
    backend = build_backend(config)
    try:
        train(trainer(config, backend=backend), sys.argv[1], RunParts(config))
    except UserError as error:
        sys.exit(f"congling: {error}")
