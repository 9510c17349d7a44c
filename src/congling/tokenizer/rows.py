"""A tokenizer for a model that has fewer rows than it counts ids.

ChatGLM2's counts 64,794, the last being a mark that no text and no template produces; models trained on its
ids have 64,793 rows (baby-llama2-chinese). Such ids are left out; one that something could produce is not.
"""

import json
from dataclasses import replace
from pathlib import Path

from congling.core.errors import UserError
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.guard import guarded
from congling.tokenizer.imported.hf_json import HuggingFaceTokenizer
from congling.tokenizer.imported.sentencepiece import SentencePieceTokenizer


def within(tokenizer: Tokenizer, rows: int, where: object) -> tuple[Tokenizer, list[str]]:
    """The tokenizer without the ids that a model of ``rows`` rows lacks, and a note that says which.

    Raises:
        UserError: a text, the template or a role leads to one of them.
    """
    beyond = range(rows, tokenizer.vocab_size)
    if not beyond:
        return tokenizer, []
    texts = {index: text for text, index in tokenizer.special.items()}
    for index in beyond:
        if why := _reached(tokenizer, index, texts.get(index)):
            what = f"the tokenizer has more ids than the model's {rows}, and {why}"
            hint = f"it counts {tokenizer.vocab_size} ids: the model was trained with another one"
            raise UserError(what, where=where, value=f"id {index}: {texts.get(index)!r}", hint=hint)
    kept = {text: index for text, index in tokenizer.special.items() if index < rows}
    left = ", ".join(repr(texts[index]) for index in list(beyond)[:5])
    note = f"{len(beyond)} of the tokenizer's ids have no row in the model and are left out; nothing leads "
    return _without(tokenizer, kept, rows, where), [note + f"to them: {left}"]


def _reached(tokenizer: Tokenizer, index: int, text: str | None) -> str | None:
    """What leads to an id; ``None`` where nothing does."""
    if text is None:
        return "a text can lead to this one"
    roles = tokenizer.roles
    if index in {roles.bos, roles.eos, roles.pad, *roles.prefix}:
        return "this one has a role"
    return "the chat template writes this one" if text in tokenizer.chat_template else None


def _without(tokenizer: Tokenizer, kept: dict[str, int], rows: int, where: object) -> Tokenizer:
    template, stops = tokenizer.chat_template, tokenizer.roles.stops
    roles = replace(tokenizer.roles, stops=frozenset(index for index in stops if index < rows))
    if isinstance(tokenizer, SentencePieceTokenizer) and len(tokenizer.model.pieces) <= rows:
        return guarded(SentencePieceTokenizer(tokenizer.model, kept, template, "", roles))
    if isinstance(tokenizer, HuggingFaceTokenizer):
        content = dict(tokenizer.content)
        content["added_tokens"] = [one for one in content["added_tokens"] if one["id"] < rows]
        text = json.dumps(content, ensure_ascii=False)
        found = HuggingFaceTokenizer.parsed(text, Path(str(where)), kept, template, "", roles)
        if found.vocab_size <= rows:
            return guarded(found)
    raise UserError(
        f"the tokenizer has more ids than the model's {rows}", where=where, value=tokenizer.vocab_size
    )
