"""`congling train`: every recipe in small, going on after an interruption, and what changed settings say."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from congling.core import artifact
from congling.core.config import read_toml
from congling.core.errors import UserError
from congling.core.lock import only_writer
from congling.data.inspection import inspect
from congling.data.shards import open_shards
from congling.evals.loss import evaluate
from congling.infer.checkpoints import load_checkpoint
from congling.methods import evaluation, train
from congling.plan.corpus_facts import reference_lines
from congling.plan.recipe import Recipe, read
from congling.report import record
from congling.stages import explain
from congling.stages import train as stage

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted(file.stem for file in EXAMPLES.glob("*.toml") if "data" in read_toml(file))
SETTINGS = (
    "model.num_hidden_layers=1",
    "model.hidden_size=64",
    "train.max_steps=3",
    "train.max_length=32",
    "train.per_device_train_batch_size=2",
    "train.sample_tokens=4",
    "train.torch_compile=off",
)
"""Make any training a matter of seconds."""
CHARACTERS = "天地山水花鸟风月日春秋人家国云雨雪晴空来鸿去燕宿虫三尺剑六钧弓岭北江东"


NUMBERS = ("一", "二", "三", "四", "五", "六", "七", "八", "九", "十", "十一", "十二")


def sentences(count: int) -> str:
    draw = random.Random(count)
    return "".join("".join(draw.choices(CHARACTERS, k=12)) + "。\n" for _ in range(count))


TEXTS: dict[str, tuple[str, str]] = {
    "hlm": (
        "hlm_001-080.txt",
        "".join(f"第{number}回\n{sentences(8 + i)}\n" for i, number in enumerate(NUMBERS)),
    ),
    "slqm": ("slqm.txt", "\n".join(f"【{CHARACTERS[i]}】\n{sentences(5 + i)}" for i in range(12))),
    "shakespeare": (
        "tinyshakespeare.txt",
        "".join(f"ROMEO:\nWhat is word {i} to {i * 7}, my lord?\n\n" for i in range(200)),
    ),
    "dictionary": (
        "revised.jsonl",
        "".join(
            f'{{"text": "{character}\\n{sentences(i + 1).splitlines()[i]}"}}\n'
            for i, character in enumerate(CHARACTERS)
        ),
    ),
}


def recipe(name: str, folder: Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe of examples/ with a model and steps of a test, on a text of its own."""
    small = [*SETTINGS, *overrides, "tokenizer.vocab_size=400"]
    if name in TEXTS:
        file, text = TEXTS[name]
        (folder / file).write_text(text, encoding="utf-8")
        small.append(f'data.sources=["{folder / file}"]')
    else:
        small.append('data.smallworld.size="100kB"')
    return read([EXAMPLES / f"{name}.toml"], small)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_runs(name: str, tmp_path: Path) -> None:
    asked = recipe(name, tmp_path)
    made = train.run(asked, tmp_path / "out", force=True)
    assert made.prompts == asked.samples
    assert made.evaluation is not None and made.evaluation.loss.tokens > 0
    assert {"uniform", "unigram", "bigram"} <= made.evaluation.lines.keys()
    report = made.report.with_suffix(".md").read_text(encoding="utf-8")
    assert made.report.is_file() and "bits per character, held-out (test)" in report
    for kind in ("documents", "tokenizer", "shards"):
        assert artifact.exists(tmp_path / "out" / kind)
    assert (tmp_path / "out" / "run" / "LATEST").is_file()


def test_training_looks_at_validation_and_the_end_is_scored_on_test(tmp_path: Path) -> None:
    made = train.run(recipe("hlm", tmp_path), tmp_path / "out", force=True)
    shards = open_shards(tmp_path / "out" / "shards")
    assert made.evaluation is not None and made.evaluation.split == "test"
    assert made.evaluation.loss.characters == shards["test"].characters.sum()
    assert made.evaluation.lines == reference_lines(shards.summary, "test")
    run = record.read(tmp_path / "out" / "run")
    assert run.results["held_out"]["split"] == run.scored == "test"
    assert run.scored_lines == made.evaluation.lines != run.reference_lines
    loaded = load_checkpoint(tmp_path / "out")
    look = evaluate(loaded.model, shards["validation"], context=32, rows=2, overlap=0)
    assert run.held_out[-1].bits_per_character == pytest.approx(look.bits_per_character, rel=1e-3)
    other = evaluation.run(tmp_path / "out", split="validation", copying=False)
    assert other.loss.characters == shards["validation"].characters.sum()
    assert record.read(tmp_path / "out" / "run").results["held_out"]["split"] == "test"
    with pytest.raises(UserError, match="unknown split"):
        evaluation.run(tmp_path / "out", split="tests")
    # Neither another window nor a checkpoint by itself is the run's result.
    kept = run.results["held_out"]
    evaluation.run(tmp_path / "out", context=8, copying=False)
    (tmp_path / "out" / "run" / "BEST").unlink(missing_ok=True)
    latest = (tmp_path / "out" / "run" / "LATEST").read_text().strip()
    places = sorted((tmp_path / "out" / "run" / "checkpoints").iterdir())
    (other_place,) = [place for place in places if place.name != latest][:1]
    evaluation.run(other_place, copying=False)
    assert record.read(tmp_path / "out" / "run").results["held_out"] == kept


