"""What a run says of its budget when it is over."""

import json

import pytest

from congling.report import budget, record
from congling.report.explain import explain
from support.situations import HLM, plan


def finished(path, *, step_seconds, planned=200, steps=200, stalls=(), turns=(), seconds=180.0):
    """A run whose steps took so long each; ``stalls`` are steps that took 20 seconds."""
    path.mkdir(exist_ok=True)
    made, at, timing = plan(HLM, "3m", train__max_steps=planned), 0.0, []
    content = made.to_json()
    content["cost"]["time"] |= {"held-out loss": 0.0, "samples": 0.0, "checkpoints": 0.0}
    content["cost"]["time"]["steps"] = 0.4 * planned
    (path / "plan.json").write_text(json.dumps(content))
    (path / "config.toml").write_text(
        f"[train]\nmax_steps = {planned}\n[deadline]\nseconds = {seconds}\nmost_steps = 900\nstep = 0.4\n"
    )
    metrics = []
    for step in range(1, steps + 1):
        metrics.append({"step": step, "tokens": 1000 * step, "loss": 3.0, "gradient_norm": 1.0})
        took = 20.0 if step in stalls else step_seconds
        at += took
        timing.append({"step": step, "seconds": at, "tokens_per_second": 1000 / took})
    for name, rows in (("metrics", metrics), ("timing", timing)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if turns:
        rows = [{"step": step, "steps": end, "elapsed": 0.0, "pace": 0.0} for step, end in turns]
        (path / "schedule.json").write_text(json.dumps({"turns": rows}))
    return record.read(path)


def test_a_run_as_planned_has_nothing_to_explain(tmp_path):
    found = budget.kept(finished(tmp_path, step_seconds=0.41, turns=[(100, 200)]), 176.0)
    assert found is not None and found.why == ()
    assert found.lines() == ["took 2 m 56 s of 3 m 00 s: 200 steps, as planned"]
    assert found.to_json()["steps"] == found.to_json()["planned_steps"] == 200


def test_a_slow_machine_is_named_with_what_was_done_about_it(tmp_path):
    found = budget.kept(finished(tmp_path, step_seconds=0.8, steps=110, turns=[(60, 120), (90, 110)]), 183.0)
    assert found is not None
    first, slow, turned = found.lines()
    assert first == "took 3 m 03 s of 3 m 00 s: 110 steps, planned were 200"
    assert "800 ms, 2.0 times as long as planned (400 ms): other programs used the machine" in slow
    assert "fell from step 60 on, and the end was moved 1 time" in turned


def test_what_stood_still_is_named_and_counts(tmp_path):
    run = finished(tmp_path, step_seconds=0.4, stalls=(30, 31, 80, 120, 150, 170))
    found = budget.kept(run, 200.0)
    assert found is not None and any("stood still, for 1 m 58 s in all" in reason for reason in found.why)
    (slower,) = [one for one in explain(run) if one.code == "slower-than-planned"]
    assert "stood still" in slower.why and "a step took 991 ms, planned were 400 ms" in slower.what


def test_an_early_end_is_explained(tmp_path):
    run = finished(tmp_path, step_seconds=0.1, planned=900, steps=900)
    found = budget.kept(run, 100.0)
    assert found is not None and any("overfit" in reason for reason in found.why)


@pytest.mark.parametrize("missing", ["plan.json", "timing.jsonl", "config.toml"])
def test_without_records_nothing_is_claimed(tmp_path, missing):
    finished(tmp_path, step_seconds=0.8)
    (tmp_path / missing).unlink()
    run = record.read(tmp_path)
    assert not [one for one in explain(run) if one.code == "slower-than-planned"] or missing == "config.toml"
    found = budget.kept(run, 180.0)
    assert (found is None) == (missing == "config.toml")
