"""All grammars of the small world, in one script."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from congling.data.smallworld import arithmetic
from congling.data.smallworld.config import Kind
from congling.data.smallworld.grammar import Grammar, compile_grammar
from congling.data.smallworld.lexicon import Category, categories


@dataclass(frozen=True)
class World:
    """The grammars of one script by kind of document, and the categories they draw from."""

    script: Literal["hans", "hant"]
    categories: Mapping[str, Category]
    grammars: Mapping[Kind, Grammar]


@cache
def world(script: Literal["hans", "hant"]) -> World:
    """Compile the world in Simplified or Traditional characters."""
    words = categories(script)
    g = compile_grammar(arithmetic.ARITHMETIC, words, arithmetic.ALIASES)
    return World(script, words, {"story": g, "questions": g, "couplets": g, "dictionary": g, "arithmetic": g})
