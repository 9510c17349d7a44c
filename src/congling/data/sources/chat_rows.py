"""From a record to a conversation: the shapes instruction data comes in.

=============  ====================================================================================
talk           ``messages`` [role, content], ``conversations`` [from, value] (ShareGPT)
asked          ``instruction`` with ``input`` (alpaca), ``prompt``, ``question`` …; their answer under
               ``output``, ``response``, ``answer`` …; earlier turns under ``history``, ``system``
choice         a question with options A, B, … and the letter of the right one
=============  ====================================================================================

A record without an answer, with an unknown role or without text is named and counted, never guessed at. A
file whose first records are nothing of this kind is read as texts.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from congling.data.config import DataConfig
from congling.data.document import Document
from congling.data.findings import FileNote, Findings
from congling.data.sources import rows
from congling.data.sources.layouts import ANSWER, ASK, TALK, kind_of

ROLES = {
    "system": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant",
    "chatglm": "assistant", "function_call": "assistant",
    "tool": "tool", "observation": "tool", "function": "tool", "function_response": "tool",
}  # fmt: skip
"""What the roles of all data sets are called here; a call of a function is something the assistant writes."""
_BEFORE, _AFTER = ("context",), ("input",)
_OPTIONS = "ABCDEFGH"


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation that ends with an answer."""

    messages: tuple[Mapping[str, str], ...]
    """Each with ``role`` (system, user, assistant or tool) and ``content``."""
    id: str
    """File and line or row."""


class Unfit(ValueError):
    """A record that is no whole conversation: under which name it is counted, and why."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        super().__init__(reason)


def take(
    records: Iterable[rows.Record], note: FileNote, config: DataConfig, findings: Findings
) -> Iterator[Talk | Document]:
    """Turn the records of one file into conversations, or into documents if it holds none.

    Raises:
        UserError: the records are neither.
    """
    stream = iter(records)
    first = list(islice(stream, rows.LOOK))
    records = chain(first, stream)
    if config.text or 2 * sum(_asks(record.value) for record in first) <= len(first):
        yield from rows.documents(records, note, config, findings)
        return
    note.choice, note.why = "conversations", "recognised from its first records"
    for record in records:
        try:
            yield Talk(tuple(messages_of(record.value)), f"{note.file}:{record.place}")
        except Unfit as unfit:
            findings.problem(unfit.kind, note.file, record.place, str(unfit))


def messages_of(record: Any) -> list[dict[str, str]]:
    """The turns of one record, up to the last answer.

    Raises:
        Unfit: there is no answer, no question, a turn without text or a role nobody knows.
    """
    if not isinstance(record, Mapping):
        raise Unfit("no conversation", f"the record is {kind_of(record)}, not an object")
    talk = next((key for key in TALK if isinstance(record.get(key), list)), None)
    messages = _system(record) + (_turns(record[talk]) if talk else _asked(record))
    last = max((i for i, turn in enumerate(messages) if turn["role"] == "assistant"), default=-1)
    if last < 0:
        raise Unfit("no answer", "no turn is the assistant's")
    if not any(turn["role"] != "system" for turn in messages[:last]):
        raise Unfit("no question", "the assistant speaks before anybody asks")
    return messages[: last + 1]


def _asks(record: Any) -> bool:
    """Whether a record looks like a conversation, be it whole or not."""
    if not isinstance(record, Mapping):
        return False
    return any(isinstance(record.get(key), list) for key in TALK) or any(key in record for key in ASK)


def _system(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """What stands before the conversation: instructions, and the tools a data set describes as text."""
    said = [record[key] for key in ("system", "tools") if isinstance(record.get(key), str)]
    text = "\n".join(text for text in said if text.strip())
    return [{"role": "system", "content": text}] if text else []


def _turns(turns: list[Any]) -> list[dict[str, str]]:
    messages = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, Mapping):
            raise Unfit("no conversation", f"turn {number} is {kind_of(turn)}, not an object")
        role = turn.get("role", turn.get("from"))
        if not isinstance(role, str) or role.lower() not in ROLES:
            said = repr(role)[:40] if isinstance(role, str) else kind_of(role)
            raise Unfit("unknown role", f"turn {number} is by {said}; roles are {', '.join(ROLES)}")
        role = ROLES[role.lower()]
        value = next((turn[key] for key in ("content", "value", "text") if key in turn), None)
        messages.append({"role": role, "content": _text(value, role)})
    return messages


def _asked(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Question and answer from fields; what else belongs to the question stands where a person reads it."""
    ask = next((key for key in ASK if key in record), "")
    answer = next((key for key in ANSWER if key in record and key != ask), "")
    question = _text(record.get(ask), "user")
    options = [f"{letter}. {record[letter]}" for letter in _OPTIONS if isinstance(record.get(letter), str)]
    before, after = ([record.get(key) for key in keys] for keys in (_BEFORE, _AFTER))
    parts = [*before, question, *after, *options]
    asked = "\n".join(part for part in parts if isinstance(part, str) and part.strip())
    value = record.get(answer)
    if isinstance(value, list) and value:  # of several accepted answers the first
        value = value[0]
    answered = _text(value, "assistant")
    return [
        *_history(record.get("history")),
        {"role": "user", "content": asked},
        {"role": "assistant", "content": answered},
    ]


def _history(pairs: Any) -> list[dict[str, str]]:
    """Earlier turns, as pairs of question and answer."""
    listed = pairs if isinstance(pairs, list) else []
    whole = [pair for pair in listed if isinstance(pair, list) and len(pair) == 2]
    return [
        {"role": role, "content": _text(text, role)}
        for pair in whole
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _text(value: Any, role: str) -> str:
    """The text of a turn.

    Raises:
        Unfit: there is none.
    """
    kind, name = ("no answer", "answer") if role == "assistant" else ("no question", f"text of the {role}")
    if value is None:
        raise Unfit(kind, f"the {name} is missing")
    if not isinstance(value, str):
        raise Unfit(kind, f"the {name} is {kind_of(value)}, not text")
    if not value.strip():
        raise Unfit(kind, f"the {name} is empty")
    return value
