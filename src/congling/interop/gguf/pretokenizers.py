"""How byte-level vocabularies split a text before merging, under the names llama.cpp knows
(``tokenizer.ggml.pre``).

The expressions are applied one after another; what they match and what lies between are the pieces. They
are llama.cpp's own (checked against release b11549), so that a vocabulary read from a GGUF file splits
here as it does there; ``tokenizer.json`` files spell some of them in other ways, which ``name_of`` knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from congling.core.errors import UserError
from congling.tokenizer.hf_json import Node, nodes
from congling.tokenizer.split import ENCODING

_ENDINGS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_ENDINGS_FOLDED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_THREE_DIGITS = _ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST
_ONE_DIGIT = _ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST
_CASED = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ί"
    "ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ"
    "\U00010400-\U0001044f𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
_HAN = "[一-龥ࠀ-一가-퟿]+"


@dataclass(frozen=True)
class Split:
    """One way to split a text."""

    expressions: Sequence[str]
    whole_words: bool = False
    """A piece that is in the vocabulary is taken whole, whatever the merges say."""
    adds_bos: bool = False
    """llama.cpp puts the bos id first where the file does not say."""


GPT2 = Split((_GPT2,))
_DIGITS_GPT2 = Split((r"\p{N}", _GPT2))
_LLAMA3 = Split((_THREE_DIGITS,), whole_words=True, adds_bos=True)
_QWEN2 = Split((_ONE_DIGIT,))
_DEEPSEEK3 = Split(ENCODING)
_DEFAULT = Split((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"))

SPLITS: Mapping[str, Split] = {
    "default": _DEFAULT,
    "gpt-2": GPT2,
    "llama-bpe": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-v3": _DEEPSEEK3,
    "smaug-bpe": Split((_THREE_DIGITS,)),
    "deepseek-llm": Split(
        (r"[\r\n]", rf"\s?[{_CASED}]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", _HAN, r"\p{N}+")
    ),
    "deepseek-coder": Split((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN, r"\p{N}")),
    "falcon": Split((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]")),
    "starcoder": _DIGITS_GPT2,
    **dict.fromkeys(("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"), _LLAMA3),
    **dict.fromkeys(("dbrx", "chatglm-bpe", "glm4"), Split((_THREE_DIGITS,))),
    **dict.fromkeys(("stablelm2", "hunyuan", "megrez", "deepseek-r1-qwen", "kormo", "grok-2"), _QWEN2),
    **dict.fromkeys(("mpt", "olmo", "jais", "phi-2", "gigachat", "a.x-4.0", "mellum", "exaone4"), GPT2),
    **dict.fromkeys(("trillion", "granite-docling"), GPT2),
    **dict.fromkeys(("refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"), _DIGITS_GPT2),
    "hunyuan-dense": _DEEPSEEK3,
}
"""Every name that can be read; the first of several equal ones is written."""


def split_of(name: str, where: object) -> Split:
    """The split of a name in a file.

    Raises:
        UserError: a name that is not known here.
    """
    if name not in SPLITS:
        raise UserError(
            "the vocabulary splits texts in a way that is not known here", where=where, value=name,
            hint=f"known are {', '.join(sorted(SPLITS))}",
        )  # fmt: skip
    return SPLITS[name]


def name_of(content: Node) -> str:
    """llama.cpp's name for the split of a ``tokenizer.json``.

    Raises:
        UserError: it has none.
    """
    found = [expression for node in nodes(content.get("pre_tokenizer")) for expression in _expressions(node)]
    whole = bool(content["model"].get("ignore_merges"))
    for name, split in SPLITS.items():
        if [*split.expressions] == found and split.whole_words == whole:
            return name
    raise UserError(
        "llama.cpp has no name for the way this tokenizer splits texts", value=" then ".join(found),
        hint="the model runs there only with a tokenizer of a known kind; ours are",
    )  # fmt: skip


def _expressions(node: Node) -> list[str]:
    """One step of a pre-tokenizer as expressions in the spelling of the table."""
    kind = node["type"]
    if kind == "ByteLevel":
        return [_GPT2] if node.get("use_regex", True) else []
    if kind == "Digits":
        return [r"\p{N}"] if node.get("individual_digits") else [r"\p{N}+"]
    pattern = node.get("pattern")
    if kind == "Split" and isinstance(pattern, dict) and _isolates(node):
        text = str(pattern.get("Regex", pattern.get("String")))
        return [_spelling(text)]
    return [f"{kind}({pattern})"]


def _isolates(node: Node) -> bool:
    """Whether matches become pieces of their own; ``Removed`` with ``invert`` drops what never is there."""
    behaviour, invert = node.get("behavior"), node.get("invert", False)
    return (behaviour == "Isolated" and not invert) or (behaviour == "Removed" and invert)


def _spelling(text: str) -> str:
    text = text.replace(_ENDINGS_FOLDED, _ENDINGS)
    shorter = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
    if text.removesuffix(r"|\s+") in (_GPT2, shorter):
        return _GPT2
    return text
