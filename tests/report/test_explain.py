"""Finished runs: each symptom is recognised, and a healthy run is praised."""

import json

import pytest

from congling.core.errors import UserError
from congling.report import record
from congling.report.explain import explain

LINES = {"uniform": 12.0, "unigram": 8.8, "bigram": 6.9}


def run(
    tmp_path,
    *,
    held_out,
    loss=lambda step: 10 / step,
    rate=lambda step: 1 - step / 101,
    skipped=(),
    samples=(),
    lines=LINES,
):
    metrics = []
    for step in range(1, 101):
        row = {
            "step": step,
            "tokens": step * 100,
            "loss": loss(step),
            "gradient_norm": 1.0,
            "rate": rate(step),
        }
        metrics.append(
            row if step not in skipped else row | {"loss": None, "gradient_norm": None, "skipped": True}
        )
        if step % 20 == 0:
            metrics.append(
                {
                    "step": step,
                    "validation_loss": 1.0,
                    "validation_bits_per_character": held_out[step // 20 - 1],
                }
            )
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    (tmp_path / "samples.jsonl").write_text(
        "".join(json.dumps({"step": 100, "prompt": "", "text": text}) + "\n" for text in samples)
    )
    (tmp_path / "plan.json").write_text(json.dumps({"corpus": {"reference_lines": lines}}))
    return {finding.code: finding.severity for finding in explain(record.read(tmp_path))}


def test_a_healthy_run(tmp_path):
    assert run(tmp_path, held_out=[7, 6.5, 6.3, 6.21, 6.2], samples=["众人都笑道：这是谁说的？"]) == {
        "below-bigram": "note"
    }


def blown_up(step):
    """Five steps with a rate a thousand times too high, from step 60 on."""
    return 10 / step + 1 if step <= 60 else 3629 / (step - 60)


def test_a_run_that_diverged_is_told_so_and_not_to_train_longer(tmp_path):
    found = run(tmp_path, held_out=[8, 7.5, 7.2, 60, 40], loss=blown_up)
    assert found["diverged"] == "error"
    findings = {one.code: one for one in explain(record.read(tmp_path))}
    assert next(iter(findings)) == "diverged" and "3629" in findings["diverged"].what
    assert not any("longer" in one.remedy and "warm" not in one.remedy for one in findings.values())
    assert "longer budget" not in " ".join(one.remedy for one in findings.values())
    assert "train.on_spike=rollback" in findings["diverged"].remedy


def test_a_spike_that_is_over_and_going_back_are_told(tmp_path):
    found = run(
        tmp_path,
        held_out=[7, 6.5, 6.3, 6.21, 6.2],
        loss=lambda step: 50.0 if 60 < step < 64 else 2 + 8 / step,
    )
    assert found["loss-spike"] == "warning" and "diverged" not in found
    (tmp_path / "events.jsonl").write_text('{"event": "rolled back", "step": 64, "to": 55}\n')
    told = {one.code: one.what for one in explain(record.read(tmp_path))}
    assert "1 time" in told["rolled-back"] and "64 to 55" in told["rolled-back"]


def test_a_run_that_learnt_nothing(tmp_path):
    assert run(tmp_path, held_out=[9, 8.85, 8.8, 8.79, 8.79])["at-unigram"] == "error"


def test_a_run_that_ended_early(tmp_path):
    found = run(tmp_path, held_out=[9, 8.5, 8, 7.5, 7.1], rate=lambda step: 1.0)
    assert {"above-bigram", "rate-not-lowered"} <= found.keys()
    assert "still-falling" in run(tmp_path, held_out=[9, 8.5, 8, 7.5, 7.1])


def test_overfitting(tmp_path):
    assert run(tmp_path, held_out=[7, 6, 6.2, 6.5, 7])["overfitting"] == "warning"
    assert "overfitting" not in run(tmp_path, held_out=[7, 6, 6.2, 6.5, 7], loss=lambda step: 5 + step)


def test_steps_that_were_skipped(tmp_path):
    assert run(tmp_path, held_out=[7, 6.5, 6.3, 6.2, 6.2], skipped=(5, 6))["skipped-steps"] == "error"


def test_samples_that_repeat(tmp_path):
    assert (
        run(tmp_path, held_out=[7, 6.5, 6.3, 6.2, 6.2], samples=["却说" + "“" * 30])["repeating-samples"]
        == "warning"
    )


def test_what_was_warned_of_while_training_is_not_forgotten(tmp_path):
    rows = [
        {"event": "started", "step": 0},
        {"event": "warning", "step": 40, "code": "kl-explosion", "what": "2.10 nats per token away"},
        {"event": "warning", "step": 60, "code": "repeating-samples", "what": "1 of 3"},
        {"event": "warning", "code": "damaged"},
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = run(tmp_path, held_out=[7, 6.5, 6.3, 6.2, 6.2], samples=["却说" + "“" * 30])
    assert found["warned-earlier"] == "note" and found["repeating-samples"] == "warning"
    told = [one.what for one in explain(record.read(tmp_path)) if one.code == "warned-earlier"]
    assert told == ["warned at step 40 of kl-explosion: 2.10 nats per token away"]


def test_below_the_floor_is_a_leak(tmp_path):
    assert (
        run(tmp_path, held_out=[3, 2, 1.5, 1.2, 1.1], lines=LINES | {"floor": 1.6})["below-floor"] == "error"
    )


def test_damaged_logs_are_read_as_far_as_they_go(tmp_path):
    with pytest.raises(UserError):
        record.read(tmp_path)
    good = {"step": 1, "tokens": 10, "loss": 2.0}
    lines = [
        json.dumps(good),
        "[[[",
        '{"step": "x"}',
        '{"step": 2, "tokens": 1e999, "loss": 1}',
        "[" * 100_000,
        '{"step": 3, "tok',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    (tmp_path / "plan.json").write_text("[1, 2")
    found = record.read(tmp_path)
    assert [row.step for row in found.steps] == [1]
    assert explain(found) == []


def test_seconds_go_on_after_an_interruption(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "tokens": 10, "loss": 2.0}) + "\n")
    timing = [(2, 5.0), (4, 10.0), (6, 15.0), (5, 3.0), (6, 5.0), (8, 10.0)]  # stopped, gone on after step 4
    rows = [json.dumps({"step": step, "seconds": seconds}) for step, seconds in timing]
    (tmp_path / "timing.jsonl").write_text("\n".join(rows) + "\n")
    assert record.read(tmp_path).seconds_at() == {2: 5.0, 4: 10.0, 5: 18.0, 6: 20.0, 8: 25.0}


def test_results_are_merged(tmp_path):
    record.add_result(tmp_path, "a", 1)
    record.add_result(tmp_path, "b", {"c": 2})
    assert json.loads((tmp_path / "results.json").read_text()) == {"a": 1, "b": {"c": 2}}


def test_a_text_learnt_by_heart(tmp_path):
    metrics = [{"step": s, "tokens": s, "loss": 9 / s, "bits_per_character": 9 / s} for s in range(1, 51)]
    looks = [{"step": s, "validation_bits_per_character": 11 + s / 10} for s in (10, 30, 50)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics + looks))
    (tmp_path / "plan.json").write_text(json.dumps({"corpus": {"reference_lines": LINES}}))
    (tmp_path / "config.toml").write_text("[train]\nload_best_model_at_end = false\n")
    found = {finding.code: finding for finding in explain(record.read(tmp_path))}
    assert found["memorised"].severity == "warning" and "at-unigram" not in found
    assert "the last weights are the result" in found["overfitting"].remedy


