"""Which fields of rows were not read: counted by name, with the first place of each."""

from dataclasses import dataclass, field

NAMES = 200
"""Names that are kept apart; objects keyed by ids have a new one in every row."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A field that holds something and was not read."""

    name: str
    """``solution``; of a turn ``turn field 'weight'``."""
    about: bool
    """Whether it is only about the row: an id, a date, a score."""


@dataclass(slots=True)
class UnreadFields:
    """Counts fields; its size is bounded."""

    counts: dict[Unread, int] = field(default_factory=dict)
    first: dict[Unread, str] = field(default_factory=dict)
    beyond: int = 0
    """Fields of further names."""
    rewarded: bool = False
    """Whether the reward of the method sees the whole row, and with it these fields."""

    def add(self, found: Unread, place: str) -> None:
        """Count one field of one row."""
        if found in self.counts:
            self.counts[found] += 1
        elif len(self.counts) < NAMES:
            self.counts[found], self.first[found] = 1, place
        else:
            self.beyond += 1

    def sentences(self) -> list[str]:
        """A sentence for every field that may hold what is said, and one for all that are about the row."""
        why = "only the reward sees it" if self.rewarded else "not read"
        said = [one for one in self.counts if not one.about]
        found = [f"{one.name} ({self.counts[one]:,} ×, first {self.first[one]}): {why}" for one in said]
        about = ", ".join(f"{one.name} ({count:,} ×)" for one, count in self.counts.items() if one.about)
        if about:
            found.append(f"not read, for it is only about the rows: {about}")
        if self.beyond:
            found.append(f"{self.beyond:,} fields of further names: {why}")
        return found

    @property
    def said(self) -> bool:
        """Whether a field that may hold what is said was not read."""
        return bool(self.beyond) or any(not one.about for one in self.counts)
