"""``compare`` on real checkpoints: the same prompts and rows for each, asked as each model knows it."""

import json

import pytest
import torch

from congling.core import artifact
from congling.core.console import Console
from congling.core.errors import UserError
from congling.data.problems import Place
from congling.data.tuning.chat_rows import Conversation
from congling.evals.row_losses import characters, row_losses
from congling.infer.checkpoints import load_checkpoint
from congling.infer.prompts import conversation_ids
from congling.interop import adapter_directory
from congling.methods import comparison
from congling.report import comparison_display
from congling.stages import compare
from congling.tokenizer.chat.encode import render
from congling.transform.config import AdapterConfig
from congling.transform.lora import adapter_of, attach
from support import tiny_checkpoint

ROWS = [
    {"prompt": "云对", "response": "雨"},
    {"prompt": "雪对", "response": "风晚照"},
    {"prompt": "晴", "response": "空" * 90},
]


def run_of(place, *, chat, **sizes):
    """A run directory around a tiny checkpoint."""
    checkpoint = place / "checkpoints" / "step-00000002"
    place.mkdir(parents=True)
    tiny_checkpoint.write(checkpoint, **sizes)
    manifest = json.loads((checkpoint / "MANIFEST.json").read_text())
    manifest["facts"] = {"chat": chat, "step": 2}
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest))
    (place / "LATEST").write_text("step-00000002\n")
    metrics = [{"step": 2, "tokens": 10, "loss": 2.0, "bits_per_character": 3.0}]
    metrics.append({"step": 2, "tokens": 10, "validation_loss": 2.0, "validation_bits_per_character": 3.0})
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    return place


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("compare")
    (root / "rows.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), "utf-8"
    )
    run_of(root / "plain", chat=False, hidden_size=32)
    run_of(root / "tuned", chat=True)
    loaded = load_checkpoint(root / "plain", "cpu")
    attach(loaded.model, AdapterConfig(r=2), seed=0)
    base = adapter_directory.Base(loaded.checkpoint.fingerprint, "plain", loaded.model.config)
    facts = {"base_path": str(root / "plain"), "chat": True}
    light = root / "light"
    light.mkdir()
    (light / "metrics.jsonl").write_text((root / "plain/metrics.jsonl").read_text())
    adapter_directory.write(light / "adapter", adapter_of(loaded.model, facts=facts), base)
    return root


def test_prompts_and_rows_are_the_same_for_every_run(runs):
    writing = comparison.Writing(tokens=4, seed=5)
    found = comparison.run([runs / "plain", runs / "tuned"], rows=[str(runs / "rows.jsonl")], writing=writing)
    assert [prompt for prompt, _ in found.samples] == ["云对", "雪对", "晴"]
    assert all(text is not None for _, texts in found.samples for _, text in texts)
    assert "counted for none: 1." in found.tables[0].note and "the same 2 answers" in found.tables[0].note
    paired = [row for one in found.tables for row in one.rows if row[-1] == "paired, 2 items"]
    assert [row[:2] for row in paired] == [("bits/char of the rows", "tuned")]
    again = comparison.run([runs / "plain", runs / "tuned"], rows=[str(runs / "rows.jsonl")], writing=writing)
    assert again.samples == found.samples


def test_an_adapter_is_compared_on_its_base(runs):
    writing = comparison.Writing(["云对"], tokens=4, temperature=0.0)
    found = comparison.run([runs / "plain", runs / "light"], writing=writing)
    assert [name for _, texts in found.samples for name, _ in texts] == ["plain", "light"]
    moved = (runs / "light/adapter/adapter.json").read_text().replace(str(runs / "plain"), "/nowhere")
    gone = runs / "gone"
    gone.mkdir()
    (gone / "metrics.jsonl").write_text((runs / "plain/metrics.jsonl").read_text())
    (gone / "adapter").mkdir()
    for file in ("adapter.safetensors", "adapter.json"):
        (gone / "adapter" / file).write_bytes((runs / "light/adapter" / file).read_bytes())
    (gone / "adapter/adapter.json").write_text(moved)
    artifact.seal(gone / "adapter", "adapter", parents={}, facts={})
    with pytest.raises(UserError, match="the base of this adapter is not where it was: '/nowhere'"):
        comparison.run([runs / "plain", gone], writing=writing)
    assert len(comparison.run([runs / "plain", gone]).tables[0].rows) == 2  # what is recorded needs no base


