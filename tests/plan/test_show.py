"""The plan on the terminal and as JSON."""

import io
import json

import pytest
from rich.console import Console

from congling.plan.show import curve, show, show_brief
from support.situations import HLM, SLQM, plan


def test_everything_is_shown():
    out = io.StringIO()
    show(plan(SLQM), Console(file=out, width=140))
    text = out.getvalue()
    for part in (
        "corpus",
        "embedding",
        "passes over the text",
        "memory",
        "disk",
        "learning rate",
        "memorise it",
        "do:",
    ):
        assert part in text


@pytest.mark.parametrize(
    "found", [plan(HLM), plan(SLQM), plan(HLM, train__optimizer={"kind": "adamw", "learning_rate": 0.03})]
)
def test_the_brief_form_is_a_dozen_lines_and_every_warning(found):
    out = io.StringIO()
    show_brief(found, Console(file=out, width=80))
    said = " ".join(out.getvalue().split())
    assert len(out.getvalue().splitlines()) <= 12 + 4 * len(found.findings)
    for part in (
        f"{found.cost.embedding_share:.0%} of them",
        f"{found.cost.passes:.1f} passes",
        "▇",
        "memory",
    ):
        assert part in said
    for finding in found.findings:
        assert f"{finding.severity}: {finding.what}" in said
        assert (f"do: {finding.remedy}" in said) == (finding.severity != "note")


def test_the_curve_rises_and_falls():
    rows = curve(plan(HLM).learning_rates(40), height=3)
    assert len(rows) == 3 and {len(row) for row in rows} == {40}
    assert rows[0][10] == "█" and rows[0][-1] == " "


def test_json_round_trip():
    found = plan(HLM)
    stored = json.loads(found.to_text())
    assert stored["cost"]["passes"] == found.cost.passes
    assert stored["train"]["max_steps"] == found.train.max_steps
    assert stored["cost"]["peak_memory"] == sum(stored["cost"]["memory"].values())
