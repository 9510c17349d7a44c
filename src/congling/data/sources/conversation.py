"""From a record to the turns it holds: the one reader of rows for all methods.

=============  ====================================================================================
talk           ``messages`` [role, content], ``conversations`` [from, value] (ShareGPT), and their like
asked          ``instruction`` with ``input`` (alpaca), ``prompt``, ``question`` …; their answer under
               ``output``, ``response``, ``answer`` …; earlier turns under ``history``, ``system``
choice         a question with options A, B, … or ``choices``, and the letter of the right one
passage        ``context`` before the question; of several ``answers`` the first (SQuAD, CMRC)
titled         ``title`` before the question, where there is no passage (medical questions)
entry          a headword and its ``definition``: "解释：X", of a dictionary
=============  ====================================================================================

What is said stands in messages (see :mod:`turns`); what was mended, and which fields were not read, in a log.
A record without an answer or with an unknown role is named and counted, never guessed at.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from congling.data.sources.compared import named
from congling.data.sources.entries import entry_meaning, entry_question, is_entry
from congling.data.sources.fields import Fields, Log, Unfit, kind_of, parsed
from congling.data.sources.names import (
    AFTER,
    ALTERNATING,
    ANSWER,
    ANSWER_LATE,
    ASK,
    ASK_LATE,
    BEFORE,
    CHOICES,
    HISTORY,
    OPTIONS,
    REASONING,
    SYSTEM,
    TALK,
)
from congling.data.sources.trees import best_path, is_tree
from congling.data.sources.turns import (
    ASSISTANT,
    Message,
    counts_in_loss,
    hashed,
    joined,
    messages_of_turns,
    reasoning_of,
    text_of,
    tools_of,
    turn_list,
    turn_messages,
)

TEXT = "text"


def asks(record: Any) -> bool:
    """Whether a record looks like a conversation or a question, be it whole or not."""
    if isinstance(record, list):
        return _is_talk(record)
    if not isinstance(record, Mapping) or is_endings(record):
        return False
    fields = Fields(record, Log())
    return bool(
        is_tree(record) or _talk_field(fields) or fields.find(ASK) or _late(fields) or is_entry(fields)
    )


def is_endings(record: Mapping[str, Any]) -> bool:
    """Whether a record is a premise with two endings (COPA): its ``question`` asks for a cause or an effect,
    and is none by itself."""
    return "premise" in record and "choice1" in record


def turns_of(record: Any, log: Log) -> tuple[Fields, list[Message]]:
    """The fields of a record, and all its turns but those under names of answers.

    Raises:
        Unfit: there are none, or one is no turn.
    """
    if isinstance(record, list) and _is_talk(record):
        record = {"messages": record}
    if not isinstance(record, Mapping):
        raise Unfit("no conversation", f"the record is {kind_of(record)}, not an object")
    if is_tree(record):
        record = {"messages": best_path(record, log)}
    fields = Fields(named(record, log), log)
    talk = _talk_field(fields)
    prompt = fields.find(("prompt",), held=True)
    if talk:
        turns = turn_list(fields.use(talk)) or []
        if talk.casefold() == TEXT:
            log.layout = "transcripts: '### Human:' and '### Assistant:' begin turns"
        said = messages_of_turns(turns, log, alternating=talk.casefold() in ALTERNATING)
    elif prompt and _is_talk(fields[prompt]):
        said = messages_of_turns(turn_list(fields.use(prompt)) or [], log)
    elif is_entry(fields):
        said = [entry_question(fields)]
    else:
        said = [*_history(fields, log), *_question(fields, log)]
    return fields, under_system(fields, said, log)


def whole(record: Any, log: Log) -> tuple[Fields, list[Message]]:
    """The turns of a record with its answer, if it has one: of a preference the better.

    Raises:
        Unfit: there are none, or one is no turn.
    """
    fields, messages = turns_of(record, log)
    if messages and messages[-1]["role"] == ASSISTANT:
        return fields, messages
    found = entry_meaning(fields) if is_entry(fields) and not _talk_field(fields) else answer_of(fields, log)
    if found and found[0]["role"] != ASSISTANT:  # the answer is a conversation that begins anew
        return fields, found
    return fields, [*messages, *found]


def side(value: Any, log: Log) -> list[Message]:
    """What one side of a preference, or a completion, says: text, a turn, or a list of turns.

    Raises:
        Unfit: it is none of them.
    """
    value = parsed(value) if isinstance(value, str) and _is_talk(value) else value
    if isinstance(value, Mapping) and any(str(name).casefold() in ("role", "from") for name in value):
        return turn_messages(Fields(value, log, "turn field"), log, "the answer")
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("content", "value", "text") if key in value), None)
    if isinstance(value, list) and any(isinstance(turn, Mapping) for turn in value):
        return messages_of_turns(value, log)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return [{"role": ASSISTANT, "content": text_of(value, ASSISTANT, log)}]


def answer_of(fields: Fields, log: Log) -> list[Message]:
    """The answer that stands in fields of its own, with its reasoning; or nothing."""
    name = _answer_field(fields)
    found = side(_one(fields, name, log), log) if name else []
    if not name:
        log.empty[ASSISTANT] = "the answer is missing"
    if len(found) == 1 and found[0]["role"] == ASSISTANT:
        thought = reasoning_of(fields, log)
        more = {"reasoning_content": thought} if thought and "reasoning_content" not in found[0] else {}
        flag: dict[str, Any] = {} if counts_in_loss(fields) else {"loss": False}
        return [{**found[0], **more, **flag}]
    return found


def _answer_field(fields: Fields) -> str:
    """The field of the answer; a worked ``solution`` before the short answer that stands in it, too."""
    ask = fields.find((*ASK, *_late(fields)))
    found = fields.find([name for name in ANSWER if name != ask.casefold()])
    worked = fields.find(("solution",), held=True)
    if found and worked not in ("", ask) and str(fields[found]).strip() in str(fields[worked]):
        fields.use(found)
        return worked
    if found or not ask:
        return found
    return fields.find(_late_answers(fields, ask))


def _one(fields: Fields, name: str, log: Log) -> Any:
    """The value of an answer; of several accepted ones the first, SQuAD keeps them under ``text``."""
    value = fields.use(name)
    if isinstance(value, Mapping) and isinstance(value.get("text"), list):
        value = value["text"]
    if isinstance(value, list) and value and not any(isinstance(one, Mapping) for one in value):
        if any(one != value[0] for one in value[1:]):
            log.repairs.append(("further answers", f"of {len(value)} answers the first is taken"))
        value = value[0]
    letters = fields.find(CHOICES, held=True)
    if isinstance(value, int) and not isinstance(value, bool) and isinstance(fields[letters], list):
        return OPTIONS[value] if 0 <= value < min(len(fields[letters]), len(OPTIONS)) else value
    return value


def _late(fields: Fields) -> tuple[str, ...]:
    """The name that asks only where an answer stands beside it, and nothing else asks."""
    if fields.find(ASK):
        return ()
    for name in ASK_LATE:
        beside = [one for one in (*ANSWER, *_late_answers(fields, name)) if one != name]
        if fields.find((name,)) and fields.find(beside):
            return (name,)
    return ()


def _late_answers(fields: Fields, ask: str) -> list[str]:
    """Names that are answers to this one: "a" to "q", and "content" only behind thoughts."""
    thought = fields.find(REASONING, held=True)
    return [
        name
        for name in ANSWER_LATE
        if (name != "a" or ask.casefold() in ("q", "问")) and (name != "content" or thought)
    ]


def _talk_field(fields: Fields) -> str:
    """The field that holds turns."""
    for name in TALK:
        found = fields.find((name,))
        value = fields[found]
        named = name != "data" or _is_talk(value) or _texts(value)  # a usual name for anything
        if found and named and (isinstance(value, list) or turn_list(value) is not None):
            return found
    text = fields.find((TEXT,), held=True)
    return text if isinstance(fields[text], str) and hashed(fields[text]) else ""


def _texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(one, str) for one in value)


def _is_talk(value: Any) -> bool:
    """Whether a value is a list of turns, or JSON text of one."""
    turns = turn_list(value)
    return bool(turns) and all(
        isinstance(turn, Mapping) and any(str(key).casefold() in ("role", "from") for key in turn)
        for turn in turns or ()
    )


def under_system(fields: Fields, said: Sequence[Message], log: Log) -> list[Message]:
    """The turns behind instructions of the record and the tools there are."""
    system = [text_of(fields.use(name), "system", log) for name in fields.all(SYSTEM)]
    said = list(said)
    within = str(said[0]["content"]) if said and said[0]["role"] == "system" else ""
    system = [text for text in system if text.strip() not in within]
    tools = tools_of(fields)
    if said and said[0]["role"] == "system":
        text, said = joined(*system, str(said[0]["content"]), *tools), said[1:]
    else:
        text = joined(*system, *tools)
    return [{"role": "system", "content": text}, *said] if text else said


def _question(fields: Fields, log: Log) -> list[Message]:
    """The question from fields; what else belongs to it stands where a person reads it."""
    asked = fields.all(ASK) or [name for name in (fields.find((*ASK, *_late(fields))),) if name]
    if not asked and not fields.find(AFTER, held=True):
        log.empty["user"] = f"the record has none of {', '.join((*TALK[:2], *ASK[:4]))} …"
        return []
    texts = [text_of(fields.use(name), "user", log) for name in asked]
    texts = [text for i, text in enumerate(texts) if not _within(text, i, texts)]
    question = joined(*texts)
    before = [text_of(fields.use(name), "user", log) for name in fields.all(BEFORE)]
    after = [text_of(fields.use(name), "user", log) for name in fields.all(AFTER) if name not in asked]
    title = _title(fields, asked, question)
    return [{"role": "user", "content": joined(*before, title, question, *after, *_options(fields))}]


def _within(text: str, index: int, texts: Sequence[str]) -> bool:
    """Whether another text says this one too: a prompt made from an instruction."""
    return any(
        text.strip() in other and (text.strip() != other.strip() or i < index)
        for i, other in enumerate(texts)
        if i != index
    )


def _options(fields: Fields) -> list[str]:
    letters = [letter for letter in OPTIONS if isinstance(fields[letter], str)]
    if len(letters) > 1:
        return [f"{letter}. {fields.use(letter)}" for letter in letters]
    name = fields.find(CHOICES, held=True)
    listed = parsed(fields[name])
    if not name or not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        return []
    fields.use(name)
    return [f"{letter}. {one}" for letter, one in zip(OPTIONS, listed, strict=False)]


def _title(fields: Fields, asked: Sequence[str], question: str) -> str:
    """The title of a question, which says what its text leaves out; that of a passage is none."""
    name = fields.find(("title",), held=True)
    if not {one.casefold() for one in asked} & {"question", "ask"} or fields.find(BEFORE, held=True):
        return ""
    if not name or not isinstance(fields[name], str):
        return ""
    title = fields.use(name)
    return "" if title.strip() in question else title


def _history(fields: Fields, log: Log) -> list[Message]:
    """Earlier turns: pairs of question and answer, exchanges, or turns."""
    name = fields.find(HISTORY, held=True)
    turns = turn_list(fields[name])
    if turns is None:
        return []
    fields.use(name)
    if _texts(turns) and len(turns) % 2:
        raise Unfit("no conversation", f"{name} holds {len(turns)} texts, no pairs of question and answer")
    return messages_of_turns(turns, log, alternating=True)
