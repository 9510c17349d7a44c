"""Quantised models beside the one they were made from: what was measured of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from congling.evals.copying import CopyReport
from congling.evals.damage import Band, Damage, Recovery
from congling.evals.damage_layers import LayerReport
from congling.evals.rules import RuleReport
from congling.interop.stored_bits import StoredBits

PARTED = "▸"
"""Stands in a text where it parts from the base's."""


@dataclass(frozen=True)
class Greedy:
    """What both write behind a prompt, always the likeliest token."""

    prompt: str
    before: str
    after: str
    """With ``PARTED`` where it parts from ``before``."""
    equal: int
    """Tokens until they part."""
    tokens: int
    """That the base wrote."""


@dataclass(frozen=True)
class WritingScores:
    """What is measured of texts a model wrote; None where it was not."""

    rules: RuleReport | None = None
    copying: CopyReport | None = None


@dataclass(frozen=True)
class ModelDamage:
    """One quantised model."""

    name: str
    path: Path
    stored: StoredBits
    damage: Damage
    bands: tuple[Band, ...]
    layers: LayerReport | None
    recovery: Recovery | None
    """Against rounding on the same grid, where that is among the models."""
    greedy: tuple[Greedy, ...]
    writing: WritingScores
    calibration: Mapping[str, str]
    """How it was quantised and what with, as its file says."""
    warnings: tuple[str, ...]

    @property
    def line(self) -> str:
        """Name and verdict."""
        return f"{self.name}: {self.damage.verdict}"


@dataclass(frozen=True)
class DamageReport:
    """Models beside the one they were made from."""

    base: str
    path: Path
    stored: StoredBits
    weights: Mapping[str, int]
    """Of the base, by part."""
    writing: WritingScores
    text: str
    """What was read, in a sentence."""
    models: tuple[ModelDamage, ...]


def as_document(found: DamageReport) -> dict[str, Any]:
    """The same for a program."""
    models = [
        {**vars(one), "verdict": one.damage.verdict, "bits_per_weight": bits_per_weight(found, one.stored)}
        for one in found.models
    ]
    return {**vars(found), "bits_per_weight": bits_per_weight(found, found.stored), "models": models}


def bits_per_weight(found: DamageReport, stored: StoredBits) -> float:
    """Of all tensors of a file, by the weights of the base."""
    return stored.bits(sum(found.weights.values()))
