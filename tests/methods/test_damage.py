"""Damage of real files: a checkpoint beside what was made of it, and what is refused."""

import json
import shutil
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file, save_file

from congling.core import artifact
from congling.core.errors import UserError
from congling.data import corpus, shards
from congling.data.config import DataConfig, SplitConfig
from congling.methods import conversion
from congling.methods.damage import Settings, run
from congling.report import comparison_pages
from congling.report.damage import as_document
from congling.report.damage_page import page
from congling.tokenizer.character import CharacterTokenizer
from support import tiny_checkpoint

LETTERS = "从零开始学而时习之不亦说乎云对雨雪风晚照晴空"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, GGUF files of it, and held-out texts."""
    root = tmp_path_factory.mktemp("damage")
    tiny_checkpoint.write(root / "base")
    for kind in ("F32", "Q8_0", "Q4_0"):
        out = root / f"{kind.lower()}.gguf"
        conversion.run(root / "base", "gguf", out, type=kind, verify=False)
    lines = [
        "".join(LETTERS[(i * i + 7 * k + i * k) % len(LETTERS)] for i in range(90 + k)) for k in range(9)
    ]
    (root / "held.txt").write_text("\n\n".join(lines), encoding="utf-8")
    return root


def measured(root: Path, *names: str, **settings: object):
    data = {"data": (str(root / "held.txt"),)}
    return run(root / "base", [root / name for name in names], Settings(**(data | settings)))  # type: ignore[arg-type]


def test_a_file_in_fewer_bits_is_measured_layer_by_layer(files):
    found = measured(files, "q8_0.gguf", "q4_0.gguf")
    eight, four = found.models
    assert [one.name for one in found.models] == ["q8_0.gguf", "q4_0.gguf"]
    assert 0 < eight.damage.kl.value < four.damage.kl.value
    assert eight.damage.agreement.value > four.damage.agreement.value
    bits = [model["bits_per_weight"] for model in as_document(found)["models"]]
    assert bits == pytest.approx([8.6, 5.15], abs=0.1)  # of Q4_0's 4.5 in the blocks: the embedding has 8.5
    assert four.layers is not None
    assert len(four.layers.layers) == 4
    assert all(layer.kl > 0 for layer in four.layers.layers)
    assert all(one.weight_error for one in four.layers.matrices)
    assert four.calibration["types"].startswith("Q4_0")
    assert four.greedy
    assert all(0 <= text.equal <= text.tokens for text in four.greedy)


def test_the_same_weights_elsewhere_are_equal_to_the_bit(files):
    (found,) = measured(files, "f32.gguf").models
    assert found.damage.kl.value == 0
    assert found.line == "f32.gguf: equal to the bit"


def test_a_model_beside_itself(files):
    found = measured(files, "base")
    assert found.models[0].line == f"{files / 'base'} (2): equal to the bit"


def test_the_same_call_gives_the_same_numbers(files):
    first, second = (as_document(measured(files, "q4_0.gguf")) for _ in range(2))
    assert first == second


def test_layers_and_texts_can_be_left_out(files):
    (found,) = measured(files, "q4_0.gguf", layers=False, texts=False).models
    assert found.layers is None
    assert found.greedy == ()


def test_shards_are_read_where_they_are_named(files, tmp_path):
    random = Random(0)
    lines = ["".join(random.choices(LETTERS, k=60)) for _ in range(60)]
    (tmp_path / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    config = DataConfig(
        sources=(str(tmp_path / "lines.txt"),),
        documents="line",
        overlap=1.0,
        split=SplitConfig(validation=0.3),
    )
    corpus.make(config, tmp_path / "documents")
    shards.write(tmp_path / "documents", files / "base" / "tokenizer", tmp_path / "shards")
    found = measured(files, "q8_0.gguf", data=(str(tmp_path / "shards"),), layers=False, texts=False)
    assert "split of" in found.text
    assert found.models[0].damage.kl.value > 0


def test_another_vocabulary_is_refused(files, tmp_path):
    tiny_checkpoint.write(tmp_path / "larger", vocab_size=288)
    with pytest.raises(UserError, match="the vocabularies differ"):
        run(files / "base", [tmp_path / "larger"], Settings(data=(str(files / "held.txt"),)))


def test_another_tokenizer_of_the_same_size_is_refused(files, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_checkpoint, "TOKENIZER", CharacterTokenizer(LETTERS.replace("从", "丛")))
    tiny_checkpoint.write(tmp_path / "other")
    with pytest.raises(UserError, match="the tokenizers differ: id"):
        run(files / "base", [tmp_path / "other"], Settings(data=(str(files / "held.txt"),)))


def test_what_is_missing_or_too_much_is_said(files, tmp_path):
    with pytest.raises(UserError, match="no shards beside the base"):
        measured(files, "q8_0.gguf", data=())
    with pytest.raises(UserError, match="longer than the model's context"):
        measured(files, "q8_0.gguf", context=65)
    with pytest.raises(UserError, match="a base and quantised models"):
        measured(files)
    (tmp_path / "short.txt").write_text("从零开始", encoding="utf-8")
    with pytest.raises(UserError, match="too short"):
        measured(files, "q8_0.gguf", data=(str(tmp_path / "short.txt"),))


def quantised(base: Path, place: Path, made: object, scale: float) -> Path:
    """A checkpoint with the base's weights moved a little, which says it was quantised."""
    shutil.copytree(base, place)
    weights = load_file(place / "model.safetensors")
    moved = {
        name: one + scale * torch.sin(torch.arange(one.numel())).view(one.shape) if one.dim() == 2 else one
        for name, one in weights.items()
    }
    save_file(moved, place / "model.safetensors")
    manifest = json.loads((place / "MANIFEST.json").read_text())
    manifest["facts"] = {"quantization": made}
    manifest["files"]["model.safetensors"] = artifact.file_hash(place / "model.safetensors")
    (place / "MANIFEST.json").write_text(json.dumps(manifest))
    return place