@torch.inference_mode()
def test_losses_are_of_the_answer_alone(runs):
    loaded = load_checkpoint(runs / "tuned", "cpu")
    messages = ({"role": "user", "content": "云对"}, {"role": "assistant", "content": "雨"})
    (nats,) = row_losses(loaded, [Conversation(messages, Place("rows", 1))])
    rendered = render(loaded.tokenizer, messages)
    chances = loaded.model.logits(loaded.model(torch.tensor([rendered.input_ids[:-1]])))[0].log_softmax(-1)
    answer = [i for i, learnt in enumerate(rendered.answer_mask) if learnt][:-1]  # the last one ends the turn
    expected = -sum(float(chances[i - 1, rendered.input_ids[i]]) for i in answer)
    assert len(answer) == 1 and nats == pytest.approx(expected, rel=1e-5)


@torch.inference_mode()
def test_an_answer_that_training_leaves_out_is_scored_all_the_same(runs):
    loaded = load_checkpoint(runs / "tuned", "cpu")
    asked_, answer = {"role": "user", "content": "云对"}, {"role": "assistant", "content": "雨"}
    for flag in ({"loss": False}, {"loss": True}):
        talk = Conversation((asked_, answer | flag), Place("rows", 1))
        assert row_losses(loaded, [talk]) == row_losses(
            loaded, [Conversation((asked_, answer), Place("rows", 1))]
        )


@torch.inference_mode()
def test_thoughts_are_scored_and_counted_and_the_templates_own_marks_are_not(runs):
    thought = {"role": "assistant", "content": "雨", "reasoning_content": "风雪"}
    talk = Conversation(({"role": "user", "content": "云对"}, thought), Place("rows", 1))
    assert characters(talk) == 3
    for name in ("tuned", "plain"):
        loaded = load_checkpoint(runs / name, "cpu")
        (nats,) = row_losses(loaded, [talk])
        asks = conversation_ids(loaded, talk.messages[:1])
        ids = (
            render(loaded.tokenizer, talk.messages).input_ids
            if name == "tuned"
            else [*asks, *loaded.tokenizer.encode_rest("风雪\n雨")]
        )
        chances = loaded.model.logits(loaded.model(torch.tensor([ids])))[0].log_softmax(-1)
        said = loaded.tokenizer.encode_rest("风雪雨" if name == "tuned" else "风雪\n雨")
        own = [i for i in range(len(asks), len(ids)) if ids[i] in said]
        assert nats == pytest.approx(-sum(float(chances[i - 1, ids[i]]) for i in own), rel=1e-5)
        assert len(own) == len(said)


def test_the_terminal_shows_brackets_and_chinese_as_they_are(runs, capsys):
    found = comparison.run(
        [runs / "plain", runs / "tuned"], writing=comparison.Writing(["[bold]云对"], tokens=2)
    )
    comparison_display.show(found, Console(width=200, force_terminal=False))
    said = capsys.readouterr().out
    assert "[bold]云对" in said and "plain" in said and "tuned" in said and "bits/char" in said


@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_comparison_takes_two_runs_or_more(runs, count):
    with pytest.raises(UserError, match="two runs or more"):
        comparison.run([runs / "plain"] * count)


def test_a_page_is_named_like_one_and_not_replaced(runs, tmp_path):
    arguments = {"rows": None, "prompt": None, "limit": 1, "max_new_tokens": 1, "temperature": 0.0, "seed": 0}
    both = [runs / "plain", runs / "tuned"]
    with pytest.raises(UserError, match="the page is an .html file"):
        compare.command(both, out=tmp_path / "page.md", overwrite=False, **arguments)
    compare.command(both, out=tmp_path / "page.html", overwrite=False, **arguments)
    assert {"page.html", "page.md", "page-charts"} == {file.name for file in tmp_path.iterdir()}
    assert (tmp_path / "page-charts/held-out.svg").is_file()
    with pytest.raises(UserError, match="exists already"):
        compare.command(both, out=tmp_path / "page.html", overwrite=False, **arguments)


def test_rows_without_answers_are_no_rows(runs, tmp_path):
    (tmp_path / "poem.txt").write_text("床前明月光", "utf-8")
    with pytest.raises(UserError, match="no questions with answers"):
        comparison.run([runs / "plain", runs / "tuned"], rows=[str(tmp_path / "poem.txt")])
    with pytest.raises(UserError, match="no row fits"):
        (tmp_path / "long.jsonl").write_text(json.dumps(ROWS[2]) + "\n")
        comparison.run(
            [runs / "plain", runs / "tuned"],
            rows=[str(tmp_path / "long.jsonl")],
            writing=comparison.Writing(tokens=1),
        )
