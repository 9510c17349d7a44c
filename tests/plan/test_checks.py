"""Each classic mistake is caught, and a sensible plan is left in peace."""

import re
from dataclasses import replace

import pytest

from congling.core.config import build
from congling.core.errors import UserError
from congling.plan import planning
from congling.plan.corpus_facts import CorpusFacts
from congling.plan.cost import Beside
from congling.plan.planning import require_sound
from congling.plan.recipe import Recipe
from support.situations import DICTIONARY, GPU, HLM, LAPTOP, SLQM, WEB, codes, plan

MISTAKES = {
    "fine-tuning-rate": ({"train__optimizer": {"kind": "adamw", "learning_rate": 2e-5}}, "error"),
    "rate-too-high": ({"train__optimizer": {"kind": "adamw", "learning_rate": 0.3}}, "error"),
    "table-rate-too-high": (
        {"train__optimizer": {"kind": "muon", "embedding_learning_rate": 3.0}},
        "warning",
    ),
    "no-warmup": ({"train__schedule": {"kind": "cosine", "warmup_ratio": 0.0}}, "warning"),
    "no-dropout": ({"train__max_steps": 9000, "model__dropout": 0.0}, "warning"),
    "tiny-weight-decay": (
        {"train__max_steps": 9000, "train__optimizer": {"kind": "adamw", "weight_decay": 1e-4}},
        "warning",
    ),
    "many-passes": ({"train__max_steps": 90_000}, "warning"),
    "over-budget": ({"train__max_steps": 90_000}, "error"),
    "very-long": ({"train__max_steps": 3_000_000}, "error"),
    "batch-too-big": (
        {"train__per_device_train_batch_size": 64, "train__gradient_accumulation_steps": 64},
        "warning",
    ),
    "few-steps": ({"train__max_steps": 10}, "note"),
    "context-beyond-model": ({"model__max_position_embeddings": 64, "train__max_length": 128}, "error"),
    "memory": (
        {
            "model__num_hidden_layers": 48,
            "model__hidden_size": 2048,
            "train__per_device_train_batch_size": 64,
        },
        "error",
    ),
    "width-not-64": ({"model__hidden_size": 96, "model__num_attention_heads": 4}, "note"),
    "odd-head-width": ({"model__hidden_size": 72, "model__num_attention_heads": 6}, "warning"),
    "bf16-on-cpu": ({"train__precision": "bf16"}, "warning"),
    "little-data": ({"model__num_hidden_layers": 16, "model__hidden_size": 768}, "warning"),
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
        codes(plan(replace(HLM, median_tokens=20), train__max_length=256))["context-beyond-documents"]
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
    found = plan(WEB, None, model__preset="124m", train__max_steps=300_000)
    long = next(finding for finding in found.findings if finding.code == "very-long")
    assert long.severity == "error" and "a pass over the text" in long.what


def test_a_budget_too_short_is_not_blamed_on_a_recipe():
    def over(budget, **values):
        found = plan(HLM, budget, **values).findings
        return next((finding for finding in found if finding.code == "over-budget"), None)

    short, fixed = over("1s"), over("1s", train__max_steps=4000)
    assert short and "recipe" not in short.why and fixed and "recipe fixes" in fixed.why
    enough = re.search(r"(\d+) s or more", short.remedy)
    assert enough and over(f"{enough[1]}s") is None


EVERYTHING = [HLM, SLQM, DICTIONARY, WEB, replace(HLM, median_tokens=5), replace(HLM, vocab_size=64_000),
              replace(WEB, median_tokens=12), CorpusFacts(300, 280, 3, 90, 260, 0, 0),
              CorpusFacts(52_000, 40_000, 9, 4000, 9000, 4000, 1)]  # fmt: skip


@pytest.mark.parametrize("budget", ["1s", "12s", "1m", "15m", "20h", None])
@pytest.mark.parametrize("corpus", EVERYTHING, ids=str)
@pytest.mark.parametrize("machine", [LAPTOP, GPU, replace(LAPTOP, peak=3e9), replace(LAPTOP, memory=4e8)])
def test_nobody_is_told_to_change_what_the_plan_chose(corpus, budget, machine):
    for finding in plan(corpus, budget, machine).findings:
        if finding.code == "memory":
            continue  # the same step in smaller parts
        said = f"{finding.what} {finding.remedy}"
        assert not re.search(
            r"layers|schedule|warmup|dropout|decay|train\.(per_device|max_length|max_steps)|tie_word", said
        )
        assert "smaller model" not in said
        assert not re.search(r"\b0 steps", said)


def test_what_the_recipe_gives_may_be_changed_and_gets_smaller():
    short = replace(HLM, median_tokens=20)
    said = {one.code: one.remedy for one in plan(short, train__max_length=256).findings}
    assert said["context-beyond-documents"].startswith("set train.max_length to about 32, or")
    said = {one.code: one.remedy for one in plan(short, train__max_length=48).findings}
    assert "set train.max_length to about 32" in said["context-beyond-documents"]
    assert "train.max_length" not in {one.code: one.remedy for one in plan(short).findings}.get(
        "context-beyond-documents", ""
    )
    said = {one.code: one.remedy for one in plan(WEB, "30s", model__preset="124m").findings}
    assert said["few-tokens-seen"].startswith("leave layers and width to the plan")
    found = plan(HLM, "3m", train__max_steps=30, train__schedule={"warmup_ratio": 0.01}).findings
    said = {one.code: one.remedy for one in found}
    share = float(re.search(r"warmup_ratio to ([\d.]+) or more", said["no-warmup"])[1])
    assert "no-warmup" not in codes(
        plan(HLM, "3m", train__max_steps=30, train__schedule={"warmup_ratio": share})
    )


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("steps", [20, 21, 37, 49, 50, 99, 240, 3000])
def test_a_plans_own_warmup_is_one(steps, kind):
    found = plan(HLM, "10h", train__max_steps=steps, train__optimizer={"kind": kind})
    assert round(found.train.schedule.warmup_ratio * steps) >= 2
    assert "no-warmup" not in codes(found)


def test_steps_that_are_asked_for_are_refused_only_where_they_cannot_be_made():
    assert "over-budget" not in codes(
        plan(HLM, "1s", train__max_steps=2, model__num_hidden_layers=1, model__hidden_size=32)
    )
    found = plan(HLM, "3m", train__max_steps=90_000)
    (over,) = [one for one in found.findings if one.code == "over-budget"]
    fewer = int(re.search(r"train\.max_steps=(\d+) at most", over.remedy)[1])
    assert "over-budget" not in codes(plan(HLM, "3m", train__max_steps=fewer))
    with pytest.raises(UserError, match="over|takes about"):
        require_sound(found.findings)


def test_time_that_is_used_up_counts():
    def over(spent):
        recipe = build(Recipe, {"data": {"sources": ["book.txt"]}, "budget": "1m"})
        found = planning.make(recipe, HLM, LAPTOP, beside=Beside(spent, 1.5))
        return found.train.max_steps, next((one for one in found.findings if one.code == "over-budget"), None)

    assert over(0)[0] > 1.5 * over(30)[0] and over(30)[1] is None
    late = over(58)[1]
    assert late is not None and "2.0 s of 1 m 00 s" in late.what
    assert "preparing" in late.why and "what is prepared stays" in late.remedy


def test_errors_stop_and_say_how_to_go_on():
    with pytest.raises(UserError, match="--force"):
        require_sound(plan(HLM, train__optimizer={"kind": "adamw", "learning_rate": 2e-5}).findings)
    require_sound(plan(HLM).findings)
