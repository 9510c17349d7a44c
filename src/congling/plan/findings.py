"""One finding about a plan or a run: how bad, what, why, and what to do."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
_ORDER = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Finding:
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


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings by severity, keeping the order within one."""
    return sorted(findings, key=lambda finding: _ORDER[finding.severity])
