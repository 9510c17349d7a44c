"""The report of every method: its own numbers in its own units, and nothing that a person cannot read."""

import html
import json
import re
import shlex
from pathlib import Path

import pytest
import typer

from congling.cli import application
from congling.model.counts import parameters
from congling.model.families import FAMILIES
from congling.plan.tuning_plan import TuningFacts
from congling.plan.tuning_record import TuningPlan
from congling.report import pages, record
from congling.report.content import content
from congling.report.explain import explain
from congling.train.config import TrainConfig
from support.synthetic import make_run, rows_to

MODEL = FAMILIES["qwen3"](vocab_size=500, max_position_embeddings=96, num_hidden_layers=2, hidden_size=64)
UNREADABLE = re.compile(
    r"\bnan\b|\bNone\b|\binf\b|\bnull\b|\bTrue\b|\bFalse\b|<class|object at 0x|\{\}|Measure\(|→ \.|\(\)"
    r"|\b(0(\.0+)?|1) [a-z]+s(/s| a second)|\d{3,} %|\d\.\d{7,}"
)
"""Values that escaped a program, speeds of nothing, shares beyond all, sentences without an end."""
PRIVATE = re.compile(r"\b(look|looks|yardstick|tune's|judge's|task of|verb|in the singular)\b")
"""Words of the source that say nothing to who reads a page."""
TABLES = {
    "sft": "",
    "dpo": "[preference]\nloss_type = 'dpo'\nbeta = 0.1\n",
    "kto": "[preference]\nloss_type = 'kto'\n",
    "reward": "[reward]\ncenter_rewards_coefficient = 0.01\n",
    "grpo": "[rollout]\nnum_generations = 8\n[grpo]\nbeta = 0.1\n",
    "ppo": "[rollout]\nnum_generations = 1\n[ppo]\nvf_coef = 0.5\n",
}
MEASURED = {
    "sft": {"loss": 2.5, "loss_per_answer": 2.4, "bits_per_character": 3.1},
    "dpo": {"loss": 0.6, "margin": 1.2, "accuracy": 0.75, "chosen": -0.5, "rejected": -3.0},
    "kto": {"loss": 0.4, "accuracy": 0.7, "chosen": 0.4, "rejected": -1.0, "drift": 0.02},
    "reward": {"loss": 0.5, "margin": 1.0, "accuracy": 0.8, "chosen": 0.9, "rejected": -0.1},
    "grpo": {"loss": 0.01, "reward": 0.4, "length": 14.0, "kl": 0.03, "entropy": 1.2, "ended": 0.9},
    "ppo": {"loss": 0.01, "reward": 0.4, "length": 14.0, "kl": 0.03, "value_loss": 0.2, "ended": 0.9},
}
NOUNS = {"sft": "tokens", "dpo": "preferences", "kto": "rated answers", "reward": "preferences"}


def method_run(
    path: Path, method: str, *, adapter: bool = False, planned: bool = True, speed: float = 1.3
) -> Path:
    """A run as a method leaves it: forty steps, four held-out looks, the first before training."""
    path.mkdir(parents=True)
    base = make_run(path.parent / f"{path.name}-base", steps=20)
    verb, measured = "dpo" if method == "kto" else method, MEASURED[method]
    rewards = "rewards = ['exact']\n" if method in ("grpo", "ppo") else ""
    config = f"{rewards}[data]\nsources = ['rows.jsonl']\n[train]\n"
    config += f"per_device_train_batch_size = 4\nmax_steps = 40\n{TABLES[method]}"
    (path / "config.toml").write_text(config + ("[adapter]\nr = 4\n" if adapter else ""), "utf-8")
    held_out = {name: value for name, value in measured.items() if name in ("reward", "ended") or not rewards}
    rows = [{"step": 0, "tokens": 0} | {f"validation_{name}": value for name, value in held_out.items()}]
    for step in range(1, 41):
        change = 1 + step / 40
        rows.append(
            {"step": step, "tokens": 4 * step, "lr": 1e-4, "gradient_norm": 1.0}
            | {name: value * change for name, value in measured.items()}
        )
        if step % 10 == 0:
            factor = {name: 1 / change if "loss" in name or "bits" in name else change for name in held_out}
            better = {name: value * factor[name] for name, value in held_out.items()}
            capped = {name: min(better[name], 1.0) for name in ("accuracy", "ended") if name in better}
            look = {f"validation_{name}": value for name, value in (better | capped).items()}
            rows.append({"step": step, "tokens": 4 * step} | look)
    rows_to(path / "metrics.jsonl", rows)
    timing = [{"step": step, "seconds": step * 3.0, "tokens_per_second": speed} for step in range(2, 41)]
    rows_to(path / "timing.jsonl", timing)
    rows_to(
        path / "samples.jsonl",
        [{"step": 40, "prompt": "三加四等于几？\n", "text": "七。", "ended": True, "reward": 1.0}],
    )
    if planned:
        facts = TuningFacts(MODEL, 10**6, False, 60, 900, 400, 30, 6, {"chosen equals rejected": 2})
        train = TrainConfig(max_steps=40, max_length=96, per_device_train_batch_size=4)
        learnt = 4096 if adapter else parameters(MODEL)
        noun = NOUNS.get(method, "prompts").removesuffix("s")
        plan = TuningPlan(
            verb,
            {"path": str(base)},
            facts,
            noun,
            (60, 6),
            train,
            ["train.max_steps", "data.sources"],
            [],
            parameters(MODEL),
            learnt,
        )
        (path / "plan.json").write_text(plan.to_text(), "utf-8")
    if adapter:
        (path / "adapter").mkdir()
        (path / "adapter/adapter.json").write_text(json.dumps({"base_path": str(base)}))
    return path


