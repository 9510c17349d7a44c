"""Marks of other programs within texts: ends of documents, roles of chat templates.

Tokenizers here read them as ordinary characters, so they would be learnt letter by letter. Those that end a
document divide it (see :mod:`separators`); all others are counted and named.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

_MARK = re.compile(
    r"<\|[A-Za-z][A-Za-z_0-9 ]{0,30}\|>|<｜[^｜<>\n]{1,30}｜>|\[/?INST\]|<</?SYS>>|\[gMASK\]|</?s>"
    r"|\[(?:MASK|CLS|SEP|PAD|UNK|BOS|EOS)\]|<(?:unk|pad|mask|sep|cls|bos|eos|eod|EOD|sop|eop)>"
    r"|<eo[admhtcr]>|<(?:start|end)_of_turn>|<reserved_10[67]>"
    r"|### ?(?:Instruction|Response|Input|Human|Assistant|指令|回答) ?[:：]|\[Round \d+\]"
    r"|^(?:Human|Assistant|USER|ASSISTANT|人类|助手)[:：]",
    re.MULTILINE,
)
_QUICK = re.compile(r"[<\[#]|^(?:Human|Assistant|USER|ASSISTANT|人类|助手)[:：]", re.MULTILINE)
_CHATS = ("<|im_start|>", "[INST]", "<|start_header_id|>", "<start_of_turn>", "<|user|>", "### Instruction",
          "### Human", "Human:", "USER:", "人类：", "<｜User｜>", "<|Human|>", "[Round")  # fmt: skip
KINDS = 30


@dataclass(slots=True)
class ForeignTokens:
    """Counts marks; its size is bounded."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    in_turns: bool = False
    """Whether one stands in a turn of a conversation, which no separator divides."""

    def look(self, text: str, place: str, *, turn: bool = False) -> None:
        """Count the marks in a text, or in what a turn of a conversation says."""
        if not _QUICK.search(text):
            return
        for found in _MARK.findall(text):
            if found not in self.counts and len(self.counts) >= KINDS:
                continue
            self.counts[found] += 1
            self.in_turns |= turn
            self.first.setdefault(found, place)

    def sentences(self) -> list[str]:
        """One sentence on them all, with what to do; or none."""
        if not self.counts:
            return []
        listed = ", ".join(
            f"{mark} ({count:,} ×, first {self.first[mark]})" for mark, count in self.counts.most_common(6)
        )
        told = f"marks of other programs stand in the texts, as plain characters: {listed}"
        return [f"{told}; {self._advice()}"]

    def _advice(self) -> str:
        if self.in_turns:
            return "take them out of the rows: the template writes its own"
        if any(mark.startswith(_CHATS) for mark in self.counts):
            return (
                "they look like conversations under a chat template: make rows of messages of them, for sft"
            )
        return "if one ends documents, name it: data.separator=…; otherwise take them out"
