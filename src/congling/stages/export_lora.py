"""Merge adapters into a GGUF model as llama.cpp's export-lora did, each tensor keeping its type.

::

    model.gguf + 0.4 · a.gguf + 0.8 · b.bin → merged.gguf
    congling export-lora -m model.gguf -o merged.gguf --lora style.gguf
    congling export-lora -m model.gguf -o merged.gguf --lora-scaled a.gguf 0.4 --lora-scaled b.bin 0.8
"""

import typer

from congling.core import manual
from congling.llamacpp_trainers.adapter_options import ExportOptions
from congling.llamacpp_trainers.arguments import called

RAW = True
"""The command line is taken as it is, by the former program's rules."""
OPTIONS = ExportOptions
"""What may stand on it."""
ABOUT = "Merge adapters of any format into a GGUF model, in the order given."


def command(context: typer.Context) -> None:
    """Take the arguments as the former program did."""
    run(called(OPTIONS, "export-lora", ABOUT, context.args, manual.examples(__doc__)))


def run(options: ExportOptions) -> None:
    """Write the base with the adapters in it.

    Raises:
        UserError: a name is missing, a file cannot be read, or an adapter was made for another base.
    """
    from congling.llamacpp_trainers import export

    export.run(options)
