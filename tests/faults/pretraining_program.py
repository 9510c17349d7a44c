"""A pretraining run as a program, to be killed: shards, tokenizer and output directory are its arguments."""

import sys

from congling.core.errors import Interrupted
from congling.methods.inputs import open_inputs
from congling.methods.pretrain import PretrainConfig, run
from congling.model.families import FAMILIES
from congling.train.config import TrainConfig

STEPS = 60


def configuration(vocabulary: int) -> PretrainConfig:
    """Everything that could go wrong on resume: dropout, an average, accumulation, masks, samples."""
    return PretrainConfig(
        model=FAMILIES["qwen3"](
            vocab_size=vocabulary,
            max_position_embeddings=16,
            num_hidden_layers=2,
            hidden_size=32,
            dropout=0.1,
        ),
        train=TrainConfig(
            max_steps=STEPS,
            max_length=16,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            ema_decay=0.9,
            document_mask=True,
            device="cpu",
            save_steps=5,
            eval_steps=13,
            eval_tokens=200,
            sample_steps=20,
            sample_prompts=("天",),
            sample_tokens=4,
        ),
    )


if __name__ == "__main__":
    shards, tokenizer, out = sys.argv[1:]
    inputs = open_inputs(shards, tokenizer)
    try:
        run(configuration(inputs.shards.vocab_size), inputs, out)
    except Interrupted as stopped:
        sys.exit(f"interrupted: {stopped}")
