"""The shapes records come in, and how each becomes plain text.

=====================  ==========================================================================
field                  ``text``, ``content``, ``completion`` … alone
titled                 title, author, then ``paragraphs`` line by line
entry                  headword, pronunciation, definition
pair                   context, instruction or question, input, answer
choice, premise        questions with options; a premise with its right continuation
talk                   ``messages`` or ``conversations``, one turn a paragraph
string                 the record is the text
template               ``{title}\\n{text}``, given in the configuration
=====================  ==========================================================================
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from congling.core.errors import UserError
from congling.data.sources.conversation import asks, is_endings, whole
from congling.data.sources.fields import Fields, Log, Unfit, kind_of
from congling.data.sources.names import ANSWER, ASK, HISTORY, MEANING, REASONING, SYSTEM, TALK, TITLE
from congling.data.sources.trees import is_tree
from congling.data.unread import Unread

_TEXT = ("text", "content", "completion", "body", "article", "passage", "文本", "内容", "正文")
_LISTS = ("paragraphs", "lines", "sentences", "段落")
_PLACE = re.compile(r"\{([^{}]*)\}")


Render = Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the records of one file become text."""

    name: str
    render: Render
    """Raises ``ValueError``, with the reason, for a record that does not fit."""
    fields: frozenset[str] = frozenset()
    """What it reads of a record; other fields are named."""
    read: Callable[[Any, Log], str] | None = None
    """The same as :attr:`render`, telling a log what is read, where that is no matter of names alone."""

    def unread(self, record: Any, text: str) -> Iterator[Unread]:
        """Fields of a record that are no part of its text."""
        log = Log()
        if self.read is not None:
            self.read(record, log)
        elif isinstance(record, Mapping) and self.fields:
            fields = Fields(record, log)
            for name in self.fields & record.keys():
                fields.use(name)
        yield from log.unread(text.split("\n"))


def configured(template: str) -> Layout:
    """A field name, or a template with ``{field}`` places: plain substitution, nothing is evaluated.

    Raises:
        UserError: the template has unbalanced braces.
    """
    names = _PLACE.findall(template)
    if not names:
        if "{" in template or "}" in template:
            raise UserError(
                "braces do not match in the text template",
                value=template,
                hint='for example text = "{title}\\n{text}"',
            )
        return _field(template)

    def fill(record: Mapping[str, Any]) -> str:
        return _PLACE.sub(lambda place: _joined(record, place[1]), template)

    return Layout(f"template {template!r}", fill, frozenset(names))


def recognised(values: Sequence[Any], file: str, *, table: bool = False) -> Layout:
    """The layout most of the first records have.

    Raises:
        UserError: none has a known one.
    """
    votes = Counter(layout for value in values if (layout := _layout_of(value)))
    if not votes:
        keys = sorted({str(key) for value in values if isinstance(value, Mapping) for key in value})
        shown = f"fields {', '.join(keys[:12])}" if keys else "no field names"
        hint = "say which field holds the text, for example text=content or text='{title}\\n{content}', or "
        hint += "call that field text"
        if table:
            hint += "; if the first row is no row of names, add one, such as instruction,output"
        raise UserError(f"cannot tell where the text of these records is ({shown})", where=file, hint=hint)
    kind, *fields = votes.most_common(1)[0][0]
    return _LAYOUTS[kind](*fields)


def _layout_of(value: Any) -> tuple[str, ...] | None:
    """Kind and fields of the layout one record has, or ``None``."""
    if isinstance(value, str):
        return ("string",)
    if isinstance(value, Mapping) and not is_tree(value):
        for rule in (_asked, _told, _explained):
            if found := rule(value):
                return found
    return ("row",) if asks(value) else None


