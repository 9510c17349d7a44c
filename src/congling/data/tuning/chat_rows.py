"""From a record to a conversation to learn from: turns in order, up to the last answer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from congling.data.clean import blank
from congling.data.config import DataConfig
from congling.data.document import Document
from congling.data.problems import FileNote, Place, ReadingLog
from congling.data.sources import rows
from congling.data.sources.conversation import asks, whole
from congling.data.sources.fields import Log, Unfit
from congling.data.sources.names import META
from congling.data.sources.turns import ASSISTANT, Message

Messages = tuple[Message, ...]
_LONGEST_META = 80  # characters


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation that ends with an answer."""

    messages: Messages
    """Each with ``role`` (system, user, assistant or tool) and ``content``; an answer perhaps with
    ``reasoning_content``, what was thought before it, and ``loss``: False, if it is not to be learnt."""
    place: Place
    meta: Mapping[str, str] = field(default_factory=dict)
    """The fields of :data:`META` the record has: what the conversation is about."""

    @property
    def prompt(self) -> Messages:
        """The turns before the last answer."""
        return self.messages[:-1]

    @property
    def answers(self) -> Messages:
        """The last answer."""
        return self.messages[-1:]

    @property
    def domain(self) -> str:
        """What it is about, in one word; empty where nothing is said."""
        return next(iter(self.meta.values()), "")

    def cleaned(self, clean: "Clean") -> "Conversation":
        """The same with clean texts."""
        return Conversation(clean(self.messages), self.place, self.meta)


Clean = Any  # (messages) -> messages, all texts of them clean


def take(
    records: Iterable[rows.Record], note: FileNote, config: DataConfig, findings: ReadingLog
) -> Iterator[Conversation | Document]:
    """Turn the records of one file into conversations, or into documents if it holds none.

    Raises:
        UserError: the records are neither.
    """
    stream = iter(records)
    first = list(islice(stream, rows.LOOK))
    records = chain(first, stream)
    if config.text or 2 * sum(asks(record.value) for record in first) <= len(first):
        yield from rows.documents(records, note, config, findings)
        return
    note.choice, note.why = "conversations", "recognised from its first records"
    yield from rows_of(conversation_of, records, note.file, findings)


def rows_of(make: Any, records: Iterable[rows.Record], file: str, findings: ReadingLog) -> Iterator[Any]:
    """What ``make(record, place, log)`` makes of each record; what it cannot use is named and counted."""
    layouts: set[str] = set()
    for record in records:
        place, log = Place(file, record.place), Log()
        try:
            row = make(record.value, place, log)
        except Unfit as unfit:
            findings.problem(unfit.kind, *place, str(unfit))
            continue
        if log.layout and log.layout not in layouts:
            layouts.add(log.layout)
            findings.notes.append(f"rows of {file} are read as {log.layout}")
        for kind, reason in log.repairs:
            findings.problem(kind, *place, reason)
        texts = [str(text) for turn in (*row.prompt, *row.answers) for text in _texts(turn)]
        for found in log.unread(texts):
            findings.unread.add(found, str(place))
        yield row


def _texts(turn: Message) -> list[str]:
    return [turn["content"], *([turn["reasoning_content"]] if "reasoning_content" in turn else [])]


def conversation_of(record: Any, place: Place, log: Log) -> Conversation:
    """The conversation in one record.

    Raises:
        Unfit: there is no answer, no question, a turn without text or a role nobody knows.
    """
    fields, messages = whole(record, log)
    for name in fields.all(META):
        if meta_of({name: fields[name]}):
            fields.use(name)
    return Conversation(tuple(training_turns(messages, log)), place, meta_of(fields.values))


def messages_of(record: Any) -> list[Message]:
    """The turns of one record, up to the last answer.

    Raises:
        Unfit: there is no answer, no question, a turn without text or a role nobody knows.
    """
    log = Log()
    return training_turns(whole(record, log)[1], log)


