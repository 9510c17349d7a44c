"""Corpora and machines that plans are tried on."""

from typing import Any

from congling.core.config import build
from congling.model.config import ModelConfig
from congling.plan import planning
from congling.plan.corpus_facts import CorpusFacts, MachineFacts
from congling.plan.planning import Plan
from congling.plan.recipe import Recipe

LAPTOP = MachineFacts(2, 16 * 10**9, 50 * 10**9, 2e11, None, True)
GPU = MachineFacts(16, 140 * 10**9, 50 * 10**9, 7e14, "H200", True)
HLM = CorpusFacts(790_000, 620_000, 72, 8500, 4600, 70_000, 8)
SLQM = CorpusFacts(1450, 1300, 14, 95, 500, 100, 1)
DICTIONARY = CorpusFacts(3_400_000, 2_700_000, 21_000, 110, 9000, 300_000, 2300)
WEB = CorpusFacts(3_000_000_000, 2_000_000_000, 900_000, 900, 32_000, 2_000_000, 800)


def plan(
    corpus: CorpusFacts,
    budget: str | None = "15m",
    machine: MachineFacts = LAPTOP,
    start: ModelConfig | None = None,
    **values: Any,
) -> Plan:
    """Plan a recipe of dotted ``model__num_hidden_layers=4`` values; ``start`` is trained already."""
    recipe: dict[str, Any] = {"data": {"sources": ["book.txt"]}, "budget": budget}
    for key, value in values.items():
        table, _, name = key.partition("__")
        if name:
            recipe.setdefault(table, {})[name] = value
        else:
            recipe[table] = value
    return planning.make(
        build(Recipe, {key: value for key, value in recipe.items() if value is not None}),
        corpus,
        machine,
        start=start,
    )


def codes(found: Plan) -> dict[str, str]:
    """Severity by code of the plan's findings."""
    return {finding.code: finding.severity for finding in found.findings}