def read_page(run: Path) -> str:
    """What a person reads of the report, without style and pictures' coordinates."""
    text = pages.write(record.read(run), run / "report").read_text("utf-8")
    text = re.sub(
        r"<style>.*?</style>|<(?!/?(p|b|td|th|h\d|span|code|dt|dd|text)\b)[^>]*>", " ", text, flags=re.S
    )
    return html.unescape(re.sub(r"<[^>]*>", "\n", text))


def parsed(command: str) -> str:
    """The verb of a command whose every word the program takes."""
    words = shlex.split(command)
    assert words[0] == "congling"
    group = typer.main.get_command(application(None))
    context = group.make_context("congling", words[1:])
    _, verb, rest = group.resolve_command(context, words[1:])  # pyright: ignore[reportAttributeAccessIssue]
    assert verb is not None
    verb.make_context(words[1], list(rest), parent=context)
    return words[1]


@pytest.fixture(scope="module", params=[*TABLES, "pretrain"])
def finished(request, tmp_path_factory) -> tuple[str, Path]:
    place = tmp_path_factory.mktemp("runs") / "a run"
    method = request.param
    return method, make_run(place) if method == "pretrain" else method_run(place, method)


def test_a_page_can_be_read(finished):
    method, run = finished
    page = read_page(run)
    found = [UNREADABLE.search(line) for line in page.splitlines()]
    assert not [one[0] for one in found if one], method
    assert not PRIVATE.findall(page)
    assert "nothing recorded" not in page


def test_every_method_has_its_own_curves_and_numbers(finished):
    method, run = finished
    if method == "pretrain":
        return
    found = content(record.read(run))
    titles = " ".join(chart.title.lower() for chart in found.charts)
    words = {
        "chosen": "chosen and rejected",
        "value_loss": "value head",
        "bits_per_character": "loss",
        "ended": "end by themselves",
    }
    for name in MEASURED[method]:
        assert (
            words.get(name, name.replace("_", " ")).replace("loss per answer", "loss by answer").split()[0]
            in titles
        )
    tables = {table.title: table for table in found.tables}
    assert {"On held-out rows", "Data", "Settings", "Model"} <= tables.keys()
    assert ("chosen equals rejected (left out or mended)", "2") in tables["Data"].rows
    assert ("train.max_steps", "40", "recipe") in tables["Settings"].rows
    assert ("train.per_device_train_batch_size", "4", "plan") in tables["Settings"].rows
    assert found.samples and "prompt and answer together" in found.note and "96 tokens" in found.note
    before = next(row for row in tables["On held-out rows"].rows)
    assert before[2] and before[3] and before[2] != before[3]


def test_what_is_counted_is_called_by_its_name(finished):
    method, run = finished
    page = read_page(run)
    if method in NOUNS:
        assert re.search(rf"\b160\s+{NOUNS[method]} trained on", page)
        assert f"{NOUNS[method]} a second" in page and f"{NOUNS[method]} per second" in page
    if method not in ("sft", "pretrain"):
        assert not re.search(r"(?<!answer )tokens (seen|a second|per second|trained on)", page)