def training_turns(messages: Sequence[Message], log: Log) -> list[Message]:
    """Turns as they can be learnt from, up to the last answer; what is left out is told to ``log``.

    Raises:
        Unfit: there is no answer, no question before it, or none of the answers is to be learnt.
    """
    found = merged_turns(messages, log)
    last = max((i for i, turn in enumerate(found) if turn["role"] == ASSISTANT), default=-1)
    if last < 0:
        if not found and any(turn["role"] == ASSISTANT and not _empty(turn) for turn in messages):
            raise Unfit("no question", log.empty.get("user", "nobody asks"))
        only = bool(messages) and all(turn["role"] == "system" for turn in messages)
        nobody = "there are only system turns" if only else "no turn is the assistant's"
        raise Unfit("no answer", log.empty.get(ASSISTANT, nobody))
    if not any(turn["role"] in ("user", "tool") for turn in found[:last]):
        raise Unfit("no question", log.empty.get("user", "the assistant speaks before anybody asks"))
    if all(turn.get("loss") is False for turn in found if turn["role"] == ASSISTANT):
        raise Unfit("nothing to train on", "every answer is masked out of the loss (loss, weight, train …)")
    if last + 1 < len(found):
        who = "s are" if last + 2 < len(found) else f" ({found[-1]['role']}) is"
        log.repairs.append(
            ("turn after the last answer", f"{len(found) - last - 1} turn{who} left out: nothing answers")
        )
    return found[: last + 1]


def prompt_turns(messages: Sequence[Message], log: Log) -> list[Message]:
    """Turns that are to be answered: an empty turn of the assistant at their end asks for its answer.

    Raises:
        Unfit: nobody asks.
    """
    found = merged_turns(messages, log)
    if not any(turn["role"] in ("user", "tool") for turn in found):
        only = bool(found) and all(turn["role"] == "system" for turn in found)
        why = "there are only system turns" if only else "nobody asks"
        raise Unfit("no question", log.empty.get("user", why))
    return found


def merged_turns(messages: Sequence[Message], log: Log) -> list[Message]:
    """Turns that say something, those of one speaker in a row as one.

    An empty system turn is none. An answer that is empty is left out, and what it answers goes on with the
    next question; a question that is empty is left out with its answer.
    """
    found: list[Message] = []
    unasked = False
    for number, turn in enumerate(messages, 1):
        role, empty = turn["role"], _empty(turn)
        if role == "user":
            unasked = empty
        if role == "system" and empty:
            continue
        if role == "user" and empty:
            if number < len(messages) and len(messages) > 2:
                log.repairs.append(
                    ("empty question", f"turn {number} is empty; it is left out with its answer")
                )
        elif unasked and role != "system":
            continue
        elif role == ASSISTANT and empty:
            if number < len(messages):
                log.repairs.append(("empty answer", f"turn {number} is empty; it is left out"))
        else:
            _append(found, turn, number, log)
    return found


def _append(found: list[Message], turn: Message, number: int, log: Log) -> None:
    """Add a turn, to the one before it where the same speaker goes on."""
    last = found[-1] if found else {"role": ""}
    goes_on = last["role"] == turn["role"] != "tool" and last.get("loss") == turn.get("loss")
    if not goes_on or "reasoning_content" in turn:
        found.append(turn)
        return
    found[-1] = {**last, "content": f"{last['content']}\n{turn['content']}"}
    reason = f"turn {number} is by the {turn['role']} as the one before: they are joined by a line feed"
    log.repairs.append(("turns of one role joined", reason))


def _empty(turn: Message) -> bool:
    return turn["role"] != "tool" and blank(turn["content"]) and "reasoning_content" not in turn


def meta_of(record: Mapping[str, Any]) -> dict[str, str]:
    """What a record is about, as far as short texts say it."""
    found = {key: record.get(key) for key in META}
    return {
        key: value.strip()
        for key, value in found.items()
        if isinstance(value, str) and 0 < len(value.strip()) <= _LONGEST_META
    }
