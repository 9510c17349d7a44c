"""Words of a command line: which are settings (``key=value``), and which name files."""

import re
from collections.abc import Iterable
from pathlib import Path

from congling.core.addresses import refuse_address
from congling.core.files import exists

_KEY = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+)*")


def joined_words(words: Iterable[str]) -> list[str]:
    """The words, ``key = value``, ``key= value`` and ``key =value`` as one word each.

    >>> joined_words(["book.txt", "train.max_steps", "=", "100", "seed=1"])
    ['book.txt', 'train.max_steps=100', 'seed=1']
    """
    found: list[str] = []
    waiting = False  # the last word is ``key=`` and its value is still to come
    for word in words:
        key = found[-1].removesuffix("=") if found else ""
        is_key = bool(_KEY.fullmatch(key))
        if waiting and not _sets(word):
            found[-1] += word
            waiting = False
        elif is_key and word.startswith("=") and not found[-1].endswith("=") and not exists(word):
            found[-1] += word
            waiting = word == "="
        else:
            found.append(word)
            waiting = word.endswith("=") and bool(_KEY.fullmatch(word[:-1]))
    return found


def separate(words: Iterable[str]) -> tuple[list[Path], list[str]]:
    """Part what stands on the command line into inputs and ``key=value`` overrides.

    A file whose name holds ``=`` is an input all the same.

    Raises:
        UserError: an address of the web is among them.
    """
    inputs: list[Path] = []
    overrides: list[str] = []
    for word in joined_words(words):
        refuse_address(word)
        if "=" in word and not exists(word):
            overrides.append(word)
        else:
            inputs.append(Path(word))
    return inputs, overrides


def _sets(word: str) -> bool:
    """Whether a word is a setting of its own."""
    key, equals, _ = word.partition("=")
    return bool(equals and _KEY.fullmatch(key))
