"""Train a llama model as llama.cpp's train-text-from-scratch did: same flags, files and log lines.

::

    vocabulary + text ─rows─ training ─┬─ checkpoint-ITERATION.gguf   to go on from
                                       └─ model-ITERATION.gguf        for llama.cpp
    congling train-text-from-scratch --vocab-model vocab.gguf --train-data book.txt --ctx 64 --adam-iter 256
    congling train-text-from-scratch --vocab-model vocab.gguf --train-data book.txt
        --checkpoint-in checkpoint-LATEST.gguf
"""

import typer

from congling.core import manual
from congling.llamacpp_trainers.arguments import called
from congling.llamacpp_trainers.options import ScratchOptions

RAW = True
"""The command line is taken as it is, by the former program's rules."""
OPTIONS = ScratchOptions
"""What may stand on it."""
ABOUT = "Train a llama model from random weights, or go on from a checkpoint, as llama.cpp's program did."


def command(context: typer.Context) -> None:
    """Take the arguments as the former program did."""
    run(called(OPTIONS, "train-text-from-scratch", ABOUT, context.args, manual.examples(__doc__)))


def run(options: ScratchOptions) -> None:
    """Train as the options say, printing the former program's lines.

    Raises:
        UserError: a file cannot be read, or contradicts the options.
        Interrupted: Ctrl-C; the checkpoint is saved.
    """
    from congling.llamacpp_trainers import inputs

    inputs.require(options)
    from congling.llamacpp_trainers import scratch  # torch loads only for what can be begun

    scratch.run(options)
