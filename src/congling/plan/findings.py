"""Findings of a plan or a run, in the order in which they are shown."""

from collections.abc import Iterable

from congling.core.diagnosis import Diagnosis, Severity

__all__ = ["Diagnosis", "Severity", "worst_first"]

_ORDER = {"error": 0, "warning": 1, "note": 2}


def worst_first(findings: Iterable[Diagnosis]) -> list[Diagnosis]:
    """Sort findings by severity, keeping the order within one."""
    return sorted(findings, key=lambda finding: _ORDER[finding.severity])