def test_a_recipe_runs_on_its_own_text(corpora: Path, tmp_path: Path) -> None:
    text = corpora / "slqm" / "slqm.txt"
    asked = read([EXAMPLES / "slqm.toml"], [*SETTINGS, f'data.sources=["{text}"]'])
    made = train.run(asked, tmp_path / "out", force=True)
    assert made.evaluation is not None and made.evaluation.loss.characters > 50


@pytest.mark.parametrize("name", ["mini.jsonl", "revised.jsonl.gz"])
def test_the_dictionary_recipe_recognises_the_fields(name: str, corpora: Path) -> None:
    texts = corpora / "moe_dict" / name
    asked = read([EXAMPLES / "dictionary.toml"], [f'data.sources=["{texts}"]'])
    found = inspect(asked.data, at_most=50_000)
    assert found.summary["splits"]["train"]["documents"] > 300
    assert not found.summary["problems"]["counts"].get("record without text")


def test_one_character_is_trained_on_without_a_held_out_part(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("云", encoding="utf-8")
    made = train.run(read([tmp_path / "book.txt"], SETTINGS), tmp_path / "out", force=True)
    assert made.evaluation is None and made.report.is_file()


def test_again_goes_straight_to_the_end_and_other_settings_are_refused(tmp_path: Path) -> None:
    first = train.run(recipe("slqm", tmp_path), tmp_path / "out", force=True)
    metrics = tmp_path / "out" / "run" / "metrics.jsonl"
    before, results = metrics.read_bytes(), (metrics.parent / "results.json").read_bytes()
    for left in (
        ".tokenizer.partial-999999999",
        ".documents.old-999999999",
        "run/.BEST.partial-999999999",
        "run/checkpoints/.step-00000001.partial-999999999",
    ):
        (tmp_path / "out" / left).mkdir()
    again = train.run(recipe("slqm", tmp_path), tmp_path / "out", force=True)
    assert list((tmp_path / "out").rglob(".*-999999999")) == []  # of processes that no longer live
    assert again.evaluation == first.evaluation and first.evaluation is not None
    assert metrics.read_bytes() == before
    assert (metrics.parent / "results.json").read_bytes() == results  # nor is the time of the run forgotten
    for key, value in (
        ("data.split.seed", "4"),
        ("tokenizer.kind", "character"),
        ("train.max_grad_norm", "0.5"),
    ):
        with pytest.raises(UserError, match=f"other settings: '[^']*{key.rpartition('.')[2]}"):
            train.run(recipe("slqm", tmp_path, [f"{key}={value}"]), tmp_path / "out", force=True)


def test_the_end_says_what_the_loss_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = recipe("slqm", tmp_path)
    (tmp_path / "small.toml").write_text(small.to_toml(), encoding="utf-8")
    stage.command([str(tmp_path / "small.toml")], tmp_path / "out", force=True)
    said = capsys.readouterr().out
    found = [finding for finding in explain.run(tmp_path / "out") if finding.severity != "note"]
    assert found and f"{found[0].severity}: {found[0].what}\n" in said
    assert f"congling explain {tmp_path / 'out'}\n" in said
    assert len(said[: said.index("reference")].splitlines()) < 60 and "`congling plan`" in said


def test_after_ctrl_c_the_same_command_goes_on(
    tmp_path: Path, program: Path, call: "Callable[..., subprocess.CompletedProcess[str]]"
) -> None:
    (tmp_path / "book.txt").write_text(TEXTS["hlm"][1], encoding="utf-8")
    steps = "train.max_steps=400"
    command = ("train", "book.txt", *SETTINGS, steps, "tokenizer.vocab_size=400", "--force", "--out", "out")
    process = subprocess.Popen(
        [str(program), *command],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=os.environ,
    )
    metrics = tmp_path / "out" / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.is_file() and metrics.read_bytes().count(b"\n") > 5):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said and "run the same command again" in said
    reached = metrics.read_bytes()
    assert reached.count(b"\n") < 400
    done = call(*command)
    assert done.returncode == 0, done.stderr
    assert metrics.read_bytes().startswith(reached)
    assert "done in" in done.stdout and "congling chat out" in done.stdout


