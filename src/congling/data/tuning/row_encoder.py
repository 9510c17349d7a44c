"""What all encoders of rows share: from a rendered conversation to an example that fits into the context."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from congling.core.errors import UserError
from congling.core.units import plural
from congling.data.problems import Place, ReadingLog
from congling.data.sources.turns import ASSISTANT, Message
from congling.data.tuning.examples import Example, characters_of
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.encode import Rendered


class RowEncoder(ABC):
    """From rows to examples by a tokenizer's chat template; what is refused or too long goes to the findings.

    Args:
        tokenizer: with the template.
        context: most inputs of an example, one less than its ids.
        findings: where problems are counted and named.
    """

    def __init__(self, tokenizer: Tokenizer, context: int, findings: ReadingLog) -> None:
        self.tokenizer, self.context, self.findings = tokenizer, context, findings
        self.unended = 0
        """Answers that the template does not end."""

    @abstractmethod
    def sides(self, row: Any) -> Iterable[tuple[str, Example]]:
        """The examples of one row as they are trained on, each with its side; "" where there is but one."""

    @cached_property
    def _characters(self) -> np.ndarray:
        return characters_of(self.tokenizer)

    @property
    def notes(self) -> list[str]:
        """What a person should know of how the template wrote the rows so far."""
        if not self.unended:
            return []
        ends = f"the template ends {self.unended:,} {plural(self.unended, 'answer')} with no token of its own"
        return [f"{ends}: the end of text stands in"]

    def fits(self, rendered: Rendered) -> bool:
        """Whether nothing of it has to be cut off."""
        return len(rendered.input_ids) <= self.context + 1

    def refused(self, place: Place, error: UserError) -> None:
        """Count and name a row that the template does not render."""
        self.findings.problem("refused by the template", *place, error.what)

    def example(self, rendered: Rendered, place: Place) -> Example | None:
        """An example of it, its answer truncated where it is too long; None if nothing of it is left."""
        self.unended += not rendered.ended
        ids, loss_mask = np.array(rendered.input_ids, np.int32), np.array(rendered.answer_mask, bool)
        if not self.fits(rendered):
            ids, loss_mask = ids[: self.context + 1], loss_mask[: self.context + 1]
            if not loss_mask[1:].any():
                reason = f"the question alone fills the context of {self.context} tokens"
                self.findings.problem("question too long", *place, reason)
                return None
            reason = f"it goes beyond the context of {self.context} tokens"
            self.findings.problem("answer truncated", *place, reason)
        return self.masked(ids, loss_mask, str(place))

    def masked(self, ids: np.ndarray, loss_mask: np.ndarray, name: str) -> Example:
        """An example of these ids, with the characters of what is learnt of them."""
        return Example(ids, loss_mask, int(self._characters[ids[1:][loss_mask[1:]]].sum()), name)


def last_answer_alone(messages: Sequence[Message]) -> list[Message]:
    """Turns of which only the last is learnt."""
    earlier = [{**turn, "loss": False} if turn["role"] == ASSISTANT else turn for turn in messages[:-1]]
    return [*earlier, messages[-1]]
