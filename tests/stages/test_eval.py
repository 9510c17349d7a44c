"""``congling eval`` by tasks: scores with intervals, remembered beside the run."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from congling import cli
from congling.core.errors import UserError
from congling.data import corpus
from congling.data.config import DataConfig
from congling.infer.checkpoints import load_checkpoint
from congling.interop import adapters
from congling.methods import evaluation as stage
from congling.report import record
from congling.report.sides import summaries
from congling.stages import eval as eval_stage
from congling.transform import lora
from congling.transform.config import AdapterConfig
from support.tiny_checkpoint import write


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run as training leaves it, beside its documents."""
    folder = tmp_path / "run"
    write(folder / "checkpoints" / "step-00000001")
    (folder / "LATEST").write_text("step-00000001\n")
    (folder / "metrics.jsonl").write_text('{"step": 1, "tokens": 10, "loss": 3.0}\n')
    letters = "从零开始学而时习之不亦说乎云对雨雪风晚照晴空"
    lines = ["".join(letters[(i * i + i * k + k * k) % 22] for i in range(90)) for k in range(30)]
    (tmp_path / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    config = DataConfig(sources=(str(tmp_path / "lines.txt"),), documents="line", overlap=1.0)
    corpus.make(config, tmp_path / "documents")
    return folder


def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "argv", ["congling", "eval", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert not ended.value.code, shown.err
    return shown.out


def test_scores_are_shown_and_remembered_one_beside_the_other(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    text = called(monkeypatch, capsys, str(run), "--tasks", "memorisation,domains", "--limit", "5")
    assert "training/verbatim" in text and "95 % interval" in text and "[1]" in text
    called(monkeypatch, capsys, str(run), "--tasks", "repetition", "--limit", "2")
    kept = record.read(run).results[stage.SCORES]
    assert {
        "memorisation/training/verbatim",
        "domains/all/bits",
        "repetition/sampled/distinct-2",
    } <= kept.keys()
    assert kept["domains/all/bits"]["low"] <= kept["domains/all/bits"]["value"] > 0


def test_scores_as_json(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    quiz = run.parent / "quiz.jsonl"
    rows = [{"question": "云对？", "A": "雨", "B": "零", "answer": answer} for answer in ("A", "B", "C")]
    quiz.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    text = called(
        monkeypatch, capsys, str(run), "--tasks", "choice,letter", "--data", str(quiz), "--no-chat", "--json"
    )
    found = json.loads(text)
    scores = {score["name"]: score for score in found["scores"]}
    assert scores["choice/sum"]["value"] == 0.5 and scores["choice/sum"]["chance"] == 0.5
    assert scores["letter/likeliest"]["n"] == 2
    assert found["left_out"]["counts"] == {"no question": 2}  # once for each task


def test_scores_of_one_file_do_not_replace_those_of_another(run: Path):
    """CMMLU behind XCOPA left one ``choice/sum``, and ``compare`` set one beside the other."""
    files = []
    for name, groups in (("cmmlu", "ab"), ("xcopa", "c")):
        rows = [
            {"question": f"{i}云对？", "A": "雨", "B": "零", "answer": "A", "subject": group}
            for i in range(3)
            for group in groups
        ]
        files.append(run.parent / f"{name}.jsonl")
        files[-1].write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        stage.measure(run, "choice", [str(files[-1])])
    kept = record.read(run).results[stage.SCORES]
    assert kept["choice/sum (cmmlu.jsonl)"]["n"] == 6 and kept["choice/sum (xcopa.jsonl)"]["n"] == 3
    assert "choice/sum/a (cmmlu.jsonl)" in kept and "choice/sum" not in kept
    assert {"choice/sum (cmmlu.jsonl)", "choice/sum (xcopa.jsonl)"} <= summaries([run])[0].scores.keys()
    # What is measured again takes its old groups with it; what other files gave stays.
    stage.measure(run, "choice", [str(files[0])], limit=1)
    kept = record.read(run).results[stage.SCORES]
    assert kept["choice/sum (cmmlu.jsonl)"]["n"] == 1 and "choice/sum (xcopa.jsonl)" in kept
    assert "choice/sum/a (cmmlu.jsonl)" not in kept


def test_scores_of_another_step_are_called_so(run: Path):
    """A run that went on took the scores of its middle along as its own."""
    first, second = (run / "checkpoints" / f"step-0000000{step}" for step in (1, 2))
    shutil.copytree(first, second)
    for step, place in enumerate((first, second), 1):
        content = json.loads((place / "MANIFEST.json").read_text())
        content["facts"]["step"] = step
        (place / "MANIFEST.json").write_text(json.dumps(content))
    stage.measure(first, "repetition", limit=2)
    stage.measure(run, "arithmetic", limit=2)
    kept = record.read(run).results[stage.SCORES]
    assert {score["step"] for score in kept.values()} == {1}
    assert "arithmetic/right" in summaries([run])[0].scores
    (run / "LATEST").write_text("step-00000002\n")
    found = summaries([run])[0]
    assert found.step == 2 and "arithmetic/right, step 1" in found.scores
    assert "arithmetic/right" not in found.scores


def test_data_alone_means_its_loss(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    data = run.parent / "texts.jsonl"
    data.write_text('{"text": "云对雨。", "of": "a"}\n{"text": "雪对风。", "of": "b"}\n', encoding="utf-8")
    text = called(monkeypatch, capsys, str(run), "--data", str(data), "--by", "of")
    assert "a/bits" in text and "b/nats" in text and "all/bits" in text


def test_tasks_are_listed(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert "lm-eval" in called(monkeypatch, capsys, str(run), "--tasks", "list")


def test_equal_seeds_give_equal_scores(run: Path):
    first, _ = stage.measure(run, "repetition,arithmetic", limit=2, seed=3)
    again, _ = stage.measure(run, "repetition,arithmetic", limit=2, seed=3)
    assert first == again


@pytest.mark.parametrize(
    ("tasks", "data", "what"),
    [
        ("domain", [], "no such task"),
        ("choice", [], "needs a file of questions"),
        ("domains", ["nowhere.jsonl"], "does not exist"),
        ("domains", ["choice=quiz.jsonl"], "task that is not run"),
    ],
)
def test_what_cannot_be_measured_is_one_error(run: Path, tasks: str, data: list[str], what: str):
    with pytest.raises(UserError, match=what):
        stage.measure(run, tasks, data)


@pytest.mark.parametrize("text", ["", "a", "0", "50,-1", "1.5"])
def test_prefixes_are_numbers(run: Path, text: str):
    with pytest.raises(UserError, match="prefixes are whole numbers"):
        eval_stage.command(run, tasks="continuation", prefixes=text)


@pytest.fixture
def adapter(run: Path, tmp_path: Path) -> Path:
    """An adapter for the run's model that changes much."""
    loaded = load_checkpoint(run)
    lora.attach(loaded.model, AdapterConfig(r=2), seed=0)
    torch.manual_seed(0)
    for name, parameter in loaded.model.named_parameters():
        if ".b." in name:
            parameter.data.normal_(std=0.5)
    adapters.write(lora.adapter_of(loaded.model), loaded.model.config, "gguf-lora", tmp_path / "a.gguf")
    return tmp_path / "a.gguf"


def test_adapters_are_measured_on_their_base_and_remembered_nowhere(
    run: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = (str(run), "--tasks", "domains", "--limit", "5", "--json")
    base = json.loads(called(monkeypatch, capsys, *words))["scores"]
    kept = record.read(run).results
    found = json.loads(called(monkeypatch, capsys, *words, "--lora", str(adapter)))["scores"]
    assert found[0]["value"] != base[0]["value"]
    none = json.loads(called(monkeypatch, capsys, *words, "--lora-scaled", str(adapter), "0"))["scores"]
    assert none[0]["value"] == pytest.approx(base[0]["value"])
    assert record.read(run).results == kept
