"""One finding about a plan, a run or a text: how bad, what, why, and what to do."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Diagnosis:
    """Something a person should know, with its reason and its remedy."""

    severity: Severity
    """``error`` stops a run unless it is forced; ``warning`` likely costs quality or time; ``note`` is
    good to know."""
    code: str
    """Short stable name, for programs and tests."""
    what: str
    why: str
    remedy: str

    def to_json(self) -> dict[str, Any]:
        """Return the plain fields."""
        return asdict(self)


_ORDER = {"error": 0, "warning": 1, "note": 2}


def worst_first(findings: Iterable[Diagnosis]) -> list[Diagnosis]:
    """Sort findings by severity, keeping the order within one."""
    return sorted(findings, key=lambda finding: _ORDER[finding.severity])
