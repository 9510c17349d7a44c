"""Entries of dictionaries as a question and its answer: "解释：X", and what it means."""

from congling.data.clean import blank
from congling.data.sources.fields import Fields, holds
from congling.data.sources.names import ASK, MEANING, SOUNDS, TITLE
from congling.data.sources.turns import ASSISTANT, Message


def is_entry(fields: Fields) -> bool:
    """Whether a record is a dictionary's: a headword with a meaning, or a pronunciation and a text."""
    headed = any(isinstance(fields[name], str) for name in fields.all(TITLE))
    return headed and bool(_meaning(fields)) and not fields.find(ASK)


def _meaning(fields: Fields) -> str:
    meaning = fields.find(MEANING)
    text = fields.find(("text",))
    return meaning or (text if fields.find(SOUNDS) and isinstance(fields[text], str) else "")


def _word(fields: Fields) -> tuple[str, str]:
    """Headword and pronunciation."""
    name = next(name for name in fields.all(TITLE) if isinstance(fields[name], str))
    sounds = [fields.use(one) for one in fields.all(SOUNDS)]
    firsts = [one[0] if isinstance(one, list) and one else one for one in sounds]
    return str(fields.use(name)).strip(), next((one for one in firsts if isinstance(one, str) and one), "")


def entry_question(fields: Fields) -> Message:
    """What is asked of a headword."""
    word, sound = _word(fields)
    return {"role": "user", "content": f"解释：{word}（{sound}）" if sound else f"解释：{word}"}


def entry_meaning(fields: Fields) -> list[Message]:
    """What a headword means, without the head of the entry, which the question says."""
    word, sound = _word(fields)
    value = fields.use(_meaning(fields))
    if isinstance(value, list):
        value = "\n".join(line for line in value if isinstance(line, str))
    if not holds(value) or not isinstance(value, str) or blank(value):
        return [{"role": ASSISTANT, "content": ""}]
    lines = value.split("\n")
    while len(lines) > 1 and (lines[0].strip() == word or (sound and sound in lines[0])):
        lines.pop(0)
    return [{"role": ASSISTANT, "content": "\n".join(lines)}]
