"""What a run that begins with a trained model keeps of how it came about, for explanations and reports."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from congling.core.diagnosis import Diagnosis
from congling.plan.tuning_plan import TuningFacts
from congling.train.config import TrainConfig


@dataclass(frozen=True)
class TuningPlan:
    """Everything known before the first step."""

    method: str
    """The command."""
    base: Mapping[str, Any]
    """Its path, as it was named, and how its context was extended, where it was."""
    facts: TuningFacts
    noun: str
    """What a row is called, in the singular."""
    rows: tuple[int, int]
    """Rows to learn from, and held out."""
    train: TrainConfig
    asked: Iterable[str]
    """Dotted names of the settings that a person gave."""
    findings: Iterable[Diagnosis]
    parameters: int
    """Values of the base."""
    trained: int
    """Values that are learnt: of an adapter, or all."""
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_text(self) -> str:
        """Content of ``plan.json``."""
        facts, (rows, held_out) = self.facts, self.rows
        content = {
            "method": self.method,
            "base": dict(self.base),
            "model": facts.model.model_dump(mode="json"),
            "train": self.train.model_dump(mode="json"),
            "parameters": self.parameters,
            "trained": self.trained,
            "data": {
                "noun": self.noun,
                "rows": rows,
                "held_out": held_out,
                "tokens": facts.inputs,
                "learnt": facts.targets,
                "longest": facts.longest,
                "faults": dict(facts.faults),
            },
            "given": sorted(self.asked),
            "findings": [finding.to_json() for finding in self.findings],
            **self.more,
        }
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
