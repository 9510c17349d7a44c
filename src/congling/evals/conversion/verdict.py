"""What there is to tell about a model that was checked in another program: numbers, limits, verdict."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from congling.core.artifact import exists, write_text
from congling.core.disk import writing_to
from congling.core.terminal import put
from congling.evals.conversion.parity import Parity

PERPLEXITY = {"F16": 0.01, "BF16": 0.01, "CT": 0.01, "BNB": 0.01}
"""Largest relative difference of perplexity where activations are rounded too: to 16 bits in llama.cpp, to 8
by compressed-tensors (W8A8) and bitsandbytes, whose layers are compared one by one besides.

Logits then differ in proportion to their own size, which is another for every model; what that does to the
probability of a text hardly depends on it. Measured on four layers of random
weights: below 0.03 % with F16 and 0.15 % with BF16."""


LAYERS = 1e-5
"""Largest difference of a layer's outputs on the same inputs, by the largest of them, where inputs are
rounded."""


@dataclass(frozen=True)
class Report:
    """What one verification found."""

    target: str
    type: str
    parity: Parity
    original_perplexity: float | None
    """Of the model that was converted, where what was compared is what its rounded weights make."""
    accuracy: float | None
    """Largest allowed difference of logits; ``None`` where numbers are all that can be told."""
    notes: tuple[str, ...] = ()
    """What had to be changed on the way, in sentences."""
    divergence: float | None = None
    """Mean KL divergence there from the model that was converted, in nats per token; None as above."""

    layer_difference: float | None = None
    """Largest difference of a layer's outputs, see ``layers``; None where logits tell."""

    @property
    def misses(self) -> list[str]:
        """What is not as it should be, in sentences; empty when all is well."""
        found = self.parity.misses(self.accuracy, self.perplexity_within)
        if self.layer_difference is not None and not self.layer_difference <= LAYERS:
            found.append(f"outputs of a layer differ by {self.layer_difference:.1e} of the largest")
        return found

    @property
    def perplexity_within(self) -> float | None:
        """Largest allowed relative difference of perplexity, where logits have no limit but this has."""
        return PERPLEXITY.get(self.type) if self.accuracy is None else None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, the verdict among them."""
        return {
            "target": self.target,
            "type": self.type,
            "accuracy": self.accuracy,
            "perplexity_within": self.perplexity_within,
            "original_perplexity": self.original_perplexity,
            "divergence": self.divergence,
            "layer_difference": self.layer_difference,
            **self.parity.to_json(),
            "misses": self.misses,
            "notes": list(self.notes),
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """What was measured, its value, and what it should be, for a table."""
        found, exact, share = self.parity, self.accuracy is not None, self.perplexity_within
        ids = found.equal_ids / max(1, found.ids)
        rows = [
            (f"ids of {found.ids} tokens equal", f"{ids:.2%}", "100 %"),
            (
                f"largest difference of logits, {found.positions} positions",
                f"{found.largest_difference:.2e}",
                f"≤ {self.accuracy:.0e}" if exact else "–",
            ),
            ("mean difference of logits", f"{found.mean_difference:.2e}", "–"),
            ("perplexity here", f"{found.perplexity:.4f}", "–"),
            (
                "perplexity there",
                f"{found.engine_perplexity:.4f}",
                "–" if share is None else f"± {share:.0%}",
            ),
            (
                "greedy tokens equal",
                f"{found.equal_greedy} of {found.greedy}" + _tie(self),
                f"{found.greedy}" if exact else "–",
            ),
        ]
        if (before := self.original_perplexity) is not None:
            rows.insert(3, ("perplexity before conversion", f"{before:.4f}", "–"))
            rows.append(("perplexity changed by the type", f"{found.perplexity / before - 1:+.3%}", "–"))
        if self.layer_difference is not None:
            told = "outputs of a layer on the same inputs, by the largest"
            rows.append((told, f"{self.layer_difference:.1e}", f"≤ {LAYERS:.0e}"))
        if self.divergence is not None:
            rows.append(("KL divergence there, nats per token", f"{self.divergence:.3e}", "–"))
        return rows


def save(report: Report | None, path: Path, damage: Mapping[str, Any] | None = None) -> None:
    """Write ``parity.json`` into an exported folder, else ``NAME.parity.json`` beside it.

    Beside a file, and beside a checkpoint: what lies in one makes its fingerprint, by which adapters know
    their base, and the numbers of a comparison are not the same everywhere. ``damage`` is what fewer bits
    cost. ``None`` of both: the numbers of what was there before are removed.
    """
    path = path.resolve()
    inside = path.is_dir() and not exists(path)
    file = path / "parity.json" if inside else path.with_name(path.name + ".parity.json")
    if report is None and damage is None:
        with writing_to(file):
            file.unlink(missing_ok=True)
    else:
        found = {} if report is None else report.to_json()
        found |= {} if damage is None else {"damage": damage}
        write_text(file, json.dumps(found, ensure_ascii=False, indent=1) + "\n")


def show(report: Report) -> bool:
    """Print what was measured and the verdict; returns whether all is as it should be."""
    from rich.table import Table

    from congling.core.console import Console

    engine = report.parity.engine
    table = Table(
        "", "measured", "should be", title=f"{report.target} {report.type} in {engine}", title_style=""
    )
    for row in report.rows():
        table.add_row(*row)
    Console().print(table)
    for miss in report.misses:
        put(f"differs: {miss}")
    if not report.misses:
        same = report.accuracy is not None or report.layer_difference is not None
        print(f"{engine} {'computes' if same else 'tokenises'} the same")
    return not report.misses


def _tie(report: Report) -> str:
    margin = report.parity.margin
    if margin is None or report.accuracy is None or margin > 2 * report.accuracy:
        return ""
    return f" (then a tie, {margin:.0e} apart)"
