"""The turns of a conversation, in all the forms they are kept in, as messages of one form.

==================  ================================================================================
turn                ``{"role", "content"}``, ``{"from", "value"}``
exchange            ``{"human", "assistant"}``, ``{"prompt", "response"}``; a pair ``["问", "答"]``
texts               ``["问", "答", "问", "答"]``, where the field says that they are turns
numbered            ``{"turn_1": exchange, …}`` (MOSS)
transcript          one text: ``Human: 问 Assistant: 答``, or ``### Human: 问 ### Assistant: 答``
==================  ================================================================================

A message has ``role`` and ``content``; an answer may have ``reasoning_content``, what was thought before it,
and ``loss``: False, if it is not to be learnt. A list may be JSON within text, as in every table.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from congling.data.sources.fields import Fields, Log, Unfit, as_json, holds, kind_of, parsed
from congling.data.sources.names import (
    ANSWER,
    ANSWER_LATE,
    ASK,
    ASK_LATE,
    CALLS,
    FLAGS,
    REASONING,
    ROLES,
    SAID,
    SPEAKER,
    TOOLS,
)

Message = Mapping[str, Any]
ASSISTANT = "assistant"
_SPEAKERS = r"(?:Human|USER|User|Assistant|ASSISTANT|SYSTEM|System|FUNCTION RESPONSE|用户|助手|问|答)"
_TRANSCRIPT = re.compile(rf"(?:\A|\n)\s*({_SPEAKERS})\s*[:：]")
_HASHED = re.compile(r"(?:\A|\s*)###\s*(Human|User|Assistant|System)\s*[:：]")
_MOSS = re.compile(r"\A<\|[A-Za-z ]+\|>:\s*|\s*<eo[a-z]>\s*\Z")  # <|Human|>: …<eoh>
_NOT = (False, 0, "0", "0.0", "false", "False", "no")


def turn_list(value: Any) -> list[Any] | None:
    """The turns a value holds, be it a list, JSON text, numbered turns or a transcript; else ``None``."""
    value = parsed(value)
    if isinstance(value, Mapping) and value and all(str(key).startswith("turn_") for key in value):
        value = list(value.values())
    if isinstance(value, str):
        return _transcript(value)
    if isinstance(value, tuple):
        value = list(value)
    return value if isinstance(value, list) else None


def hashed(text: str) -> bool:
    """Whether a text is a transcript such as ``### Human: … ### Assistant: …``."""
    return _HASHED.match(text) is not None and _transcript(text) is not None


def _transcript(text: str) -> list[Any] | None:
    """The turns of a text in which every turn begins with its speaker, such as ``Human:``."""
    speaker = _HASHED if _HASHED.match(text) else _TRANSCRIPT
    _, *parts = speaker.split(text)
    turns = [
        {
            "role": "tool" if who == "FUNCTION RESPONSE" else who,
            "content": said.replace("<|endoftext|>", "").strip(),
        }
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]
    known = {ROLES.get(turn["role"].casefold(), "tool") for turn in turns}
    return turns if {"user", ASSISTANT} <= known and speaker.match(text) else None


def messages_of_turns(turns: Sequence[Any], log: Log, *, alternating: bool = False) -> list[Message]:
    """Every turn as a message, empty ones too.

    Args:
        turns: of any of the forms above.
        log: where what is not read is told.
        alternating: plain texts are turns of user and assistant, one after the other.

    Raises:
        Unfit: something is no turn, or by nobody we know.
    """
    texts = bool(turns) and all(isinstance(turn, str) for turn in turns)
    if texts and alternating:
        return [_message(("user", ASSISTANT)[i % 2], turn) for i, turn in enumerate(turns)]
    found: list[Message] = []
    named = _named_pairs(turns)
    for number, turn in enumerate(turns, 1):
        if isinstance(turn, Mapping):
            found += turn_messages(Fields(turn, log, "turn field"), log, f"turn {number}")
        elif isinstance(turn, list | tuple) and len(turn) == 2 and all(_is_text(side) for side in turn):
            pair = [("user", turn[0]), (ASSISTANT, turn[1])]
            pair = [(_role(turn[0], f"turn {number}"), turn[1])] if named else pair
            found += [_message(role, _plain(text)) for role, text in pair]
        else:
            raise Unfit("no conversation", f"turn {number} is {kind_of(turn)}, not an object")
    return found


def _named_pairs(turns: Sequence[Any]) -> bool:
    """Whether pairs are of a role and its text, not of a question and its answer."""
    firsts = [turn[0] for turn in turns if isinstance(turn, list | tuple) and len(turn) == 2]
    roles = {ROLES.get(first.casefold()) if isinstance(first, str) else None for first in firsts}
    return {"user", ASSISTANT} <= roles and None not in roles


def turn_messages(turn: Fields, log: Log, where: str) -> list[Message]:
    """The message of a turn; both of one that holds question and answer.

    Raises:
        Unfit: nobody we know says it, or it holds no text.
    """
    speaker = turn.find(SPEAKER)
    if speaker:
        return [_spoken(turn, _role(turn.use(speaker), where), log, where)]
    ask = turn.find((*ASK, *ASK_LATE, "用户", "人类"))
    answer = turn.find((*ANSWER, *ANSWER_LATE[:-1]))
    if not ask and not answer:
        keys = ", ".join(map(str, list(turn.values)[:4]))
        raise Unfit("unknown role", f"nobody says {where} (it has {keys or 'no fields'}); give it a role")
    found: list[Message] = []
    if ask:
        found.append(_message("user", _bare(text_of(turn.use(ask), "user", log))))
    if answer:
        said = _message(ASSISTANT, _bare(text_of(turn.use(answer), ASSISTANT, log)))
        found.append(_marked(said, turn, log))
    return found