@pytest.mark.parametrize("speed", [0.04, 0.6, 1.0, 1.4])
def test_a_slow_method_has_no_speed_of_nothing(tmp_path, speed):
    run = method_run(tmp_path / "dpo", "dpo", speed=speed)
    page = read_page(run)
    assert not UNREADABLE.search(page)
    assert ("for each preference" in page) == (speed < 1)


@pytest.mark.parametrize("method", [*TABLES, "pretrain"])
@pytest.mark.parametrize("adapter", [False, True])
def test_four_commands_can_be_typed_as_they_stand(tmp_path, method, adapter):
    place = tmp_path / "runs of mine" / "out"
    run = make_run(place) if method == "pretrain" else method_run(place, method, adapter=adapter)
    steps = content(record.read(run)).steps
    assert len(steps) == 4
    for step in steps:
        parsed(step.command)
        named = [word for word in shlex.split(step.command) if word.startswith(str(tmp_path))]
        assert named and (Path(named[0]).exists() or "--base" in step.command)
        assert step.command in html.unescape(pages.html(content(record.read(run))))
    assert len({step.command for step in steps}) == 4


@pytest.mark.parametrize("method", TABLES)
def test_a_run_of_an_earlier_version_gets_the_same_curves(tmp_path, method):
    """Without a recorded plan the configuration tells the method, and without that the log."""
    run = method_run(tmp_path / "old", method, planned=False)
    kept = record.read(run)
    assert kept.method.verb == ("dpo" if method == "kto" else method)
    titles = [chart.title for chart in content(kept).charts]
    assert not UNREADABLE.search(read_page(run))
    if method not in ("sft", "reward"):  # their logs alone look like others
        (run / "config.toml").unlink()
        bare = record.read(run)
        assert bare.method.verb in {"kto": "dpo"}.get(method, method)
        assert len(content(bare).charts) >= len(titles) - 1


def test_what_training_gained_is_said(tmp_path):
    found = {one.code: one for one in explain(record.read(method_run(tmp_path / "good", "sft")))}
    assert found["better"].severity == "note" and "2.500 before training, 1.250" in found["better"].what
    run = method_run(tmp_path / "bad", "sft")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows_to(
        run / "metrics.jsonl",
        [row | {"validation_loss": 9.0} if row["step"] and "validation_loss" in row else row for row in rows],
    )
    assert {one.code: one.severity for one in explain(record.read(run))}["not-better"] == "warning"


EXTENDED = {"method": "yarn", "factor": 4.0, "from": 24, "to": 96}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24}


def on_extended_base(path: Path, rows: int, base: object = EXTENDED) -> Path:
    """A run on a base that read 24 tokens and was extended to 96, trained on rows of so many."""
    made = method_run(path, "sft")
    plan = json.loads((path / "plan.json").read_text("utf-8"))
    plan["model"] = MODEL.replace(positions={"rope_scaling": YARN}).model_dump(mode="json")
    plan["base"]["extended"] = base
    plan["train"]["max_length"] = rows
    (path / "plan.json").write_text(json.dumps(plan), "utf-8")
    return made


@pytest.mark.parametrize(("rows", "learnt"), [(96, "trained as far as it reads"), (48, "nothing was learnt")])
def test_a_run_on_an_extended_base_tells_both_lengths(tmp_path, rows, learnt):
    run = record.read(on_extended_base(tmp_path / "run", rows))
    (found,) = [one for one in explain(run) if one.code == "extended-context"]
    said = "96 tokens, extended from 24 (rotary, base 10000, yarn × 4 from 24 tokens, scores × 1.296)"
    assert found.what == f"the model reads {said}, trained at up to {rows} tokens since"
    assert learnt in found.why and found.severity == "note"
    page = content(run)
    assert said in page.note
    (table,) = [one for one in page.tables if one.title == "Model"]
    assert any(said in cell for row in table.rows for cell in row)


@pytest.mark.parametrize("damaged", [None, 3, {"from": "24"}, {"from": 24, "trained": "many"}])
def test_a_damaged_fact_of_the_base_is_no_reason_to_fail(tmp_path, damaged):
    run = record.read(on_extended_base(tmp_path / "run", 96, damaged))
    assert content(run).note.startswith("The model reads at most 96 tokens")


def test_a_run_on_any_other_base_says_nothing_of_it(tmp_path):
    run = record.read(method_run(tmp_path / "run", "sft"))
    assert (
        "extended-context" not in {one.code for one in explain(run)} and "extended" not in content(run).note
    )
