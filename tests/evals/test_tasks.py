import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from congling.core.errors import UserError
from congling.data.problems import ReadingLog
from congling.evals import baselines, domains, memorisation, tasks
from congling.evals.bench import Bench
from congling.evals.kneser_ney import KneserNey
from congling.evals.likelihood import text_nats
from congling.evals.score_tables import problem_lines, score_tables
from congling.evals.scores import Score, shown


def test_the_loss_of_all_domains_together_is_that_of_the_texts(bench: Bench, tmp_path: Path):
    rows = [
        {"text": text, "ward": ward} for text, ward in (("天地玄黄。", "a"), ("宇宙" * 30, "b"), ("日", "a"))
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    bench = replace(bench, files=[str(tmp_path / "texts.jsonl")], by="ward")
    found = {score.name: score for score in domains.run(bench)}
    measured = text_nats(bench.loaded.model, bench.loaded.tokenizer, [row["text"] for row in rows])
    nats, tokens = (sum(column) for column in zip(*measured, strict=True))
    assert found["domains/all/nats"].value == pytest.approx(nats / tokens)
    assert (found["domains/a/bits"].n, found["domains/b/bits"].n) == (2, 1)


def test_the_model_stands_beside_its_baselines(bench: Bench):
    found = {score.name: score for score in baselines.run(bench)}
    names = {f"baselines/kneser-ney-{order}" for order in range(1, 6)} | {
        f"baselines/{name}" for name in ("zlib", "lzma", "zstd")
    }
    assert names == {name for name, score in found.items() if score.reference}
    training = KneserNey(bench.training(), 2)
    texts = [document.text for document in bench.held_out()]
    bits = sum(map(training.bits, texts)) / sum(map(len, texts))
    assert found["baselines/kneser-ney-2"].value == pytest.approx(bits)
    assert found["baselines/perplexity"].value > 1 < found["baselines/model"].value


def test_a_text_learnt_by_heart_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    class Top:
        def __init__(self, length: int, hits: int) -> None:
            self.top = [place < hits for place in range(length)]

    def score_rows(_: object, rows: list, **options: object) -> list[Top]:
        hits = 99 if options["label"] == "training documents" else 5
        return [Top(len(row.ids) - row.start, hits) for row in rows]

    monkeypatch.setattr(memorisation, "score_rows", score_rows)
    found = {score.name: score for score in memorisation.run(bench)}
    assert found["memorisation/training/verbatim"].value == 1.0
    assert found["memorisation/held-out/verbatim"].value == 0.0
    assert found["memorisation/held-out/run"].value == 5.0 and found["memorisation/held-out/run"].reference


def test_a_random_model_knows_no_text_by_heart(bench: Bench):
    found = {score.name: score for score in memorisation.run(bench)}
    assert found["memorisation/training/verbatim"].value == 0.0
    assert found["memorisation/training/verbatim"].n == bench.limit


def test_names_are_checked():
    assert tasks.named("choice, domains,choice") == ["choice", "domains"]
    for wrong in ("chioce", "", ","):
        with pytest.raises(UserError, match="task"):
            tasks.named(wrong)


def test_files_are_for_all_tasks_or_for_one(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    seen: dict[str, list[str]] = {}
    for name in ("choice", "domains"):

        def run(bench: Bench, name: str = name) -> list[Score]:
            seen[name] = list(bench.files)
            return []

        monkeypatch.setitem(tasks.TASKS, name, replace(tasks.TASKS[name], run=run))
    tasks.run(bench, ["choice", "domains"], ["choice=quiz.jsonl", "a=b.txt"])
    assert seen == {"choice": ["quiz.jsonl"], "domains": ["a=b.txt"]}
    with pytest.raises(UserError, match="task that is not run"):
        tasks.run(bench, ["domains"], ["choice=quiz.jsonl"])


def test_tables_show_intervals_chance_and_protocols(bench: Bench):
    scores = [
        Score("quiz/right", 0.5, 1200, "share", "asked", 0.25, 0.75, 0.25),
        Score("quiz/length", 12.0, 8, "characters", "counted", reference=True),
    ]
    console = Console(width=100, record=True, file=io.StringIO())
    for table in score_tables(scores):
        console.print(table)
    text = console.export_text()
    for part in ("50.0%", "25.0% … 75.0%", "1,200", "right [1]", "[2] counted", "12.0"):
        assert part in text
    assert shown(1.23456, "bits/character") == "1.235"
    bench.problem("seen in training", "a.jsonl:3", "equal")
    assert problem_lines(bench.findings)[0].startswith("1 × seen in training, first a.jsonl:3: equal")


def quiz(folder: Path, name: str) -> str:
    row = {"question": "天地？", "A": "玄黄", "B": "洪", "answer": "A"}
    (folder / name).write_text(json.dumps(row), encoding="utf-8")
    return str(folder / name)


def test_scores_say_which_files_they_are_of(bench: Bench, tmp_path: Path):
    one, other = quiz(tmp_path, "one.jsonl"), quiz(tmp_path, "other.jsonl")
    found = tasks.run(
        replace(bench, documents=None), ["choice", "arithmetic"], [f"choice={one}", f"choice={other}"]
    )
    by_task = {score.task: score for score in found}
    assert by_task["choice"].data == "one.jsonl + other.jsonl" and by_task["arithmetic"].data == ""
    found = tasks.run(replace(bench, examples=[other], shots=2), ["choice"], [one])
    assert {score.label for score in found} == {
        f"choice/{name} (one.jsonl, 2-shot)" for name in ("sum", "normalised", "shortest")
    }
    assert [str(table.title) for table in score_tables(found)] == ["choice (one.jsonl, 2-shot)"]
    assert "2 shots" in found[0].protocol


@pytest.mark.parametrize(
    ("names", "files", "settings", "what"),
    [
        (["arithmetic"], ["quiz.jsonl"], {}, "no task reads"),
        (["arithmetic"], ["arithmetic=quiz.jsonl"], {}, "no task reads"),
        (["arithmetic", "choice"], ["choice=quiz.jsonl", "quiz.jsonl"], {}, "no task reads"),
        (["choice"], ["quiz.jsonl"], {"shots": 5}, "none are given"),
        (["choice"], ["quiz.jsonl"], {"examples": ["quiz.jsonl"]}, "none are to be shown"),
        (["memorisation"], [], {"examples": ["quiz.jsonl"], "shots": 5}, "no task that shows"),
    ],
)
def test_what_nobody_would_read_is_refused(
    bench: Bench, names: list[str], files: list[str], settings: dict, what: str
):
    with pytest.raises(UserError, match=what):
        tasks.run(replace(bench, **settings), names, files)


def test_every_kind_of_what_is_left_out_has_its_first_place_named():
    """Behind four kinds of five examples each, the fifth kind was a bare number."""
    findings = ReadingLog()
    for kind in range(40):
        for line in range(1, 9):
            findings.problem(f"kind {kind}", "quiz.jsonl", line, "why")
    lines = problem_lines(findings)
    assert len(lines) == 40 and all(line.endswith("first quiz.jsonl:1: why") for line in lines)
    assert len(findings.examples) < 60
