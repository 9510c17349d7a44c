"""Advice about runs that are over: it names what a person can change, and what was known names the cause."""

import json
import tomllib

import pytest

from congling.core.config import build
from congling.plan.corpus_facts import CorpusFacts
from congling.plan.planning import Plan
from congling.plan.recipe import Recipe
from congling.report import record
from congling.report.advice import ANEW, given
from congling.report.explain import explain
from support.situations import HLM, SLQM, plan

LINES = {"uniform": 12.0, "unigram": 8.8, "bigram": 6.9}
SHORT = CorpusFacts(70_000, 52_000, 900, 60, 9000, 5000, 90, reference_lines=LINES)
BEFORE_TRAINING = (
    "leave layers and width to the plan",
    "free some space",
    "halve train.per_device_train_batch_size",
)


def run_of(place, planned: Plan, *, recipe: Recipe | None = None, held_out=(8.9, 8.85, 8.8, 8.79)):
    """A finished run of a plan, which learnt as little as ``held_out`` says."""
    place.mkdir(exist_ok=True)
    rows = []
    for step in range(1, 101):
        rows.append(
            {"step": step, "tokens": step * 100, "loss": 10 / step, "gradient_norm": 1.0, "lr": 1e-3 / step}
        )
        if step % 25 == 0:
            rows.append({"step": step, "validation_bits_per_character": held_out[step // 25 - 1]})
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = planned.to_json()
    content["corpus"]["reference_lines"] = LINES
    (place / "plan.json").write_text(json.dumps(content))
    if recipe is not None:
        (place / "recipe.toml").write_text(recipe.to_toml(), "utf-8")
    return record.read(place)


def asked(**tables) -> Recipe:
    return build(Recipe, {"data": {"sources": ["book.txt"]}, **tables})


@pytest.mark.parametrize(
    ("corpus", "settings", "code", "value"),
    [
        (HLM, {"train__optimizer": {"kind": "muon", "learning_rate": 2e-5}}, "fine-tuning-rate", "2e-05"),
        (HLM, {"train__optimizer": {"kind": "adamw", "learning_rate": 3e-5}}, "fine-tuning-rate", "3e-05"),
        (
            SHORT,
            {"train__max_length": 1024, "model__max_position_embeddings": 1024},
            "context-beyond-documents",
            "1024",
        ),
        (SHORT, {}, "vocabulary-too-big", "9.0 k pieces for 52.0 k tokens"),
    ],
)
def test_what_was_known_before_names_the_cause(tmp_path, corpus, settings, code, value):
    planned = plan(corpus, **settings)
    cause = next(one for one in planned.findings if one.code == code)
    found = explain(run_of(tmp_path / "run", planned))
    symptom = next(one for one in found if one.code == "at-unigram")
    assert cause.what in symptom.why and value in symptom.why and "too few updates" not in symptom.why
    assert [one.what for one in found if one.code == code] == [cause.what]


def test_a_run_without_such_findings_is_explained_by_its_symptoms(tmp_path):
    run = run_of(tmp_path / "run", plan(HLM))
    symptom = next(one for one in explain(run) if one.code == "at-unigram")
    assert "too few updates" in symptom.why


@pytest.mark.parametrize("corpus", [HLM, SHORT, SLQM])
@pytest.mark.parametrize("budget", ["30s", "15m", "300h"])
def test_nothing_is_left_to_a_plan_that_chose_it(tmp_path, corpus, budget):
    """Whatever the plan warned of its own choices, nobody is told to leave them to it afterwards."""
    planned = plan(corpus, budget)
    for recipe in (None, asked(budget=budget)):
        for one in explain(run_of(tmp_path / "run", planned, recipe=recipe, held_out=(7, 6, 6.5, 7.5))):
            assert not any(text in one.remedy for text in BEFORE_TRAINING), one
            assert "smaller model" not in one.remedy and "layers and width" not in one.remedy, one


def test_who_gave_a_value_may_change_it(tmp_path):
    sizes = {"num_hidden_layers": 12, "hidden_size": 768}
    planned = plan(HLM, "5m", model__num_hidden_layers=12, model__hidden_size=768)
    run = run_of(tmp_path / "run", planned, recipe=asked(model=sizes), held_out=(7, 6, 6.5, 7.5))
    remedies = {one.code: one.remedy for one in explain(run)}
    assert "smaller model" in remedies["overfitting"]
    assert remedies["few-tokens-seen"].startswith(f"{ANEW}: leave layers and width to the plan")


def test_given_values_are_told_by_recipe_plan_or_record(tmp_path):
    planned = plan(HLM, model__num_hidden_layers=3, train__optimizer={"kind": "adamw", "learning_rate": 1e-3})
    for recipe in (
        None,
        asked(model={"num_hidden_layers": 3}, train={"optimizer": {"kind": "adamw", "learning_rate": 1e-3}}),
    ):
        run = run_of(tmp_path / "run", planned, recipe=recipe)
        assert given(run, "model.num_hidden_layers") and given(run, "train.optimizer.learning_rate")
        assert not given(run, "model.hidden_size") and not given(
            run, "train.max_steps", "train.per_device_train_batch_size"
        )
    assert tomllib.loads(recipe.to_toml())["model"]["num_hidden_layers"] == 3


def test_what_can_only_be_done_before_training_is_left_out(tmp_path):
    stored = [
        {
            "severity": "error",
            "code": code,
            "what": f"{code} found",
            "why": "why",
            "remedy": "free some space",
        }
        for code in ("memory", "disk", "over-budget")
    ]
    run = run_of(tmp_path / "run", plan(HLM))
    content = json.loads((run.path / "plan.json").read_text())
    for rows, left in (
        (stored, 0),
        ([stored[0] | {"code": "other"}], 1),
        ([{"code": 3}, 5, stored[0] | {"why": 1}], 0),
    ):
        (run.path / "plan.json").write_text(json.dumps(content | {"findings": rows}))
        found = [one for one in explain(record.read(run.path)) if "free some" in one.remedy]
        assert len(found) == left and all(one.remedy == f"{ANEW}: free some space" for one in found)


def test_shorter_rows_are_no_advice_where_rows_are_as_short(tmp_path):
    tiny = CorpusFacts(70_000, 52_000, 2000, 14, 900, 5000, 90, reference_lines=LINES)
    planned = plan(tiny, train__max_length=32)
    found = {one.code: one for one in explain(run_of(tmp_path / "run", planned))}
    assert "context-beyond-documents" in {one.code for one in planned.findings}
    assert found["context-beyond-documents"].remedy == f"{ANEW}: train.document_mask = true"
