"""Short stories, and the same stories followed by questions and answers, as ``stories.toml`` has them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from congling.data.smallworld.grammar import Source, some_of
from congling.data.smallworld.package_data import table

ALIASES = {"who": "person", "friend": "person", "third": "person"}
_WRITTEN = table("stories")


class Plot(NamedTuple):
    """What happens in a story, as a grammar."""

    sentences: list[Source]
    questions: tuple[str, ...]
    """Patterns of question and answer."""


def _sequence(items: Sequence[str | list[str]]) -> list[Source]:
    """Sentences one after the other; a list among them is a choice."""
    return [tuple(item) if isinstance(item, list) else item for item in items]


def _question(entry: str | Mapping[str, str]) -> str:
    """The pattern of a question and its answer; a name stands for a question that several plots ask."""
    known = _WRITTEN["questions"][entry] if isinstance(entry, str) else entry
    return f"\n问：{known['ask']}？\n答：{known['answer']}。 | {known['fact']}"


PLOTS = tuple(
    Plot(_sequence(plot["sentences"]), tuple(map(_question, plot["questions"]))) for plot in _WRITTEN["plots"]
)
OPENING, _TALK, _ENDING = (_sequence(_WRITTEN[part]) for part in ("opening", "talk", "ending"))


def _story(plot: Plot) -> list[Source]:
    return [*plot.sentences, *_TALK, *_ENDING]


STORIES: Source = [*OPENING, tuple(_story(plot) for plot in PLOTS)]
QUESTIONS: Source = [*OPENING, tuple([*_story(plot), some_of(plot.questions, 2)] for plot in PLOTS)]
