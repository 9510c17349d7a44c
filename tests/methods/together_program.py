"""One of two processes that begin a run from a recipe: shards, tokenizer and output are its arguments."""

import sys
from pathlib import Path

from congling.methods.inputs import open_inputs, read_recipe
from congling.methods.planned import begin_or_go_on
from congling.plan.recipe import Recipe

RECIPE = (
    "budget=0.01s", "train.max_length=16", "train.per_device_train_batch_size=2", "train.device=cpu",
    "train.torch_compile='off'", "model.num_hidden_layers=1", "model.hidden_size=64",
    "train.optimizer.kind=adamw", "train.optimizer.learning_rate=0.00001",
)  # fmt: skip
"""The number of steps is left to the plan; its learning rate is an error, and such plans measure no steps."""

if __name__ == "__main__":
    shards, tokenizer, out = sys.argv[1:]
    inputs = open_inputs(shards, tokenizer)
    run = begin_or_go_on(
        read_recipe(Recipe, None, RECIPE), inputs, Path(out), force=True, show=lambda plan: print("planned")
    )
    print("steps", len([row for row in run.log("metrics").rows() if "loss" in row]))
