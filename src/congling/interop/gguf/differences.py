"""Where llama.cpp treats texts otherwise than a tokenizer that a GGUF file holds all the same.

What changes ordinary texts is refused in ``vocabulary``; these rare differences are told by name, and the
check of an export leaves out the texts that they concern.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import tokenizers

from congling.tokenizer.base import IM_END, Tokenizer
from congling.tokenizer.character import CharacterTokenizer
from congling.tokenizer.chat.turns import ENDS_OF_LLAMA_CPP
from congling.tokenizer.imported.hf_json import HuggingFaceTokenizer, nodes
from congling.tokenizer.imported.sentencepiece import SentencePieceTokenizer
from congling.tokenizer.imported.sentencepiece_file import Algorithm


class Difference(NamedTuple):
    """One habit in which the two part."""

    what: str
    concerns: Callable[[str], bool]
    """Whether the ids of a text may differ for it."""


def differences(tokenizer: Tokenizer) -> list[Difference]:
    """All there are for this tokenizer, each with a sentence for the person."""
    return list(_differences(tokenizer))


def normalised(tokenizer: HuggingFaceTokenizer) -> Callable[[str], str]:
    """What the file's normaliser makes of a text."""
    normaliser = tokenizers.Tokenizer.from_str(tokenizer.text).normalizer
    return (lambda text: text) if normaliser is None else normaliser.normalize_str


def turn_ends(tokenizer: Tokenizer) -> tuple[int | None, int | None, list[int]]:
    """The ids for ``eot_token_id`` and ``eom_token_id``, and the ends of an answer that get lost.

    Besides these two and the end of a text llama.cpp stops at tokens with certain texts, which need no key.
    """
    texts = {index: text for text, index in tokenizer.special.items()}
    ends = sorted(tokenizer.roles.stops - {tokenizer.roles.eos})
    unknown = [index for index in ends if texts.get(index) not in ENDS_OF_LLAMA_CPP]
    known = sorted(set(ends) - set(unknown), key=lambda index: texts[index] != IM_END)
    keys = [*unknown[:2]] if len(unknown) > 1 else [*known[:1], *unknown]
    eot, eom, *_ = [*keys, None, None]
    return eot, eom, unknown[2:]


def _differences(tokenizer: Tokenizer) -> Iterator[Difference]:
    if isinstance(tokenizer, CharacterTokenizer):
        yield Difference("llama.cpp takes the character ▁ for a space", lambda text: "▁" in text)
    if isinstance(tokenizer, SentencePieceTokenizer) and tokenizer.model.algorithm == Algorithm.UNIGRAM:
        yield Difference("llama.cpp loses a space of a text of spaces alone", lambda text: not text.strip())
    if isinstance(tokenizer, HuggingFaceTokenizer):
        yield from _of_json(tokenizer)
    _, _, lost = turn_ends(tokenizer)
    if lost:
        texts = {index: text for text, index in tokenizer.special.items()}
        named = ", ".join(f"{texts.get(index, '')} ({index})" for index in lost)
        yield Difference(
            "a GGUF file names three tokens that end an answer: llama.cpp goes on after "
            f"{named}, unless told to stop there (--reverse-prompt)",
            lambda text: False,
        )


def _of_json(tokenizer: HuggingFaceTokenizer) -> Iterator[Difference]:
    steps = [*nodes(tokenizer.content.get("normalizer")), *nodes(tokenizer.content.get("pre_tokenizer"))]
    kinds = sorted({node["type"] for node in nodes(tokenizer.content.get("normalizer"))})
    if tokenizer.byte_level and kinds:
        made = normalised(tokenizer)
        yield Difference(
            f"llama.cpp does not normalise texts as this tokenizer does ({', '.join(kinds)}): what that "
            "changes gets other ids there, such as e with a combining accent",
            lambda text: made(text) != text,
        )
    if tokenizer.space_prefix and any(node["type"] == "Metaspace" for node in steps):
        yield Difference(
            "llama.cpp puts a space before texts that begin with one too, this tokenizer (Metaspace) none",
            lambda text: text[:1] in (" ", "▁"),
        )
    if tokenizer.space_prefix and not tokenizer.space_after_special:
        yield Difference(
            "llama.cpp puts a space behind every special token too, this tokenizer before a text alone "
            "(prepend_scheme: first): in conversations text right behind a mark gets other ids there",
            lambda text: False,
        )
