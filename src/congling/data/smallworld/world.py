"""All grammars of the small world, in one script."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from congling.data.smallworld import arithmetic, couplets, dictionary, stories
from congling.data.smallworld.compiler import compile_grammar
from congling.data.smallworld.config import Kind
from congling.data.smallworld.grammar import Grammar, Source
from congling.data.smallworld.lexicon import Category, categories
from congling.data.smallworld.script import to_traditional


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
    sources: dict[Kind, tuple[Source, Mapping[str, str]]] = {
        "story": (stories.STORIES, stories.ALIASES),
        "questions": (stories.QUESTIONS, stories.ALIASES),
        "couplets": (couplets.COUPLETS, couplets.ALIASES),
        "dictionary": (dictionary.DICTIONARY, dictionary.ALIASES),
        "arithmetic": (arithmetic.ARITHMETIC, arithmetic.ALIASES),
    }
    translate = to_traditional if script == "hant" else str
    grammars: dict[Kind, Grammar] = {}
    for kind, (source, aliases) in sources.items():
        grammars[kind] = compile_grammar(source, words, aliases, translate)
    return World(script, words, grammars)