def _asked(value: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Conversations, questions with answers, instructions: told by their pair of fields."""
    talk = _first(value, TALK, list)
    if talk:
        return ("talk", talk)
    if all(isinstance(value.get(key), str) for key in ("question", "A", "B")):
        return ("choice", "question")
    if is_endings(value):
        return ("premise", "premise")
    ask, answer = _first(value, ASK, str), _first(value, ANSWER, (str, list))
    text = _first(value, _TEXT, str)
    if ask and answer and Fields(value, Log()).find((*HISTORY, *SYSTEM, *REASONING), held=True):
        return ("row",)  # more than a pair: the reader of rows knows where it belongs
    return ("pair", ask, answer) if ask and answer and text in ("", answer, "content") else None


def _told(value: Mapping[str, Any]) -> tuple[str, ...] | None:
    """A text, as one field or as a list of lines."""
    text, lines = _first(value, _TEXT, str), _first(value, _LISTS, list)
    if text:
        return ("field", text)
    return ("titled", _first(value, TITLE, str), lines) if lines else None


def _explained(value: Mapping[str, Any]) -> tuple[str, ...] | None:
    """A dictionary entry; or a prompt without an answer."""
    meaning, ask = _first(value, MEANING, (str, list)), _first(value, ASK, str)
    if meaning:
        return ("entry", _first(value, TITLE, str), meaning)
    return ("field", ask) if ask else None


def _first(record: Mapping[str, Any], names: Sequence[str], kind: type | tuple[type, ...]) -> str:
    return next((name for name in names if isinstance(record.get(name), kind)), "")


def _string(record: Any, field: str) -> str:
    record = _object(record)
    if field not in record:
        raise ValueError(f"no field {field!r} (it has {', '.join(map(str, list(record)[:6])) or 'none'})")
    value = record[field]
    if not isinstance(value, str):
        raise ValueError(f"field {field!r} is {kind_of(value)}, not text")
    return value


def _joined(record: Mapping[str, Any], field: str) -> str:
    """A string, number, or list of strings joined by line feeds."""
    value = record.get(field) if isinstance(record, Mapping) else None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return _string(record, field)


def _object(record: Any) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise ValueError(f"the record is {kind_of(record)}, not an object")
    return record


def _bare() -> Layout:
    """Records that are strings themselves."""

    def render(record: Any) -> str:
        if not isinstance(record, str):
            raise ValueError(f"the record is {kind_of(record)}, not text")
        return record

    return Layout("strings", render)


def _field(field: str) -> Layout:
    return Layout(f"field {field!r}", lambda record: _string(record, field), frozenset((field,)))


def _titled(title: str, body: str) -> Layout:
    """Poems and articles whose text is a list: title, author when there is one, then the lines."""

    def render(record: Any) -> str:
        record = _object(record)
        head = [record[key] for key in (title, "author") if isinstance(record.get(key), str)]
        return "\n".join([*head, _joined(record, body)]) if _joined(record, body).strip() else ""

    name = f"fields {title!r} and {body!r}" if title else f"field {body!r}"
    return Layout(name, render, frozenset((title, "author", body)))


def _entry(title: str, meaning: str) -> Layout:
    """A dictionary row: headword, pronunciation when there is one, explanation."""

    def render(record: Any) -> str:
        record = _object(record)
        explained = _joined(record, meaning)
        head = " ".join(
            record[key] for key in (title, "bopomofo", "pinyin") if isinstance(record.get(key), str)
        )
        return f"{head}\n{explained}" if explained.strip() else ""

    read = frozenset((title, meaning, "bopomofo", "pinyin"))
    return Layout(f"dictionary row: {title!r}, {meaning!r}", render, read)


def _pair(ask: str, answer: str) -> Layout:
    """Instruction and answer as paragraphs; ``context`` or ``input`` stands where a person would read it."""

    def render(record: Any) -> str:
        record = _object(record)
        parts = [record.get("context"), _string(record, ask), record.get("input"), _answered(record, answer)]
        kept = [part.strip() for part in parts if isinstance(part, str) and part.strip()]
        if not _string(record, ask).strip() or not kept[-1:] == [_answered(record, answer).strip()]:
            raise ValueError(f"{ask!r} or {answer!r} is empty")
        return "\n".join(kept)

    return Layout(f"{ask!r} and {answer!r}", render, frozenset(("context", ask, "input", answer)))


def _answered(record: Mapping[str, Any], field: str) -> str:
    """The answer; of several accepted ones the first."""
    value = record.get(field)
    if isinstance(value, list) and value and isinstance(value[0], str):
        return value[0]
    return _string(record, field)


def _choice(question: str) -> Layout:
    """A multiple-choice question with its options and the letter of the right one."""

    def render(record: Any) -> str:
        record = _object(record)
        options = [
            f"{letter}. {record[letter]}" for letter in "ABCDEFGH" if isinstance(record.get(letter), str)
        ]
        answer = record.get("answer")
        return "\n".join(
            [_string(record, question), *options, *([f"答案：{answer}"] if isinstance(answer, str) else [])]
        )

    return Layout("multiple-choice questions", render, frozenset((question, "answer", *"ABCDEFGH")))


def _premise(premise: str) -> Layout:
    """A premise followed by its right continuation (COPA)."""

    def render(record: Any) -> str:
        record = _object(record)
        right = "choice2" if record.get("label") == 1 else "choice1"
        pair = [_string(record, premise), _string(record, right)]
        return "".join(reversed(pair) if record.get("question") == "cause" else pair)

    read = frozenset((premise, "choice1", "choice2", "label", "question"))
    return Layout("premise and right choice", render, read)


def _rows(field: str = "") -> Layout:
    """Questions and conversations in all forms that rows have: what is said, one turn a paragraph."""
    name = f"conversations in {field!r}" if field else "conversations"
    return Layout(name, lambda record: _said(record, Log()), read=_said)


def _said(record: Any, log: Log) -> str:
    try:
        messages = whole(record, log)[1]
    except Unfit as unfit:
        raise ValueError(str(unfit)) from None
    texts = (turn.get(key, "") for turn in messages for key in ("reasoning_content", "content"))
    return "\n".join(text.strip() for text in texts if text.strip())


_LAYOUTS: dict[str, Callable[..., Layout]] = {
    "string": _bare,
    "field": _field,
    "titled": _titled,
    "entry": _entry,
    "pair": _pair,
    "choice": _choice,
    "premise": _premise,
    "talk": _rows,
    "row": _rows,
}
