"""Every command that makes a model leaves a report and four commands to go on with, which can be typed."""

import json
import re
import shlex
from pathlib import Path

import pytest
import typer

from congling.cli import application
from congling.methods import comparison, reward_model, sft
from congling.methods.ending import show_end
from congling.methods.session import Tuned
from congling.report import record
from congling.report.advice import ANEW
from congling.report.next_steps import next_steps
from congling.report.sides import summaries
from congling.report.writing import write_report
from congling.stages import compare
from support.tuning_doubles import TINY, make_base, make_packed, tune

UNREADABLE = re.compile(r">\s*(nan|None|inf|null)\s*<|\b(0(\.0+)?|1) [a-z]+s(/s| a second)|nothing recorded")
FEW = (
    "train.max_steps=3",
    "train.eval_steps=1",
    "train.per_device_train_batch_size=2",
    "train.sample_steps=1",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("reports"))


def trained(base: Path, out: Path, method: str) -> Tuned:
    if method in ("dpo", "grpo", "ppo"):
        return tune(base, out, method)
    if method == "reward":
        recipe = reward_model.read_recipe([*TINY, *FEW], [str(base / "pairs.jsonl")])
        return reward_model.run(base / "base", recipe, out)
    adapter = ("adapter.r=2",) if method.endswith("adapter") else ()
    model = make_packed(base) if method == "packed adapter" else base / "base"
    return sft.run(model, sft.read_recipe([*TINY, *FEW, *adapter], [str(base / "pairs.jsonl")]), out)


def parse(command: str) -> None:
    """Parse a command as the program would."""
    words = shlex.split(command)[1:]
    group = typer.main.get_command(application(None))
    context = group.make_context("congling", list(words))
    _, verb, rest = group.resolve_command(context, list(words))  # pyright: ignore[reportAttributeAccessIssue]
    assert verb is not None
    verb.make_context(words[0], list(rest), parent=context)


@pytest.mark.parametrize(
    "method", ["sft", "sft adapter", "packed adapter", "dpo", "reward", "grpo", "ppo"]
)  # fmt: skip
def test_every_method_reports_at_its_end(base: Path, tmp_path: Path, method: str, capsys):
    done = trained(base, tmp_path / "run", method)
    assert done.report == tmp_path / "run/report/report.html"
    page = done.report.read_text("utf-8")
    assert not UNREADABLE.search(page), UNREADABLE.findall(page)
    run = record.read(done.out)
    verb = method.split()[0].replace("packed", "sft")
    assert run.method.verb == verb and run.plan["trained"] > 0 and run.plan["data"]["rows"] > 0
    assert {"train.max_steps", "data.sources"} <= set(run.plan["given"]) and "train.seed" not in run.plan[
        "given"
    ]
    steps = next_steps(run)
    assert len(steps) == 4
    show_end(done)
    said = capsys.readouterr().out
    for step in steps:
        parse(step.command)
        assert f"  {step.command}\n" in said
    assert f"the report is {done.report}" in said
    show_end(done, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["report"] == str(done.report)
    assert not run.looks or document["step"] in run.looks
    done.report.unlink()
    assert write_report(done.out) == done.report and done.report.is_file()


def test_what_was_found_before_the_run_is_in_its_explanation(base: Path, tmp_path: Path):
    from congling.report.explain import explain

    rate = [one for one in TINY if "rate" not in one] + ["train.optimizer.learning_rate=1e-7"]
    recipe = sft.read_recipe([*rate, *FEW], [str(base / "pairs.jsonl")])
    done = sft.run(base / "base", recipe, tmp_path / "run")
    found = {one.code: one for one in explain(record.read(done.out))}
    assert "1e-07" in found["tuning-rate-low"].what and found["tuning-rate-low"].remedy.startswith(ANEW)
    if "not-better" in found:
        assert "1e-07" in found["not-better"].why


def test_an_adapter_and_another_child_of_its_base_count_the_same_tokens(base: Path, tmp_path: Path):
    from congling.report.comparison import same_tokenizer

    runs = [trained(base, tmp_path / name, name) for name in ("sft", "sft adapter")]
    found = summaries([one.out for one in runs])
    assert same_tokenizer(found)
    whole, light = found
    assert whole.trained == whole.parameters == light.parameters
    assert light.trained is not None and light.parameters is not None and light.trained < light.parameters
    (runs[1].out / "plan.json").unlink()
    (before,) = summaries([runs[1].out])
    assert before.trained == light.trained, "of a run that did not record it, the adapter's file tells"


def test_runs_with_other_prompts_answer_the_same_ones(base: Path, tmp_path: Path):
    runs = [trained(base, tmp_path / name, name) for name in ("sft", "dpo", "reward")]
    for number, one in enumerate(runs[:2]):
        row = {"step": 3, "prompt": f"问{'天地'[number]}\n", "text": "旧"}
        (one.out / "samples.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    places = [one.out for one in runs]
    found = comparison.run(places, writing=comparison.Writing(tokens=3))
    assert [prompt for prompt, _ in found.samples] == ["问天", "问地"]
    for _, texts in found.samples:
        assert [name for name, text in texts if text is not None] == ["sft", "dpo"]
        assert not any(text == "旧" for _, text in texts)
    assert "reward scores texts" in found.samples_note
    (tmp_path / "page").mkdir()
    options = {"rows": None, "prompt": None, "limit": 1, "max_new_tokens": 2, "temperature": 0.0, "seed": 0}
    compare.command(places, out=tmp_path / "page/compare.html", overwrite=False, **options)
    assert {one.name for one in (tmp_path / "page").iterdir()} == {
        "compare.html",
        "compare.md",
        "compare-charts",
    }
    assert "not recorded" not in (tmp_path / "page/compare.html").read_text("utf-8")
