"""Each classic mistake is caught, and a sensible plan is left in peace."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from congling.core.errors import UserError
from congling.plan.planning import require_sound

sys.path.insert(0, str(Path(__file__).parent))
from situations import DICTIONARY, HLM, LAPTOP, SLQM, WEB, codes, plan

MISTAKES = {
    "fine-tuning-rate": ({"train__optimizer": {"kind": "adamw", "rate": 2e-5}}, "error"),
    "rate-too-high": ({"train__optimizer": {"kind": "adamw", "rate": 0.3}}, "error"),
    "table-rate-too-high": ({"train__optimizer": {"kind": "muon", "embedding_rate": 3.0}}, "warning"),
    "no-warmup": ({"train__schedule": {"kind": "cosine", "warmup": 0.0}}, "warning"),
    "no-dropout": ({"train__steps": 9000, "model__dropout": 0.0}, "warning"),
    "tiny-weight-decay": (
        {"train__steps": 9000, "train__optimizer": {"kind": "adamw", "weight_decay": 1e-4}},
        "warning",
    ),
    "many-passes": ({"train__steps": 90_000}, "warning"),
    "over-budget": ({"train__steps": 90_000}, "warning"),
    "very-long": ({"train__steps": 3_000_000}, "error"),
    "batch-too-big": ({"train__rows": 64, "train__accumulation": 64}, "warning"),
    "few-steps": ({"train__steps": 10}, "note"),
    "context-beyond-model": ({"model__context": 64, "train__context": 128}, "error"),
    "memory": ({"model__layers": 48, "model__width": 2048, "train__rows": 64}, "error"),
    "width-not-64": ({"model__width": 96, "model__heads": 4}, "note"),
    "odd-head-width": ({"model__width": 72, "model__heads": 6}, "warning"),
    "bf16-on-cpu": ({"train__precision": "bf16"}, "warning"),
    "little-data": ({"model__layers": 16, "model__width": 768}, "warning"),
}


@pytest.mark.parametrize("code", MISTAKES)
def test_a_mistake_in_the_recipe_is_caught(code):
    values, severity = MISTAKES[code]
    found = codes(plan(HLM, "3m", **values))
    assert found.get(code) == severity, found


@pytest.mark.parametrize("corpus", [HLM, SLQM])
def test_nothing_is_wrong_with_the_advice_itself(corpus):
    assert not {"error", "warning"} & set(codes(plan(corpus, "15m")).values())


@pytest.mark.parametrize("corpus", [SLQM, DICTIONARY, HLM])
def test_a_vocabulary_of_the_advised_size_is_no_mistake(corpus):
    assert "vocabulary-too-big" not in codes(plan(corpus, "1m"))


def test_mistakes_of_corpus_and_machine():
    assert codes(plan(replace(HLM, vocab_size=64_000)))["vocabulary-too-big"] == "warning"
    assert "embedding-heavy" in codes(plan(replace(HLM, vocab_size=64_000)))
    assert (
        codes(plan(replace(HLM, median_tokens=20), train__context=256))["context-beyond-documents"]
        == "warning"
    )
    assert codes(plan(replace(HLM, validation_tokens=0)))["no-validation"] == "warning"
    assert codes(plan(SLQM))["small-validation"] == "note"
    assert codes(plan(HLM, machine=replace(LAPTOP, free_disk=10**6)))["disk"] == "error"


def test_what_cannot_go_where_it_should_is_named_with_the_nearest_choice():
    found = next(
        finding
        for finding in plan(HLM, tokenizer__kind="unigram").findings
        if finding.code == "not-exportable"
    )
    assert found.severity == "warning" and "gguf" in found.what and "byte fallback" in found.why
    assert "tokenizer.kind = bpe" in found.remedy
    assert "not-exportable" not in codes(plan(HLM, exports=["hf"], tokenizer__kind="unigram"))
    small = plan(HLM, exports=["llama2c"]).findings
    assert any("attention.qk_norm = false" in finding.remedy for finding in small)


def test_three_hundred_hours_are_named():
    found = plan(WEB, None, model__preset="124m", train__steps=300_000)
    long = next(finding for finding in found.findings if finding.code == "very-long")
    assert long.severity == "error" and "a pass over the text" in long.what


def test_a_budget_too_short_is_not_blamed_on_a_recipe():
    def over(budget, **values):
        found = plan(HLM, budget, **values).findings
        return next((finding for finding in found if finding.code == "over-budget"), None)

    short, fixed = over("1s"), over("1s", train__steps=4000)
    assert short and "recipe" not in short.why and fixed and "recipe fixes" in fixed.why
    enough = re.search(r"(\d+) s or more", short.remedy)
    assert enough and over(f"{enough[1]}s") is None


def test_errors_stop_and_say_how_to_go_on():
    with pytest.raises(UserError, match="--force"):
        require_sound(plan(HLM, train__optimizer={"kind": "adamw", "rate": 2e-5}).findings)
    require_sound(plan(HLM).findings)
