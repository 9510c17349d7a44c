"""The adapters on a model and their strengths, as options of the command line give them.

::

    --lora a.gguf --lora b.gguf               each at strength 1
    --lora-scaled a.gguf 0.4                  as llama.cpp took it for long
    --lora-scaled a.gguf:0.4,b.gguf:0.8       as llama.cpp takes it today
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from congling.core.errors import UserError

Mix = list[tuple[Path, float]]
"""Adapters and their strengths; effects add up."""


def mix(plain: Sequence[str] | None, scaled: Sequence[str] | None) -> Mix:
    """Adapters named by ``--lora`` and ``--lora-scaled``.

    Raises:
        UserError: no file, no strength, or a strength that is no finite number.
    """
    found: Mix = [(Path(name), 1.0) for words in plain or () for name in _listed(words)]
    for word in (word for words in scaled or () for word in _listed(words)):
        name, _, number = word.rpartition(":")
        strength = _number(number)
        if not name or strength is None:
            hint = "write --lora-scaled FILE 0.4, or --lora-scaled FILE:0.4"
            raise UserError(
                "an adapter and its strength are needed", where="--lora-scaled", value=word, hint=hint
            )
        if not math.isfinite(strength):
            raise UserError("the strength must be a finite number", where="--lora-scaled", value=word)
        found.append((Path(name), strength))
    return found


class MixingCommand(TyperCommand):
    """A command whose ``--lora-scaled`` takes two words, which the library below cannot express."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the two words before they are parsed."""
        return super().parse_args(ctx, joined(args))


def joined(words: Sequence[str]) -> list[str]:
    """Command line with ``--lora-scaled FILE 0.4`` written as ``--lora-scaled FILE:0.4``."""
    result: list[str] = []
    for word in words:
        pair = len(result) > 1 and result[-2] == "--lora-scaled" and _number(word) is not None
        if pair and _number(result[-1].rpartition(":")[2]) is None:
            result[-1] += f":{word}"
        else:
            result.append(word)
    return result


def _listed(words: str) -> list[str]:
    """Names between commas; a file whose own name has one is taken as it is."""
    return [words] if Path(words).exists() else words.split(",")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