def test_old_logs_with_the_share_of_the_peak_are_read_as_learning_rates(tmp_path):
    row = {"tokens": 9, "loss": 3.0}
    rows = [row | {"step": 1, "rate": 0.5}, row | {"step": 2, "lr": 0.001}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "config.toml").write_text("[train.optimizer]\nrate = 0.004\n")
    assert [row.lr for row in record.read(tmp_path).steps] == [0.002, 0.001]


def advice(place, code="still-falling"):
    return next(finding.remedy for finding in explain(record.read(place)) if finding.code == code)


def test_train_longer_is_a_command_where_there_is_one(tmp_path):
    place = tmp_path / "my book" / "run"
    place.mkdir(parents=True)
    falling = [9, 8.5, 8, 7.5, 7.1]
    run(place, held_out=falling)
    assert advice(place) == "train longer: in a new run (--fresh) with a longer --budget"  # of an older run
    (place / "BEFORE_DECAY").write_text("step-00000050\n")
    assert advice(place) == "train longer: the command that trained it, with --longer 100steps"
    (tmp_path / "my book" / "documents").mkdir()
    (place / "timing.jsonl").write_text('{"step": 100, "seconds": 905.0}\n')
    assert advice(place) == f"train longer: congling train --out '{tmp_path / 'my book'}' --longer 15m"
    assert advice(place, "above-bigram").startswith(advice(place) + "; or in a new run (--fresh)")
    (place / "config.toml").write_text('[train.schedule]\nkind = "cosine"\n')
    assert "--longer" not in advice(place)


def test_advice_that_a_finished_run_cannot_take_is_for_a_new_one(tmp_path):
    run(tmp_path, held_out=[9, 8.85, 8.8, 8.79, 8.79], skipped=(5, 6), rate=lambda step: 1.0)
    for code in ("at-unigram", "skipped-steps"):
        assert "in a new run (--fresh)" in advice(tmp_path, code)