def test_what_a_checkpoint_says_of_its_calibration_is_told_and_doubted(files, tmp_path):
    grid = {"bits": 4, "group_size": 32, "sym": False}
    text = {
        "text": "tales.txt",
        "tokens": 4096,
        "script": "latin",
        "notes": ["damp raised to 0.03", "too short"],
    }
    made = {"method": "gptq", **grid, **text}
    better = quantised(files / "base", tmp_path / "gptq", made, 0.002)
    rounded = quantised(files / "base", tmp_path / "rtn", {"method": "rtn", **grid}, 0.004)
    odd = quantised(files / "base", tmp_path / "odd", ["no", "table"], 0.001)
    data = (str(files / "held.txt"),)
    found = run(files / "base", [better, rounded, odd], Settings(data=data, layers=False, texts=False))
    first, second, third = found.models
    assert first.calibration["method"] == "gptq"
    assert (first.calibration["text"], first.calibration["script"]) == ("tales.txt", "latin")
    assert first.warnings[:2] == ("damp raised to 0.03", "too short")
    assert first.warnings[2].startswith("calibrated on a text that is latin, measured on one that is ")
    assert first.recovery is not None
    assert 0.6 < first.recovery.kl.value < 0.85  # half of a small error has a quarter of its KL
    assert (first.recovery.kl.low or 0) < first.recovery.kl.value < (first.recovery.kl.high or 0)
    assert second.recovery is None
    assert (third.recovery, third.calibration, third.warnings) == (None, {}, ())
    told = {table.title: table for table in page(found).tables}
    assert ("gptq", "damp raised to 0.03") in told["Warnings"].rows
    assert any(row[0] == "of RTN's KL saved" for row in told["Damage"].rows)


def test_the_page_asks_nothing_of_anyone_and_escapes_what_files_say(files, tmp_path):
    made = {"method": "<script>", "bits": 4}
    odd = quantised(files / "base", tmp_path / "odd", made, 0.001)
    found = run(files / "base", [odd], Settings(data=(str(files / "held.txt"),), layers=False, texts=False))
    html = comparison_pages.write(page(found), tmp_path / "page.html").read_text("utf-8")
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
