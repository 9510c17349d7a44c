"""How byte-level vocabularies split a text before merging, under the names llama.cpp knows
(``tokenizer.ggml.pre``).

The expressions are applied one after another; what they match and what lies between are the pieces. They
are llama.cpp's own (checked against release b11549), so that a vocabulary read from a GGUF file splits
here as it does there; ``tokenizer.json`` files spell some of them in other ways, which ``name_of`` knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from congling.core.errors import UserError
from congling.tokenizer.imported.hf_json import Node, nodes
from congling.tokenizer.split import ENCODING

_ENDINGS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_ENDINGS_FOLDED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_THREE_DIGITS = _ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST
_ONE_DIGIT = _ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST
# Letters with case, as code points: some would not survive an editor that normalises text.
_CASED = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-"
    "\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-"
    "\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf"
    "\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-"
    "\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"
    "\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115"
    "\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e"
    "\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-"
    "\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-"
    "\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
# In expressions without Unicode classes llama.cpp sees white space beyond ASCII as such only: U+3000 is in no
# range there.
_HAN = r"(?:(?!\s)[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff])+"


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
        (r"[\r\n]", rf"\s?[{_CASED}]+", r"\s?[!-/:-~！-／：-～‘-‟、-。]+", r"\s+$", _HAN, r"\p{N}+")
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
            "the vocabulary splits texts in a way that is not known here",
            where=where,
            value=name,
            hint=f"known are {', '.join(sorted(SPLITS))}",
        )
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
        "llama.cpp has no name for the way this tokenizer splits texts",
        value=" then ".join(found),
        hint="the model runs there only with a tokenizer of a known kind; ours are",
    )


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
