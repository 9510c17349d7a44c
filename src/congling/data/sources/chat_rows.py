"""From a record to a conversation: the shapes instruction data comes in.

=============  ====================================================================================
talk           ``messages`` [role, content], ``conversations`` [from, value] (ShareGPT)
asked          ``instruction`` with ``input`` (alpaca), ``prompt``, ``question`` …; their answer under
               ``output``, ``response``, ``answer`` …; earlier turns under ``history``, ``system``
choice         a question with options A, B, … and the letter of the right one
passage        ``context`` before the question; of several ``answers`` the first (SQuAD, CMRC)
titled         ``title`` before the question, where there is no passage (medical questions)
entry          a headword and its ``definition``: "解释：X", of a dictionary
=============  ====================================================================================

What a message holds may be text, or a list of parts with ``text`` in them. Calls of tools (``tool_calls``,
``function_call``) are what the assistant writes: one JSON object a line; the ``tools`` there are, text or
list, stand in the system turn.

A record without an answer, with an unknown role or without text is named and counted, never guessed at. A
file whose first records are nothing of this kind is read as texts.
"""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from congling.data.config import DataConfig
from congling.data.document import Document
from congling.data.findings import FileNote, Findings
from congling.data.sources import rows
from congling.data.sources.layouts import ANSWER, ASK, MEANING, TALK, TITLE, kind_of

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
META = ("kind", "category", "department", "domain", "subject", "task", "source")
"""Fields that say what a conversation is about: losses are told apart by the first of them."""
_LONGEST_META = 80  # characters
_SOUNDS = ("bopomofo", "pinyin")
_RUBY = re.compile(r"&&([^&]{1,4}?)[\u02c7\u02ca\u02cb\u02d9\u3105-\u312f]+&&")
"""A character with its pronunciation behind it, as the small dictionary of the ministry prints it."""


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation that ends with an answer."""

    messages: tuple[Mapping[str, str], ...]
    """Each with ``role`` (system, user, assistant or tool) and ``content``."""
    id: str
    """File and line or row."""
    meta: Mapping[str, str] = field(default_factory=dict)
    """The fields of :data:`META` the record has: what the conversation is about."""

    @property
    def domain(self) -> str:
        """What it is about, in one word; empty where nothing is said."""
        return next(iter(self.meta.values()), "")


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
            messages = tuple(messages_of(record.value))
            yield Talk(messages, f"{note.file}:{record.place}", meta_of(record.value))
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
    if talk:
        said = _turns(record[talk])
    else:
        said = _explained(record) if _is_entry(record) else _asked(record)
    messages = _system(record) + said
    last = max((i for i, turn in enumerate(messages) if turn["role"] == "assistant"), default=-1)
    if last < 0:
        only = bool(messages) and all(turn["role"] == "system" for turn in messages)
        raise Unfit("no answer", "there are only system turns" if only else "no turn is the assistant's")
    if not any(turn["role"] in ("user", "tool") for turn in messages[:last]):
        raise Unfit("no question", "the assistant speaks before anybody asks")
    return messages[: last + 1]


def _asks(record: Any) -> bool:
    """Whether a record looks like a conversation, be it whole or not."""
    if not isinstance(record, Mapping):
        return False
    talks = any(isinstance(record.get(key), list) for key in TALK)
    return talks or any(key in record for key in ASK) or _is_entry(record)


def meta_of(record: Mapping[str, Any]) -> dict[str, str]:
    """What a record is about, as far as short texts say it."""
    found = {key: record.get(key) for key in META}
    return {
        key: value.strip()
        for key, value in found.items()
        if isinstance(value, str) and 0 < len(value.strip()) <= _LONGEST_META
    }


def _system(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """What stands before the conversation: instructions, and the tools there are."""
    system, tools = record.get("system"), record.get("tools")
    said = [system if isinstance(system, str) else "", *_tools(tools)]
    text = "\n".join(text for text in said if text.strip())
    return [{"role": "system", "content": text}] if text else []


def _tools(tools: Any) -> list[str]:
    """Descriptions of tools: as text, or one JSON object a line."""
    if isinstance(tools, str):
        return [tools] if tools.strip() != "[]" else []
    return [_json(tool) for tool in tools if isinstance(tool, Mapping)] if isinstance(tools, list) else []


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


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
        calls = _calls(turn) if role == "assistant" else ""
        if calls and (value is None or value == "" or value == []):
            content = calls
        else:
            content = "\n".join(text for text in (_text(_parts(value, role), role), calls) if text)
        messages.append({"role": role, "content": content})
    return messages


def _parts(value: Any, role: str) -> Any:
    """The text of a message that comes as a list of parts; anything else as it is.

    Raises:
        Unfit: a part is no text, such as a picture.
    """
    if not isinstance(value, list) or not any(isinstance(part, Mapping) for part in value):
        return value
    texts: list[str] = []
    for part in value:
        text = part.get("text") if isinstance(part, Mapping) else part
        if not isinstance(text, str):
            kind = str(part.get("type", "of no type"))[:40] if isinstance(part, Mapping) else kind_of(part)
            reason = f"the {role} says a part {kind!r}; only text can be learnt"
            raise Unfit("part that is no text", reason)
        texts.append(text)
    return "\n".join(texts)


def _calls(turn: Mapping[str, Any]) -> str:
    """The calls of functions in a turn: name and arguments, one JSON object a line."""
    listed = turn.get("tool_calls")
    calls = [*(listed if isinstance(listed, list) else []), turn.get("function_call")]
    found = [_call(call.get("function", call)) for call in calls if isinstance(call, Mapping)]
    return "\n".join(call for call in found if call)


def _call(function: Any) -> str:
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return ""
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):  # OpenAI's messages hold them as JSON within JSON
        with contextlib.suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    return _json({"name": function["name"], "arguments": arguments})


def _asked(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Question and answer from fields; what else belongs to the question stands where a person reads it."""
    ask = next((key for key in ASK if key in record), "")
    answer = next((key for key in ANSWER if key in record and key != ask), "")
    question = _text(_parts(record.get(ask), "user"), "user")
    options = [f"{letter}. {record[letter]}" for letter in _OPTIONS if isinstance(record.get(letter), str)]
    before, after = ([record.get(key) for key in keys] for keys in (_BEFORE, _AFTER))
    parts = [*before, _title(record, ask, question), question, *after, *options]
    asked = "\n".join(part for part in parts if isinstance(part, str) and part.strip())
    answered = _text(_first(record.get(answer)), "assistant")
    return [
        *_history(record.get("history")),
        {"role": "user", "content": asked},
        {"role": "assistant", "content": answered},
    ]


