"""Score what a model of the small world writes, by the rules of that world."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from congling.data.smallworld import check
from congling.data.smallworld.checking import Verdict


@dataclass(frozen=True)
class RuleReport:
    """Means over the texts; ``None`` where none of them had anything to judge."""

    texts: int
    score: float
    """Product of all that could be judged in a text: 1 is faultless."""
    grammar: float
    """Share of the characters that stand in sentences of the world."""
    facts: float | None
    """Share of statements that contradict nothing said before."""
    couplets: float | None
    """Share of couplet lines whose sides match."""
    sums: float | None
    """Share of sums that are right."""

    def to_json(self) -> dict[str, float | int | None]:
        """Plain values."""
        return asdict(self)


def rule_report(texts: Sequence[str]) -> RuleReport:
    """Judge texts that each begin a document; the last sentence, which a limit may have cut, is left out.

    Raises:
        ValueError: there are no texts.
    """
    verdicts = [check(_whole_sentences(text)) for text in texts]
    if not verdicts:
        raise ValueError("no texts to judge")

    def mean(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    def share(name: str) -> float | None:
        return mean(getattr(verdict, name) for verdict in verdicts)

    return RuleReport(
        len(texts),
        _always(verdicts, "score"),
        _always(verdicts, "grammar"),
        share("facts"),
        share("couplets"),
        share("sums"),
    )


def _always(verdicts: Sequence[Verdict], name: str) -> float:
    return sum(getattr(verdict, name) for verdict in verdicts) / len(verdicts)


def _whole_sentences(text: str) -> str:
    """Cut behind the last mark or line that ends a sentence."""
    end = max((text.rfind(mark) for mark in "。！？”」\n"), default=-1)
    return text[: end + 1] if end >= 0 else text
