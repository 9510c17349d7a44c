"""What a model reads before it is quantised: conversations as sft trains on them, and doubts."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from congling.core.errors import UserError
from congling.data import corpus, shards
from congling.data.config import DataConfig
from congling.data.tuning import conversations
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.interop import formats
from congling.interop.source import source_of
from congling.methods import importance, quantize
from congling.methods.calibration import calibration
from congling.quant.config import GptqConfig
from congling.quant.walk import Rows
from congling.tokenizer import training
from congling.tokenizer.config import TokenizerConfig
from support import tiny_checkpoint

WORDS = "云对雨雪风晚照晴空学而时习之不亦说乎从零开始"


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    return load_checkpoint(tiny_checkpoint.write(tmp_path / "run" / "checkpoints" / "00000001"), "cpu")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    talks = [
        {
            "messages": [
                {"role": "user", "content": WORDS[i : i + 3]},
                {"role": "assistant", "content": WORDS[-i - 4 :]},
            ]
        }
        for i in range(12)
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps(talk, ensure_ascii=False) + "\n" for talk in talks), encoding="utf-8")
    return path


def texts_of(rows: tuple[Rows, ...]) -> Counter[tuple[int, ...]]:
    """The ids of every conversation in the rows."""
    found: Counter[tuple[int, ...]] = Counter()
    for ids, positions, documents in rows:
        assert positions is not None and documents is not None
        for row, place, number in zip(ids, positions, documents, strict=True):
            for one in number.unique():
                text = row[number == one]
                assert torch.equal(place[number == one], torch.arange(len(text)))
                found[tuple(text.tolist())] += 1
    return found


def expected(loaded: Loaded, rows: Path) -> Counter[tuple[int, ...]]:
    """The inputs that sft makes of them."""
    config = DataConfig(sources=(str(rows),))
    read = conversations.read(config, loaded.tokenizer, 64)
    return Counter(tuple(one.input_ids[:-1].tolist()) for one in (*read.train, *read.validation))


def test_conversations_are_read_with_the_ids_of_training(loaded: Loaded, rows: Path):
    found = calibration(loaded, [str(rows)])
    assert texts_of(found.rows) == expected(loaded, rows)
    assert found.script["guess"] == "hans"  # whatever letters the marks of the template are written in
    assert found.conversations == 12 and found.facts()["template"] == "its own, 12 conversations"
    assert not any("template" in note for note in found.notes)
    less = calibration(loaded, [str(rows)], tokens=40)
    assert 40 <= less.tokens < found.tokens and texts_of(less.rows) <= texts_of(found.rows)
    assert less.fingerprint == calibration(loaded, [str(rows)], tokens=40).fingerprint


def test_plain_text_and_templates_where_they_do_not_belong_are_doubted(
    loaded: Loaded, rows: Path, tmp_path: Path
):
    (tmp_path / "text.txt").write_text(WORDS * 20, encoding="utf-8")
    plain = calibration(loaded, [str(tmp_path / "text.txt")])
    assert plain.facts()["template"] == "none" and plain.conversations == 0
    assert any("no chat template" in note for note in plain.notes)
    untuned = replace(loaded, checkpoint=replace(loaded.checkpoint, facts={}))
    assert any("new to it" in note for note in calibration(untuned, [str(rows)]).notes)
    assert not any("template" in note for note in calibration(untuned, [str(tmp_path / "text.txt")]).notes)


def test_shards_of_other_tokens_beside_the_run_are_no_reason_to_refuse_a_text(loaded: Loaded, tmp_path: Path):
    text = tmp_path / "text.txt"
    text.write_text(f"{WORDS}\n" * 20, encoding="utf-8")
    corpus.make(DataConfig(sources=(str(text),), documents="line"), tmp_path / "documents")
    training.train(TokenizerConfig(kind="character"), lambda: [WORDS], tmp_path / "tokenizer")
    shards.write(tmp_path / "documents", tmp_path / "tokenizer", tmp_path / "run" / "shards")
    with pytest.raises(UserError, match="made with another tokenizer"):
        calibration(loaded)
    found = calibration(loaded, [str(text)])
    assert any(note.startswith("not compared with the shards beside the run") for note in found.notes)


def test_a_tuned_run_is_calibrated_on_its_own_rows(loaded: Loaded, rows: Path, tmp_path: Path):
    run = loaded.checkpoint.path.parent.parent
    with pytest.raises(UserError, match="no text is beside the run"):
        calibration(loaded)
    (run / "plan.json").write_text('{"method": "sft"}')
    (run / "config.toml").write_text(f'[data]\nsources = ["{rows}"]\n[data.split]\nvalidation = 3\n')
    found = calibration(loaded)
    assert found.source == str(rows) and texts_of(found.rows) < expected(loaded, rows)
    rows.unlink()
    with pytest.raises(UserError, match="no text is beside the run"):
        calibration(loaded)


def test_a_quantised_checkpoint_and_an_importance_matrix_say_so(loaded: Loaded, rows: Path, tmp_path: Path):
    made = quantize.run(loaded.checkpoint.path, tmp_path / "q", GptqConfig(), data=[str(rows)])
    assert made.calibration is not None and made.calibration["template"].startswith("its own")
    model = formats.read_model(source_of(loaded.checkpoint.path))
    _, (note,) = importance.importance_matrix(rows, model)
    assert "conversations in the model's chat template" in note
    (tmp_path / "text.txt").write_text(WORDS * 20, encoding="utf-8")
    assert "no chat template" in importance.importance_matrix(tmp_path / "text.txt", model)[1][0]


def test_an_importance_matrix_reads_texts_as_quantize_does(loaded: Loaded, tmp_path: Path):
    model = formats.read_model(source_of(loaded.checkpoint.path))
    (tmp_path / "text.txt").write_text(WORDS * 20, encoding="utf-8")
    (tmp_path / "gbk.txt").write_text(WORDS * 20, encoding="gb18030")
    record = json.dumps({"text": WORDS * 20}, ensure_ascii=False)
    (tmp_path / "records.jsonl").write_text(record + "\n", encoding="utf-8")
    matrices = [
        importance.importance_matrix(tmp_path / name, model)[0]
        for name in ("text.txt", "gbk.txt", "records.jsonl")
    ]
    for name, entry in matrices[0].tensors.items():
        for other in matrices[1:]:
            assert (other.tensors[name].sums == entry.sums).all()
    (tmp_path / "odd.json").write_text('[{"width": 3}, {"width": 4}]')
    with pytest.raises(UserError, match="where the text of these records is"):
        importance.importance_matrix(tmp_path / "odd.json", model)
