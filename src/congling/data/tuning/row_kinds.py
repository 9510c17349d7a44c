"""What the rows of a file can be read as, told by trying: pairs, rated answers, conversations, prompts."""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import islice
from typing import Any

from congling.core.artifact import exists
from congling.core.errors import UserError
from congling.data.config import SMALL_WORLD, DataConfig
from congling.data.document import Document
from congling.data.problems import FileNote, Place, ReadingLog
from congling.data.sources import reading, rows
from congling.data.sources.compared import is_pair
from congling.data.sources.conversation import asks
from congling.data.sources.fields import Log, Unfit
from congling.data.tuning.chat_rows import conversation_of
from congling.data.tuning.preference_rows import Make, pair_of, question_of
from congling.data.tuning.preferences import rated_or_pair


class Sort(StrEnum):
    """What rows are, and how they are called where they are counted."""

    PAIRS = "preference pair"
    RATED = "rated answer"
    CONVERSATIONS = "conversation"
    PROMPTS = "prompt"


ROWS_OF: Mapping[Sort, Make[Any]] = {
    Sort.PAIRS: pair_of,
    Sort.RATED: rated_or_pair,
    Sort.CONVERSATIONS: conversation_of,
    Sort.PROMPTS: question_of,
}
METHODS: Mapping[Sort, str] = {
    Sort.PAIRS: "dpo, reward",
    Sort.RATED: "dpo with preference.loss_type=kto",
    Sort.CONVERSATIONS: "sft",
    Sort.PROMPTS: "grpo, ppo, pairs",
}
"""The commands that learn from each."""


def sorts_of(config: DataConfig) -> Mapping[Sort, int]:
    """How many of the first rows can be read as what, first what most of them are; nothing for texts.

    Raises:
        UserError: a file cannot be read.
    """
    if config.text:
        return {}
    records = [
        record
        for record in islice(reading.read(config.sources, config, ReadingLog(), _raw), rows.LOOK)
        if not isinstance(record, Document)
    ]
    if not records or 2 * sum(_is_row(record) for record in records) <= len(records):
        return {}
    counts = {sort: sum(_can(make, record) for record in records) for sort, make in ROWS_OF.items()}
    usual = [sort for sort, count in counts.items() if 2 * count > len(records)]
    if usual == [Sort.PROMPTS] and 4 * counts[Sort.CONVERSATIONS] > len(records):
        usual = []  # conversations, many of them faulty
    first = usual or [Sort.CONVERSATIONS]
    return {first[0]: counts[first[0]]} | {sort: count for sort, count in counts.items() if count}


def by_sort(config: DataConfig) -> list[DataConfig]:
    """The sources, files of one sort together; texts stay with conversations, which sft learns beside them.

    Raises:
        UserError: a source does not exist.
    """
    if any(source == SMALL_WORLD or exists(source) for source in config.sources):
        return [config]
    files, groups = reading.files_of(config.sources), dict[Sort | None, list[str]]()
    for file in files:
        try:
            found = (
                sorts_of(config.model_copy(update={"sources": (file,)})) if reading.has_records(file) else {}
            )
        except UserError:  # it cannot be read: said where it is
            found = {}
        groups.setdefault(next(iter(found), None), []).append(file)
    texts, talks = groups.get(None, []), groups.get(Sort.CONVERSATIONS, [])
    if texts and talks:
        del groups[None]
        groups[Sort.CONVERSATIONS] = [file for file in files if file in {*texts, *talks}]
    if len(groups) < 2:
        return [config]
    return [config.model_copy(update={"sources": tuple(group)}) for group in groups.values()]


def _is_row(record: Any) -> bool:
    return asks(record) or is_pair(record)


def _can(make: Make[Any], record: Any) -> bool:
    try:
        make(record, Place("", 1), Log())
    except Unfit:
        return False
    return True


def _raw(
    records: Iterable[rows.Record], note: FileNote, config: DataConfig, findings: ReadingLog
) -> Iterator[Any]:
    return (record.value for record in records)