def _first(value: Any) -> Any:
    """Of several accepted answers the first; SQuAD keeps them under ``text``."""
    if isinstance(value, Mapping):
        value = value.get("text")
    return value[0] if isinstance(value, list) and value else value


def _title(record: Mapping[str, Any], ask: str, question: str) -> str:
    """The title of a question, which says what its text leaves out; that of a passage is none."""
    title = record.get("title")
    if ask not in ("question", "ask") or record.get("context") or not isinstance(title, str):
        return ""
    return "" if title.strip() in question else title


def _is_entry(record: Mapping[str, Any]) -> bool:
    """Whether a record is a dictionary's: a headword with a meaning, or a pronunciation and a text."""
    headed = any(isinstance(record.get(key), str) for key in TITLE)
    return headed and bool(_meaning_of(record)) and not any(key in record for key in ASK)


def _meaning_of(record: Mapping[str, Any]) -> str:
    meaning = next((key for key in MEANING if key in record), "")
    sounds = any(key in record for key in _SOUNDS)
    return meaning or ("text" if sounds and isinstance(record.get("text"), str) else "")


def _explained(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """A headword, with its pronunciation where it has one, and what it means."""
    word = next(record[key] for key in TITLE if isinstance(record.get(key), str)).strip()
    sound = next((found for key in _SOUNDS if (found := _first(record.get(key)))), "")
    value = record[_meaning_of(record)]
    if isinstance(value, list):
        value = "\n".join(line for line in value if isinstance(line, str))
    meaning = _RUBY.sub(r"\1", _text(value, "assistant"))
    lines = meaning.split("\n")
    while len(lines) > 1 and (lines[0].strip() == word or (sound and str(sound) in lines[0])):
        lines.pop(0)  # the head of the entry, which the question says
    asked = f"解释：{word}（{sound}）" if isinstance(sound, str) and sound else f"解释：{word}"
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": "\n".join(lines)}]


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
