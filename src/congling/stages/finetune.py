"""Train a low-rank adapter on a GGUF model as llama.cpp's finetune did: same flags, files and log lines.

::

    model.gguf (stays packed) + text ─rows─ training ─┬─ checkpoint-ITERATION.gguf   to go on from
                                                      └─ lora-ITERATION.gguf         for llama.cpp
    congling finetune --model-base model-q8_0.gguf --train-data book.txt --lora-out lora-ITERATION.gguf
    congling finetune --model-base model-q8_0.gguf --train-data book.txt --lora-r 8 --adam-iter 30 --ctx 128
"""

import typer

from congling.core import manual
from congling.llamacpp_trainers.adapter_options import FinetuneOptions
from congling.llamacpp_trainers.arguments import called

RAW = True
"""The command line is taken as it is, by the former program's rules."""
OPTIONS = FinetuneOptions
"""What may stand on it."""
ABOUT = "Train a low-rank adapter on a GGUF model, which stays as it is, as llama.cpp's program did."


def command(context: typer.Context) -> None:
    """Take the arguments as the former program did."""
    run(called(OPTIONS, "finetune", ABOUT, context.args, manual.examples(__doc__)))


def run(options: FinetuneOptions) -> None:
    """Train as the options say, printing the former program's lines.

    Raises:
        UserError: a file cannot be read, or contradicts the options.
        Interrupted: Ctrl-C; the checkpoint is saved.
    """
    from congling.llamacpp_trainers import inputs

    inputs.require(options)
    from congling.llamacpp_trainers import finetune  # torch loads only for what can be begun

    finetune.run(options)
