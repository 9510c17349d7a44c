"""A folder that Ollama imports: the model in GGUF, and a Modelfile with template and stop words.

::

    export/
    ├── model.gguf
    └── Modelfile       ollama create NAME -f Modelfile

Ollama's templates are in Go's language and cannot call Jinja. A chat template is therefore tried out on a few
conversations: one that only puts fixed text before and after each message, by its role, is rewritten; any
other is left out, and Ollama then looks for it among those it knows.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from congling.core.errors import UserError
from congling.core.output import replacing
from congling.core.text import write_text
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf
from congling.interop.gguf.calibrated import Calibration
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.encode import Message, chat_ids

MODEL, MODELFILE = "model.gguf", "Modelfile"
_ROLES = ("system", "user", "assistant")
_PLAIN = "{{ .Prompt }}"
_FORBIDDEN = ('"""', "{{", "}}")
"""What cannot stand in the text of a Go template in a Modelfile."""
Pieces = dict[str, tuple[str, str]]
"""Text before and after a message, by its role."""


def write(
    model: ForeignModel,
    folder: Path | str,
    type: str = "F32",
    *,
    calibration: Calibration | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Write the folder, the weights as GGUF of ``type``; returns notes for the person.

    Raises:
        UserError: llama.cpp cannot run the model or its tokenizer, or something is at ``folder``.
    """
    if model.tokenizer is None:
        raise UserError("Ollama runs no model without a tokenizer", hint="name one with --tokenizer")
    with replacing(Path(folder), overwrite=overwrite) as temporary:
        temporary.mkdir()
        notes = gguf.write(model, temporary / MODEL, type, calibration=calibration)
        text, more = modelfile(
            model.tokenizer, context=model.config.max_position_embeddings, chat=bool(model.facts.get("chat"))
        )
        write_text(temporary / MODELFILE, text)
    return notes + more


def modelfile(tokenizer: Tokenizer, *, context: int, chat: bool) -> tuple[str, list[str]]:
    """The Modelfile, and notes; ``chat`` says whether the model was tuned for the chat template."""
    notes: list[str] = []
    lines = [f"FROM ./{MODEL}"]
    template = chat_template(tokenizer) if chat else _PLAIN
    if template is None:
        notes.append("the chat template does more than surround messages: Ollama has to know it by itself")
    else:
        lines.append(f'TEMPLATE """{template}"""')
    names = {index: text for text, index in tokenizer.special.items()}
    stops = [names[index] for index in sorted(tokenizer.stop_ids) if index in names]
    lines += [f'PARAMETER stop "{text}"' for text in stops if '"' not in text and text.isprintable()]
    lines.append(f"PARAMETER num_ctx {context}")
    return "\n".join(lines) + "\n", notes


def chat_template(tokenizer: Tokenizer) -> str | None:
    """The chat template in Go's language; None if it does more than surround messages.

    The end of one turn and the beginning of the next cannot be told apart where a role is never last, so text
    between turns is given to the earlier one; what counts is that whole conversations come out alike.
    """
    try:
        pieces, opening = _pieces(tokenizer)
        alike = all(
            _rendered(tokenizer, messages) == _joined(pieces, opening, messages) for messages in _trials()
        )
    except UserError:  # the template refuses a conversation, or takes it apart
        return None
    fixed = [text for around in pieces.values() for text in around] + [opening]
    if not alike or any(mark in text for text in fixed for mark in _FORBIDDEN):
        return None
    if len({(before.replace(role, "", 1), after) for role, (before, after) in pieces.items()}) == 1:
        before, after = pieces["user"]
        before = before.replace("user", "{{ .Role }}", 1)
        return "{{ range .Messages }}" + before + "{{ .Content }}" + after + "{{ end }}" + opening
    branches = [
        f'{{{{ {"if" if i == 0 else "else if"} eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}'
        for i, (role, (before, after)) in enumerate(pieces.items())
    ]
    return "{{ range .Messages }}" + "".join(branches) + "{{ end }}{{ end }}" + opening


def _pieces(tokenizer: Tokenizer) -> tuple[Pieces, str]:
    """Text around each role's messages, and what opens the answer, guessed from three conversations."""
    one, two = _message("user", 0), _message("user", 1)
    before, rest = _around(_rendered(tokenizer, [one]), one)
    between, _ = _around(_around(_rendered(tokenizer, [one, two]), one)[1], two)
    after = between[: len(between) - len(before)] if between.endswith(before) else between
    opening = rest[len(after) :] if rest.startswith(after) else rest
    pieces: Pieces = {"user": (before, after)}
    for role in ("system", "assistant"):
        other = _message(role, 2)
        start, end = _around(_rendered(tokenizer, [one, other, two]), other)
        head = start.removeprefix(before + one["content"] + after)
        pieces[role] = (head, _around(end, two)[0].removesuffix(before))
    return pieces, opening


def _around(text: str, message: Message) -> tuple[str, str]:
    """What stands before a message and behind it.

    Raises:
        UserError: the template leaves it out there, as some do with a system turn that does not come first.
    """
    before, found, behind = text.partition(message["content"])
    if not found:
        raise UserError("the chat template leaves out a message", value=message["role"])
    return before, behind


def _message(role: str, number: int) -> Message:
    return {"role": role, "content": f"message{number}words"}


def _trials() -> list[list[Message]]:
    """Conversations of one to three messages that end with the user, and a longer one."""
    turns = [[*before, "user"] for length in range(3) for before in product(_ROLES, repeat=length)]
    turns.append(["system", *["user", "assistant"] * 3, "user"])
    return [[_message(role, number) for number, role in enumerate(roles)] for roles in turns if _usual(roles)]


def _usual(roles: Sequence[str]) -> bool:
    """Whether a system message stands first only and turns alternate, as every template expects."""
    spoken = roles[1:] if roles[0] == "system" else roles
    return all(role == ("user", "assistant")[i % 2] for i, role in enumerate(spoken))


def _joined(pieces: Pieces, opening: str, messages: Sequence[Message]) -> str:
    around = [(pieces[message["role"]], message["content"]) for message in messages]
    return "".join(before + content + after for (before, after), content in around) + opening


def _rendered(tokenizer: Tokenizer, messages: Sequence[Message]) -> str:
    """Text of a conversation up to the answer, without what llama.cpp puts before every prompt."""
    ids = chat_ids(tokenizer, messages)
    prefix = tokenizer.prefix_ids
    return tokenizer.decode(ids[len(prefix) :] if tuple(ids[: len(prefix)]) == prefix else ids)
