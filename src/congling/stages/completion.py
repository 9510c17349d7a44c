"""Let the shell complete subcommands, options, their values, and keys of recipes such as
``train.optimizer.learning_rate``.

Prints a script for bash, zsh or fish, to be read when the shell starts::

    congling completion bash >> ~/.bashrc
    congling completion zsh > ~/.zfunc/_congling
    congling completion fish > ~/.config/fish/completions/congling.fish
"""

from typing import Annotated, Literal

import typer

Shell = Literal["bash", "zsh", "fish"]


def command(shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print the script that lets a shell complete."""
    print(run(shell), end="")


def run(shell: Shell) -> str:
    """The script of a shell."""
    from congling.core.shells import SCRIPTS

    return SCRIPTS[shell]
