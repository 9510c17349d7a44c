"""The words and stories of the package: whole, of the form that is read, and nothing in them unused."""

import pytest

from congling.data.smallworld import stories
from congling.data.smallworld.grammar import SLOT
from congling.data.smallworld.lexicon import categories
from congling.data.smallworld.package_data import table

STORIES, WORDS = table("stories"), table("lexicon")


def sentences(items):
    return [text for item in items for text in ([item] if isinstance(item, str) else item)]


def patterns():
    """Every sentence and question of the file."""
    asked = [entry for plot in STORIES["plots"] for entry in plot["questions"] if not isinstance(entry, str)]
    found = [text for part in ("opening", "talk", "ending") for text in sentences(STORIES[part])]
    found += [text for plot in STORIES["plots"] for text in sentences(plot["sentences"])]
    return found + [
        entry[part] for entry in [*asked, *STORIES["questions"].values()] for part in ("ask", "answer")
    ]


def test_there_is_nothing_in_the_file_of_stories_but_what_is_read() -> None:
    assert STORIES.keys() == {"opening", "talk", "ending", "questions", "plots"}
    for plot in STORIES["plots"]:
        assert plot.keys() == {"sentences", "questions"}
        assert all(
            item and (isinstance(item, str) or len(set(item)) == len(item)) for item in plot["sentences"]
        )
        assert len(plot["questions"]) >= 2  # two are asked about a story
        for entry in plot["questions"]:
            assert isinstance(entry, str) or entry.keys() == {"ask", "answer", "fact"}


def test_every_common_question_is_asked_somewhere() -> None:
    named = {entry for plot in STORIES["plots"] for entry in plot["questions"] if isinstance(entry, str)}
    assert named == STORIES["questions"].keys()


def test_every_slot_is_of_a_category() -> None:
    known = categories("hans").keys() | stories.ALIASES.keys()
    slots = [slot for text in patterns() for slot in SLOT.finditer(text)]
    names = {slot[k].rstrip("0123456789") for slot in slots for k in (1, 3) if slot[k]}
    assert names <= known
    assert len(slots) > 400


@pytest.mark.parametrize("group", WORDS)
def test_an_entry_has_a_form_for_every_attribute_and_stands_once(group: str) -> None:
    found = categories("hans")
    for name in WORDS[group]:
        category = found[name]
        assert len(category.entries) > 1
        assert len({entry[0] for entry in category.entries}) == len(category.entries)
        assert all(len(entry) == len(category.attributes) and all(entry) for entry in category.entries)


def test_a_category_stands_in_one_group_only() -> None:
    assert sum(map(len, WORDS.values())) == len({name for group in WORDS.values() for name in group})