def _role(name: Any, where: str) -> str:
    known = ROLES.get(name.strip().strip(":：").casefold()) if isinstance(name, str) else None
    if known is None:
        said = repr(name)[:40] if isinstance(name, str) else kind_of(name)
        raise Unfit("unknown role", f"{where} is by {said}; the roles are user, assistant, system and tool")
    return known


def _spoken(turn: Fields, role: str, log: Log, where: str) -> Message:
    """One message of a turn that says who speaks."""
    content = text_of(turn.use(turn.find(SAID)), role, log)
    if role == "system":
        content = joined(content, *tools_of(turn))
    if role != ASSISTANT:
        for name in turn.all(FLAGS):
            if _switched_off(turn[name]):
                turn.use(name)  # only answers are learnt anyway
        return _message(role, content)
    return _marked(_message(role, joined(content, *_calls(turn, log))), turn, log)


def _message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _marked(message: dict[str, Any], fields: Fields, log: Log) -> Message:
    """An answer with what was thought before it, and whether it is to be learnt."""
    thought = reasoning_of(fields, log)
    if thought:
        message["reasoning_content"] = thought
    return message if counts_in_loss(fields) else message | {"loss": False}


def reasoning_of(fields: Fields, log: Log) -> str:
    """What was thought before an answer, or nothing."""
    name = fields.find(REASONING, held=True)
    if not name or not isinstance(fields[name], str):
        return ""
    text = _bare(text_of(fields.use(name), ASSISTANT, log))
    return "" if text.strip() == "None" else text.strip()


def counts_in_loss(fields: Fields) -> bool:
    """Whether the flags of an answer, or of a whole row, leave it to be learnt."""
    given = [name for name in fields.all(FLAGS) if _is_flag(fields[name])]
    return not any([_switched_off(fields.use(name)) for name in given])


def _is_flag(value: Any) -> bool:
    """Whether a value can be honoured: on or off, not half a weight."""
    if isinstance(value, str):
        return value in (*_NOT, "1", "1.0", "true", "True", "yes")
    return isinstance(value, bool | int | float) and value in (0, 1)


def _switched_off(value: Any) -> bool:
    return isinstance(value, bool | int | float | str) and value in _NOT


def text_of(value: Any, role: str, log: Log) -> str:
    """The text of a message; "" where it says nothing, and why is told to ``log``.

    Raises:
        Unfit: it is something else than text.
    """
    if not holds(value):
        name = "answer" if role == ASSISTANT else "question" if role == "user" else f"text of the {role}"
        state = "missing" if value is None else "empty"
        log.empty[role] = f"the {name} is {state}"
        return ""
    if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        return "\n".join(_parts(value, role))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if math.isfinite(value) else ""
    if isinstance(value, str):
        return value
    if role == "tool":  # what a function gives back
        return as_json(value)
    kind = {"user": "no question", ASSISTANT: "no answer"}.get(role, "turn that is no text")
    name = {"user": "text of the user", ASSISTANT: "answer"}.get(role, f"text of the {role}")
    raise Unfit(kind, f"the {name} is {kind_of(value)}, not text")


def _parts(parts: Sequence[Any], role: str) -> Iterator[str]:
    """The texts of a message that comes as a list of parts.

    Raises:
        Unfit: a part is no text, such as a picture.
    """
    for part in parts:
        text = part.get("text") if isinstance(part, Mapping) else part
        if not isinstance(text, str):
            kind = str(part.get("type", "of no type"))[:40] if isinstance(part, Mapping) else kind_of(part)
            reason = f"the {role} says a part {kind!r}; only text can be trained on"
            raise Unfit("part that is no text", reason)
        yield text


def tools_of(fields: Fields) -> list[str]:
    """Descriptions of the tools there are, one JSON object a line."""
    found: list[str] = []
    for name in fields.all(TOOLS):
        value = parsed(fields.use(name))
        if isinstance(value, str):
            found += [] if value.strip() in ("null", "None") else [value]
        else:
            tools = value if isinstance(value, list) else [value]
            found += [tool if isinstance(tool, str) else as_json(tool) for tool in tools if holds(tool)]
    return found


def _calls(turn: Fields, log: Log) -> list[str]:
    """The calls of functions in a turn: name and arguments, one JSON object a line."""
    found: list[str] = []
    for name in turn.all(CALLS):
        value = parsed(turn.use(name))
        for call in value if isinstance(value, list) else [value]:
            if isinstance(call, Mapping):
                found.append(_call(call))
            elif isinstance(call, str):
                found.append(call)
            else:
                log.repairs.append(("call that is none", f"a call is {kind_of(call)}; it is left out"))
    return found


def _call(call: Mapping[str, Any]) -> str:
    function = parsed(call.get("function", call))
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return as_json(call)
    # OpenAI's messages hold arguments as JSON within JSON
    arguments = function.get("arguments", function.get("parameters", {}))
    return as_json({"name": function["name"], "arguments": parsed(arguments)})


def joined(*texts: str) -> str:
    """Texts that say something, one a line."""
    return "\n".join(text for text in texts if text.strip())


def _bare(text: str) -> str:
    """A text without the marks that MOSS keeps around each turn."""
    return _MOSS.sub("", text) if text.startswith("<|") or "<eo" in text[-8:] else text


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _plain(value: Any) -> str:
    return str(value) if holds(value) else ""
