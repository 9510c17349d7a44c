"""Needles of the small world as ids, in texts as long as is asked for.

::

    text      scenes … 小武的风筝是472号。 … scenes │ 问：小武的风筝是几号？\\n答：小武的风筝是 │ 472号。
              ╰──────── filler, searched for ─────╯                                     ╰─ 64 candidates
    tokens    ╰───────────────────────────── at most the length of the cell ──────────────────────────╯

A model tuned for chat is asked through its template, and its answer begun as above.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from congling.core.errors import UserError
from congling.data.smallworld.needles import Needle
from congling.evals.bench import Bench
from congling.evals.shared_prompt import Candidates
from congling.infer.prompts import prompt_ids
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.encode import chat_ids

_UNKNOWN = 0.5  # of the characters, beyond which the language is another


@dataclass(frozen=True)
class Asked:
    """A needle as the model reads it."""

    needle: Needle
    ids: list[int]
    begun: str
    """The beginning of the answer's line, which is given."""
    held: int
    """Ids of ``begun`` that each candidate has itself, since they are one token with it."""
    candidates: Candidates
    """Ids of the answers, the right one first."""

    @property
    def room(self) -> int:
        """Ids that an answer may take: those of the longest candidate, and one that ends it."""
        return max(map(len, self.candidates)) + 1

    @property
    def tokens(self) -> int:
        """Ids of the text with its answer."""
        return len(self.ids) + self.room

    @property
    def characters(self) -> int:
        """Of the text."""
        return len(self.needle.prompt)

    def cut(self, most: int) -> "Asked":
        """The same with only the last ``most`` ids to read."""
        return replace(self, ids=self.ids[-most:])

    def answer(self, tokenizer: Tokenizer, written: Sequence[int]) -> str:
        """What was written behind the beginning of the answer, up to the end of the line."""
        given = tokenizer.encode_rest(self.begun)
        kept = given[: len(given) - self.held]
        return tokenizer.decode([*kept, *written]).removeprefix(self.begun).partition("\n")[0].strip()


def asked(bench: Bench, needle: Needle) -> Asked:
    """A needle's text and candidates as ids; what stands at their border is encoded with both."""
    tokenizer = bench.loaded.tokenizer
    before, _, begun = needle.prompt.rpartition("\n答：")
    if bench.chat:
        story, _, question = before.rpartition("\n")
        said = f"{story}\n{question.removeprefix('问：').removeprefix('問：')}"
        head, line = chat_ids(tokenizer, [{"role": "user", "content": said}]), begun
    else:
        head, line = prompt_ids(tokenizer, f"{before}\n"), f"答：{begun}"
    others = [one for one in dict.fromkeys(needle.candidates) if one != needle.answer]
    own = tokenizer.encode_rest(line)
    lines = [tokenizer.encode_rest(line + answer) for answer in (needle.answer, *others)]
    kept = sum(1 for _ in takewhile(lambda ids: len(set(ids)) == 1, zip(own, *lines, strict=False)))
    return Asked(needle, [*head, *own[:kept]], line, len(own) - kept, [ids[kept:] for ids in lines])


def check_characters(bench: Bench, texts: Sequence[str]) -> None:
    """See that the tokenizer knows the language of these texts; a few unknown characters are noted.

    Raises:
        UserError: it does not.
    """
    needed, lost = unknown_characters(bench, texts)
    if not lost:
        return
    shown = "".join(lost[:40]) + ("…" if len(lost) > 40 else "")
    if len(lost) > _UNKNOWN * len(needed):
        raise UserError(
            f"the tokenizer does not know {len(lost)} of the {len(needed)} characters of the small world",
            value=shown,
            hint="needles are for models of the small world; copying-at-distance is for all",
        )
    bench.note(f"characters of the small world that the tokenizer does not know: {shown}")


def unknown_characters(bench: Bench, texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The characters of some texts, and those of them that the tokenizer loses, or spells in bytes though the
    model was not trained on the small world."""
    spelt = bool(bench.small_world())
    needed = sorted({letter for text in texts for letter in text if not letter.isspace()})
    return needed, [letter for letter in needed if not _known(bench.loaded.tokenizer, letter, spelt=spelt)]


def _known(tokenizer: Tokenizer, letter: str, *, spelt: bool) -> bool:
    """Whether a character survives, and (unless ``spelt``) is not spelt in bytes."""
    ids = tokenizer.encode_rest(letter)
    if letter not in tokenizer.decode(ids):
        return False
    return spelt or not all(map(tokenizer.is_byte, ids))
