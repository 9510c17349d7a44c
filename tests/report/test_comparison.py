"""Comparisons: which numbers may stand side by side, and pages that hold all of them and nothing else."""

import json
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from congling.core import artifact
from congling.core.errors import UserError
from congling.report import comparison_pages
from congling.report.charts import Series, line_chart
from congling.report.comparison import RowScores, compare, same_text, same_tokenizer
from congling.report.record import add_result
from congling.report.sides import summaries
from support.synthetic import PASSAGE, make_run, rows_to

EVIL = '<script>alert(1)</script><img src="http://evil.example/x.png">`|*_[a](http://evil.example)'


def checkpoint(run, *, step, tokenizer="aa", shards="s1", command=("congling", "pretrain")):
    """What a comparison reads of a run's best checkpoint."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    manifest = {
        "kind": "checkpoint",
        "format_version": 1,
        "command": list(command),
        "facts": {"step": step},
        "parents": {"shards": shards},
        "files": {"tokenizer/tokenizer.json": tokenizer, "model.safetensors": run.name},
    }
    for name in manifest["files"]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    (run / "BEST").write_text(folder.name + "\n")
    return run


def score(run, key, hits, **more):
    items = {str(i): float(hit) for i, hit in enumerate(hits)}
    value = sum(items.values()) / len(items)
    table = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": len(items), "items": items}
    add_result(run, key, table | more)


@pytest.fixture
def pair(tmp_path):
    first = checkpoint(make_run(tmp_path / "甲", steps=100), step=50)
    second = checkpoint(make_run(tmp_path / "sft", steps=200), step=160, command=("congling", "sft"))
    score(first, "accuracy", [0, 1] * 20)
    score(second, "accuracy", [1, 1, 0, 1] * 10)
    return [first, second]


def table(found, title):
    return next(one for one in found.tables if one.title.startswith(title))


def test_what_is_read_of_a_run(pair):
    one, other = summaries(pair)
    assert (one.name, other.name) == ("甲", "sft")
    assert (one.step, other.step, other.made_by) == (50, 160, "sft")
    assert one.bits == 6.17 and one.nats == 4.95 and one.scores["accuracy"].n == 40
    assert (
        one.parameters == one.run.plan["cost"]["total_parameters"] and one.tokens == one.run.steps[-1].tokens
    )


def test_the_loss_of_pairs_is_no_nats_a_token_and_pairs_are_no_tokens(tmp_path):
    run = checkpoint(make_run(tmp_path / "dpo", steps=100), step=50, command=("congling", "dpo"))
    (run / "results.json").unlink(missing_ok=True)
    row = {"step": 50, "tokens": 400, "validation_loss": 0.5, "validation_margin": 2.0}
    (run / "metrics.jsonl").write_text(
        json.dumps({"step": 50, "tokens": 400, "loss": 0.4}) + "\n" + json.dumps(row)
    )
    (one,) = summaries([run])
    assert (one.nats, one.bits, one.tokens) == (None, None, None)
    assert one.scores["held-out loss"].value == 0.5 and one.scores["held-out margin"].value == 2.0


def test_without_a_full_score_the_look_at_the_step_that_is_handed_on_counts(pair):
    (pair[0] / "results.json").unlink()
    one, _ = summaries(pair)
    look = next(row for row in one.run.held_out if row.step == 50)
    assert one.bits == look.bits_per_character and one.nats == look.values["loss"]


def test_nats_stand_side_by_side_only_for_one_tokenizer(pair, tmp_path):
    found = summaries(pair)
    assert same_tokenizer(found) and "held-out nats/token" in compare(found).tables[0].head
    third = checkpoint(make_run(tmp_path / "other", steps=40), step=40, tokenizer="bb", shards="s2")
    mixed = compare(summaries([pair[0], third]))
    assert "held-out nats/token" not in mixed.tables[0].head
    assert "only bits per character compare" in mixed.tables[0].note


def test_losses_of_different_texts_are_not_subtracted(pair, tmp_path):
    other = checkpoint(make_run(tmp_path / "other", steps=40), step=40, shards="s2")
    plan = json.loads((other / "plan.json").read_text())
    plan["corpus"]["reference_lines"] = {"unigram": 7.0}
    (other / "plan.json").write_text(json.dumps(plan))
    add_result(other, "held_out", {"bits_per_character": 5.0, "characters": 7, "bytes": 21})
    found = summaries([pair[0], other])
    assert not same_text(*found)
    told = compare(found)
    assert "do not compare" in told.tables[0].note
    assert not any(row[0] == "held-out bits/char" for row in table(told, "Differences").rows)
    same = compare(summaries(pair))
    assert ("held-out bits/char", "sft", "+0.000", "–", "no interval") in table(same, "Differences").rows


def test_scores_with_intervals_and_paired_differences(pair):
    found = compare(summaries(pair))
    assert ("accuracy (n 40)", "0.500 [0.400–0.600]", "0.750 [0.650–0.850]") in table(found, "Scores").rows
    _, run, value, interval, how = next(
        row for row in table(found, "Differences").rows if row[0] == "accuracy"
    )
    assert (run, value.split()[0], how) == ("sft", "+0.250", "paired, 40 items")
    low, high = map(float, interval.split(" … "))
    assert low < 0.25 < high
    score(pair[1], "accuracy", [1, 1, 0, 1] * 9)
    assert "unpaired" in {row[4] for row in table(compare(summaries(pair)), "Differences").rows}


def test_rows_scored_by_every_run(pair):
    nats = {"甲": [math.log(2) * 12, math.log(2) * 20], "sft": [math.log(2) * 6, math.log(2) * 10]}
    rows = RowScores(nats, [6, 10], left_out=1)
    assert rows.bits("甲") == pytest.approx(2.0)
    found = compare(summaries(pair), rows=rows)
    assert found.tables[0].rows[1][-1] == "1.000" and "counted for none: 1." in found.tables[0].note
    row = next(row for row in table(found, "Differences").rows if row[0] == "bits/char of the rows")
    assert row[2:] == ("-1.000 *", "-1.000 … -1.000", "paired, 2 items")


def test_metrics_of_any_method_become_curves(pair):
    rows = [{"step": i, "reward": i / 10, "kl": 0.01, "validation_score": 0.5} for i in range(1, 9)]
    rows_to(pair[1] / "metrics.jsonl", rows)
    titles = {chart.title: chart.svg for chart in compare(summaries(pair)).charts}
    assert {"Held-out loss", "Training loss", "Reward", "KL", "Held-out score"} <= titles.keys()
    assert titles["Reward"].count("<polyline") == 1 and "var(--c2)" in titles["Reward"]


def test_samples_stand_beside_each_other(pair, tmp_path):
    third = make_run(tmp_path / "other", steps=40, prompt="且说")
    prompts = dict(compare(summaries([*pair, third])).samples)
    assert list(prompts) == ["却说宝玉", "且说"]
    assert [name for name, text in prompts["却说宝玉"] if text] == ["甲", "sft"]
    assert prompts["且说"][:2] == (("甲", None), ("sft", None))


def test_runs_of_one_name_are_told_apart(tmp_path):
    paths = [make_run(tmp_path / part / "run", steps=20) for part in ("a", "b")]
    paths.append(make_run(tmp_path / "x" / "b", steps=20))
    assert [one.name for one in summaries(paths)] == [f"{tmp_path.name}/a", f"{tmp_path.name}/b", "x/b"]


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        summaries([tmp_path / "none"])


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_pages_are_whole_and_hostile_text_stays_text(pair, tmp_path):
    rows_to(pair[0] / "samples.jsonl", [{"step": 1, "prompt": EVIL, "text": EVIL}])
    score(pair[0], "evil", [1, 0], name=EVIL)
    page = comparison_pages.write(compare(summaries(pair)), tmp_path / "out dir" / "compare.html")
    parser, text = Tags(), page.read_text(encoding="utf-8")
    parser.feed(text)
    for tag, attributes in parser.seen:
        assert tag not in ("script", "link", "iframe", "object", "img")
        assert not {"src", "href"} & attributes.keys()
    assert "url(" not in text and PASSAGE[4:20] in text and "not recorded" not in text
    markdown = page.with_suffix(".md").read_text(encoding="utf-8")
    assert "not recorded" not in markdown
    pictures = re.findall(r"!\[[^]]*\]\((compare-charts/[^)]+)\)", markdown)
    assert 2 * len(pictures) == sum(tag == "svg" for tag, _ in parser.seen) >= 6  # each wide and narrow
    for name in pictures:
        ElementTree.parse(page.parent / name)
    assert {one.name for one in page.parent.iterdir()} == {"compare.html", "compare.md", "compare-charts"}
    lines = markdown.splitlines()
    rules = [i for i, line in enumerate(lines) if line.startswith("| ---")]
    assert len(rules) >= 3 and all(lines[i - 1].count("|") == lines[i].count("|") for i in rules)
    bare = re.sub(r"^(`{3,})\n.*?^\1$", "", markdown, flags=re.M | re.S)
    assert "<script>" not in bare and not re.search(r"(?<!\\)\]\(http", bare)


def test_a_legend_breaks_into_lines_and_keeps_colours():
    names = ["a" * 60, "没有点", "b" * 30, "c"]
    series = [Series(name, [] if name == "没有点" else [(0, 1.0), (1, 2.0)]) for name in names]
    svg = line_chart(series, x_label="x", y_label="y", size=(480, 270))
    drawn = ElementTree.fromstring(svg)
    assert "没有点" not in svg and "a" * 39 + "…" in svg
    assert float(drawn.attrib["viewBox"].split()[3]) == 270 + 2 * 18
    assert "var(--c3)" in svg and "var(--c2)" not in svg


def adapter_run(path, base, *, step=50, tokenizer="aa", config="[adapter]\nr = 4\n", values=1234):
    """A run of sft that trained an adapter on the checkpoint of another run."""
    import numpy as np
    from safetensors.numpy import save_file

    run = make_run(path, steps=60)
    (run / "plan.json").unlink()
    (run / "config.toml").write_text(
        "[data]\nsources = ['rows.jsonl']\n[train]\nper_device_train_batch_size = 4\n" + config, "utf-8"
    )
    found = (base / "BEST").read_text().strip()
    described = artifact.opened(base / "checkpoints" / found, "checkpoint")
    folder = run / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    manifest = {
        "kind": "checkpoint",
        "format_version": 1,
        "command": ["congling", "sft"],
        "facts": {"step": step},
        "parents": {"base": described.fingerprint, "data": "d"},
        "files": {"adapter.json": "x"},
    }
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    model = json.loads((base / "plan.json").read_text())["model"]
    facts = {
        "base_path": str(base),
        "scales": {"a": 1.0},
        "base": {"fingerprint": described.fingerprint, "model": model},
    }
    (folder / "adapter.json").write_text(json.dumps(facts))
    save_file({"a.a": np.zeros((values // 2, 2), np.float32)}, folder / "adapter.safetensors")
    (run / "BEST").write_text(folder.name + "\n")
    return run


def test_an_adapter_has_the_tokenizer_of_its_base(pair, tmp_path):
    child = checkpoint(make_run(tmp_path / "child", steps=40), step=40)
    light = adapter_run(tmp_path / "light", pair[0])
    assert same_tokenizer(summaries([light, child, pair[0]]))
    assert "tokenizers differ" not in compare(summaries([light, child])).tables[0].note
    other = checkpoint(make_run(tmp_path / "other", steps=40), step=40, tokenizer="bb")
    assert not same_tokenizer(summaries([light, other]))
    moved = json.loads((light / "checkpoints/step-00000050/adapter.json").read_text()) | {
        "base_path": "/gone"
    }
    (light / "checkpoints/step-00000050/adapter.json").write_text(json.dumps(moved))
    assert same_tokenizer(summaries([light, pair[0]])), "the base stands beside it, wherever it was"
    assert not same_tokenizer(summaries([light, child])), "nobody tells what the base was"
    manifest = child / "checkpoints/step-00000040/MANIFEST.json"
    content = json.loads(manifest.read_text())
    content["parents"]["base"] = artifact.opened(
        pair[0] / "checkpoints/step-00000050", "checkpoint"
    ).fingerprint
    manifest.write_text(json.dumps(content))
    assert same_tokenizer(summaries([light, child])), "both were made from it"
    again = adapter_run(tmp_path / "again", pair[0])
    assert same_tokenizer(summaries([light, again])), "the same base, as the other adapter tells where it is"


def test_a_chat_template_changes_no_token(pair):
    manifest = pair[1] / "checkpoints/step-00000160/MANIFEST.json"
    content = json.loads(manifest.read_text())
    content["files"] |= {"tokenizer/congling.json": "other", "tokenizer/report.json": "other"}
    manifest.write_text(json.dumps(content))
    assert same_tokenizer(summaries(pair))


def test_an_adapter_shows_what_was_trained_beside_its_base(pair, tmp_path):
    found = compare(summaries([pair[0], adapter_run(tmp_path / "light", pair[0])])).tables[0]
    columns = [found.head.index(name) for name in ("parameters", "trained")]
    whole, light = ([row[column] for column in columns] for row in found.rows)
    assert whole[0] == whole[1] == light[0] and light[1] == "1.2 k"


def test_settings_that_differ_stand_beside_each_other_and_no_others(pair):
    for run, own in zip(
        pair,
        ("per_device_train_batch_size = 16", "per_device_train_batch_size = 8\nema_decay = 0.9"),
        strict=True,
    ):
        text = f"seed = 0\n[train]\n{own}\n[train.optimizer]\nlearning_rate = 0.02\n"
        (run / "config.toml").write_text(text, "utf-8")
    found = table(compare(summaries(pair)), "Settings that differ")
    assert ("train.per_device_train_batch_size", "16", "8") in found.rows and (
        "train.ema_decay",
        "–",
        "0.9",
    ) in found.rows
    assert not {"seed", "train.optimizer.learning_rate"} & {row[0] for row in found.rows}
    assert found.head == ("setting", "甲", "sft")


PREFERENCE = (
    "[data]\nsources = ['pairs.jsonl']\n[train]\nper_device_train_batch_size = 4\n"
    "[preference]\nloss_type = '{}'\n"
)


def method_run(path, config, **columns):
    path.mkdir()
    rows = [
        {"step": i, "tokens": 4 * i, **{name: value / i for name, value in columns.items()}}
        for i in range(1, 9)
    ]
    rows.append({"step": 8, "tokens": 32, **{f"validation_{name}": value for name, value in columns.items()}})
    rows_to(path / "metrics.jsonl", rows)
    (path / "config.toml").write_text(config, "utf-8")
    return path


def test_one_picture_shows_one_kind_of_loss(pair, tmp_path):
    plain, preferred = PREFERENCE.partition("[pref")[0], {"margin": 1.0, "accuracy": 0.9}
    made = {
        "sft1": (plain, {"loss": 2.0, "bits_per_character": 3.0}),
        "dpo1": (PREFERENCE.format("dpo"), preferred | {"loss": 0.6}),
        "dpo2": (PREFERENCE.format("dpo"), preferred | {"loss": 0.5}),
        "simpo": (PREFERENCE.format("simpo"), preferred | {"loss": 1.6}),
        "judge": (plain + "[reward]\ncenter_rewards_coefficient = 0\n", preferred | {"loss": 0.4}),
    }
    runs = [method_run(tmp_path / name, config, **columns) for name, (config, columns) in made.items()]
    found = list(compare(summaries([pair[0], *runs])).charts)
    names = ("甲", *made)
    drawn = [(chart.title, {name for name in names if f">{name}<" in chart.svg}) for chart in found]
    kinds = {
        "甲": "text",
        "sft1": "answers",
        "dpo1": "dpo",
        "dpo2": "dpo",
        "simpo": "simpo",
        "judge": "judge",
    }
    losses = [(title, {kinds[name] for name in names}) for title, names in drawn if "loss" in title.lower()]
    assert len(losses) >= 8 and all(len(names) == 1 for _, names in losses), losses
    assert any(names == {"dpo1", "dpo2"} for _, names in drawn), "equal losses stand together"
    assert len({chart.file for chart in found}) == len(found)
    margins = [names for title, names in drawn if title.startswith("Margin")]
    assert {"dpo1", "dpo2"} in margins and {"judge"} in margins


def test_rewards_of_other_judges_are_other_numbers(tmp_path):
    table = "[data]\nsources = ['p']\n[train]\nper_device_train_batch_size = 1\n[rollout]\n[grpo]\n"
    runs = [
        method_run(tmp_path / name, f"rewards = ['{judge}']\n{table}", reward=0.5, length=9.0, kl=0.1)
        for name, judge in (("a", "exact"), ("b", "exact"), ("c", "rules.py:short"))
    ]
    drawn = {chart.title: chart.svg for chart in compare(summaries(runs)).charts}
    assert drawn["Length of answers"].count("<polyline") == 3 and drawn["KL"].count("<polyline") == 3
    rewards = sorted(svg.count("<polyline") for title, svg in drawn.items() if title.startswith("Reward"))
    assert rewards == [1, 2]
