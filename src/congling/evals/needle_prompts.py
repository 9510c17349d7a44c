"""Needles of the small world as ids, in texts as long as is asked for.

::

    text      scenes … 小武的风筝是472号。 … scenes │ 问：小武的风筝是几号？\\n答：小武的风筝是 │ 472号。
              ╰──────── filler, searched for ─────╯                                     ╰─ 64 candidates
    tokens    ╰───────────────────────────── at most the length of the cell ──────────────────────────╯

A model tuned for chat is asked through its template, and its answer begun as above.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from congling.core.errors import UserError
from congling.data.smallworld.needles import Needle
from congling.evals.bench import Bench
from congling.evals.shared_prompt import Candidates
from congling.infer.prompts import prompt_ids
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.encode import chat_ids

SLACK = 16
"""Tokens by which a text may be shorter than its cell: about a sentence."""
_TRIES = 8  # texts made for one length
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


@dataclass
class Fitting:
    """Finds the filler that makes texts of one cell as long as they should be."""

    bench: Bench
    length: int
    """Tokens that a text and its answer may have."""
    characters: int = 0
    """Of the filler that fitted last: where the next search begins."""

    def fitted(self, make: Callable[[int], Needle]) -> Asked | None:
        """The longest of some needles with more and less filler that fits; none where not even one without
        filler does.

        The search ends within ``SLACK`` of the length, or where neighbouring lengths of filler lie on
        either side of it.
        """
        best: Asked | None = None
        least, most, at = -1, 16 * self.length, self.characters or self.length // 2
        for _ in range(_TRIES):
            found = asked(self.bench, make(at))
            left = self.length - found.tokens
            if left >= 0:
                least = at
                best = found if best is None or found.tokens > best.tokens else best
                if left <= SLACK:
                    break
            else:
                most = at
            rate = max(0.2, len(found.ids) / len(found.needle.prompt))
            wanted = at + round((left - SLACK / 2) / rate)
            at = min(max(wanted, least + 1), most - 1)
            if not least < at < most:
                break
        self.characters = max(least, 0)
        return best


def check_characters(bench: Bench, texts: Sequence[str]) -> None:
    """See that the tokenizer knows the language of these texts; a few unknown characters are noted.

    Raises:
        UserError: it does not.
    """
    tokenizer = bench.loaded.tokenizer
    needed = sorted({letter for text in texts for letter in text if not letter.isspace()})
    lost = [letter for letter in needed if not _known(tokenizer, letter, spelt=bool(bench.small_world()))]
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


def _known(tokenizer: Tokenizer, letter: str, *, spelt: bool) -> bool:
    """Whether a character survives, and (unless ``spelt``) is not spelt in bytes."""
    ids = tokenizer.encode_rest(letter)
    if letter not in tokenizer.decode(ids):
        return False
    return spelt or not all(map(tokenizer.is_byte, ids))
