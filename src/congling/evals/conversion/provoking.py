"""Texts that provoke differences between tokenizers, beside the prose of ``parity.TEXT``.

Ids alone are compared on them: what stands around marks, what normalisers change, what vocabularies use
themselves.
"""

from congling.interop.gguf.differences import differences
from congling.tokenizer.base import Tokenizer

TEXTS = (
    " a", "  two spaces first", "end in spaces  ", "a  b   c    d", "\ta\t\tb", "a\n\n\nb",
    "a\r\nb", " \n ", "　全角空格　", "<|im_end|>", "a<|im_end|>b", "a <|im_end|> b",
    "a\n<|im_end|>\nb", "<s>[INST] 你好 [/INST]</s>", "<|endoftext|>\n", "<unk>", "<0x0A>", "▁",
    "▁a ▁ b▁", "Ġa", "ＡＢＣ１２３，！", "①㍿ﬁ½²", "cafe\u0301 e\u0301\u0323", "caf\u00e9",
    "\u1112\u1161\u11ab\u1100\u1173\u11af", "か\u3099", "👨\u200d👩\u200d👧\u200d👦", "👍🏽🇨🇳",
    "𠀀𠮷𪚥", "1234567890123", "12,345.678", "１２３４５", "don't I'LL we'Ve",
    "a\u00a0b\u200bc\u2028d", "“引号”——……《书名》", "e\u200d\ufe0f", "\u0130ß",
)  # fmt: skip
"""No control characters: programs in C end a text at some of them."""


def texts_for(tokenizer: Tokenizer, target: str) -> list[str]:
    """The texts on which a program must give our ids: without what its target is known not to hold.

    An export to llama.cpp names its differences; run.c splits texts in a way of its own, which notes say too.
    """
    if target not in ("gguf", "ollama", "hf"):
        return []
    if target == "hf":
        return list(TEXTS)
    apart = differences(tokenizer)
    return [text for text in TEXTS if not any(each.concerns(text) for each in apart)]
