"""The pages about these commands name every flag that was added, and only flags that exist."""

import dataclasses
import re
from pathlib import Path

import pytest

from congling.llamacpp_trainers.adapter_options import ExportOptions, FinetuneOptions
from congling.llamacpp_trainers.options import ScratchOptions

DOCS = Path(__file__).parents[3] / "docs"
CHOICES = [
    field.metadata["switches"]
    for kind in (ScratchOptions, FinetuneOptions, ExportOptions)
    for field in dataclasses.fields(kind)
    if "switches" in field.metadata
]
OTHER = {"--out", "--data", "--help", "--prompt", "--model", "--to", "--lora", "--model_type"} | {
    "--byte_fallback"
}
"""Flags of `train`, `sft`, `generate` and `convert`, and of sentencepiece's own trainer."""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_flags(language):
    page = (DOCS / language / "llamacpp-trainers.md").read_text("utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", page))
    known = {name for choice in CHOICES for switch in choice for name in switch.names}
    assert named - known - OTHER == set()
    added = [choice for choice in CHOICES if choice[0].help.startswith("NEW: ")]
    assert len(added) > 5
    missing = [choice for choice in added if not any(named & set(switch.names) for switch in choice)]
    assert missing == []