def test_the_same_text_by_another_path_is_the_same_and_another_text_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.run(recipe("slqm", tmp_path), tmp_path / "out", force=True)
    text, asked = tmp_path / TEXTS["slqm"][0], recipe("slqm", tmp_path)
    copy = tmp_path / "elsewhere" / "the same.txt"
    copy.parent.mkdir()
    copy.write_bytes(text.read_bytes())
    monkeypatch.chdir(tmp_path)
    for source in (str(copy), text.name):
        moved = asked.replace(data={"sources": (source,)})
        assert train.run(moved, tmp_path / "out", force=True).report.is_file()
    text.write_text(text.read_text(encoding="utf-8") + sentences(3), encoding="utf-8")
    with pytest.raises(UserError, match="the text is not what it was when this run was begun"):
        train.run(asked, tmp_path / "out", force=True)
    with pytest.raises(UserError, match=r"other settings: 'sources'[^→]*→"):
        train.run(asked.replace(data={"sources": (text.name,)}), tmp_path / "out", force=True)


def test_a_finished_run_goes_on_and_is_scored_and_reported_anew(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(recipe("slqm", tmp_path).to_toml(), encoding="utf-8")
    out, words = tmp_path / "out", [str(tmp_path / "small.toml"), "train.max_steps=6"]
    stage.command(words, out, force=True)
    first = record.read(out / "run").results["held_out"]
    page = (out / "run" / "report" / "report.md").read_text(encoding="utf-8")
    stage.command([], out, longer="6steps", force=True)  # what it was begun with is in the directory
    run = record.read(out / "run")
    assert run.steps[-1].step == 12 and [row.step for row in run.steps] == list(range(1, 13))
    assert run.results["held_out"] != first and "seconds" not in run.results
    again = (out / "run" / "report" / "report.md").read_text(encoding="utf-8")
    assert ", 6 steps" in page and ", 12 steps" in again and ", 6 steps" not in again
    assert run.plan["train"]["max_steps"] == 12
    stage.command(words, out, force=True)  # the command that began it: nothing is left to do
    assert record.read(out / "run").steps[-1].step == 12


def test_another_budget_is_answered_with_the_way_to_train_longer(tmp_path: Path) -> None:
    train.run(recipe("slqm", tmp_path), tmp_path / "out", force=True)
    with pytest.raises(UserError, match=r"budget [^;]* → 120.0;.*--longer 30m"):
        train.run(recipe("slqm", tmp_path).replace(budget=120.0), tmp_path / "out", force=True)


def test_begun_anew_the_old_run_is_kept(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(recipe("slqm", tmp_path).to_toml(), encoding="utf-8")
    out = tmp_path / "out"
    stage.command([str(tmp_path / "small.toml")], out, force=True)
    before = (out / "run" / "metrics.jsonl").read_bytes()
    stage.command([str(tmp_path / "small.toml"), "train.seed=5"], out, fresh=True, force=True)
    assert (tmp_path / "out.before-1" / "run" / "metrics.jsonl").read_bytes() == before
    assert (out / "run" / "metrics.jsonl").read_bytes() != before


def test_two_starts_at_once_are_told_apart_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with only_writer(tmp_path / "out"), pytest.raises(UserError, match="another process is working in this"):
        train.run(recipe("slqm", tmp_path), tmp_path / "out", force=True)
    assert not list((tmp_path / "out").iterdir())


def test_a_harmless_key_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    train.run(recipe("slqm", tmp_path), tmp_path / "out", force=True)
    for keep in (5, 6):
        train.run(recipe("slqm", tmp_path, [f"train.save_total_limit={keep}"]), tmp_path / "out", force=True)
        for file in ("config.toml", "recipe.toml"):
            assert read_toml(tmp_path / "out" / "run" / file)["train"]["save_total_limit"] == keep
