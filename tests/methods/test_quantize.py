"""A checkpoint in few bits, made and used like any other: generated from, converted, adapted; or refused."""

import json
from pathlib import Path

import pytest
import torch

from congling.core import artifact
from congling.core.errors import UserError
from congling.infer.checkpoints import load_checkpoint
from congling.interop import formats
from congling.interop.stored_bits import stored_bits
from congling.methods import conversion, prune, quantize
from congling.methods.base_model import open_base
from congling.methods.quantize import FACT, chosen
from congling.plan.quantisation import QuantisationPlan
from congling.quant.coded import CodedLinear
from congling.quant.config import GptqConfig, GridConfig, RtnConfig
from congling.transform.prune_sizes import Sizes
from support import tiny_checkpoint

TEXT = "云对雨雪对风晚照对晴空学而时习之不亦说乎从零开始" * 40


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tiny_checkpoint.write(tmp_path / "base")


def test_a_quantised_checkpoint_is_loaded_converted_and_says_how_it_was_made(base: Path, tmp_path: Path):
    told: list[QuantisationPlan] = []
    text = str(tmp_path / "text.txt")
    found = quantize.run(
        base,
        tmp_path / "q",
        chosen("gptq", ["bits=4", "group_size=32"]),
        data=(text,),
        tokens=640,
        before=lambda plan, calibration: told.append(plan),
    )
    assert found.calibration is not None and found.calibration["tokens"] == 640
    assert found.calibration["script"] == "hans"
    assert (
        told[0].weights == found.weights
        and 4 < found.bits == told[0].bits < 32
        and found.size < found.size_before
    )
    assert told[0].tokens == 640 and told[0].file_bytes == sum(stored_bits(found.out).tensor_bytes.values())
    planned, holds = quantize.plan(base, chosen("gptq"), measure=False)
    assert planned.file_bytes == told[0].file_bytes and set(planned.groups) >= {8, 16, 32, -1}
    assert holds["gptq"] == "" and "sym=true" in holds["ct"]
    opened = artifact.opened(found.out, "checkpoint", verify=True)
    assert opened.facts[FACT]["method"] == "gptq" and opened.facts["chat"] is True
    assert opened.parents["base"] == artifact.opened(base, "checkpoint").fingerprint
    loaded = load_checkpoint(found.out, "cpu")
    assert isinstance(loaded.model.get_submodule("blocks.0.mlp.down"), CodedLinear)
    dense = formats.read_model(found.out)
    place = "blocks.1.attention.value"
    assert torch.equal(dense.weights[f"{place}.weight"], loaded.model.get_submodule(place).dense())  # type: ignore[operator]
    assert dense.layers.keys() == {
        name for name, module in loaded.model.named_modules() if isinstance(module, CodedLinear)
    }
    again = quantize.run(base, tmp_path / "again", GptqConfig(), data=(text,), tokens=640)
    files = [artifact.opened(one, "checkpoint").files["model.safetensors"] for one in (found.out, again.out)]
    assert files[0] == files[1]


def test_it_takes_an_adapter_and_no_other_training(base: Path, tmp_path: Path):
    quantize.run(base, tmp_path / "q", RtnConfig())
    opened = open_base(tmp_path / "q")
    assert opened.packed and opened.tokenizer_directory is None
    assert opened.size < open_base(base).size


def test_what_may_be_wrong_with_the_text_is_said(base: Path, tmp_path: Path):
    (tmp_path / "short.txt").write_text("云对雨", encoding="utf-8")
    found = quantize.run(base, tmp_path / "q", GptqConfig(), data=(str(tmp_path / "short.txt"),))
    notes = " ".join(found.notes)
    assert "shorter than the 64 tokens" in notes and "32,768 were asked for" in notes
    assert "rounded to nearest" in notes
    assert torch.isfinite(
        load_checkpoint(found.out, "cpu").model.get_submodule("blocks.0.mlp.up").dense()
    ).all()  # type: ignore[operator]


def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "q"

    def refused(match: str, **changes: object) -> None:
        arguments: dict = {"model": base, "out": out, "config": RtnConfig()} | changes
        with pytest.raises(UserError, match=match):
            quantize.run(**arguments)
        assert not out.exists()

    refused("no text is beside the run", config=GptqConfig())
    (tmp_path / "blank.txt").write_text("\n \n", encoding="utf-8")
    refused("no text in it to calibrate on", config=GptqConfig(), data=[str(tmp_path / "blank.txt")])
    refused("does not divide", config=RtnConfig(group_size=48))
    with pytest.raises(UserError, match="does not divide"):
        quantize.plan(base, RtnConfig(group_size=48), measure=False)
    refused("not quantised as it is", model=tmp_path / "text.txt")
    with pytest.raises(UserError, match="something already"):
        quantize.run(base, base, RtnConfig())
    monkeypatch.setattr(quantize, "quantise", lambda *_: pytest.fail("hours of work before the refusal"))
    refused("cannot be written", out=tmp_path / "text.txt" / "q")
    monkeypatch.undo()
    quantize.run(base, tmp_path / "first", RtnConfig())
    refused("in few bits already", model=tmp_path / "first")
    with pytest.raises(UserError, match="in few bits cannot be pruned"):
        prune.run(tmp_path / "first", out, Sizes(num_hidden_layers=1))
    with pytest.raises(UserError, match="no such method"):
        chosen("gtpq")
    with pytest.raises(UserError, match="damp_percent") as unknown:
        chosen("rtn", ["damp_percent=0.1"])
    assert unknown.value.hint == "it belongs to gptq; known keys: bits, group_size, method, sym"


@pytest.mark.parametrize(
    ("settings", "type", "method"),
    [
        (RtnConfig(sym=True), None, "gptq"),
        (RtnConfig(), "awq", "awq"),
        (GptqConfig(sym=True, bits=3), "ct", "compressed-tensors"),
    ],
)
def test_it_goes_to_a_folder_with_its_codes_as_they_are(
    base: Path, tmp_path: Path, settings: GridConfig, type: str | None, method: str
):
    quantize.run(base, tmp_path / "q", settings, data=(str(tmp_path / "text.txt"),), tokens=640)
    done = conversion.run(tmp_path / "q", "hf", tmp_path / "folder", type=type, verify=False)
    assert (
        json.loads((done.path / "config.json").read_text())["quantization_config"]["quant_method"] == method
    )
    text = (done.path / "README.md").read_text(encoding="utf-8")
    assert f"By {settings.method} (bits {settings.bits}, group_size 32" in text
    assert ("640 tokens of `text.txt`: script hans" in text) == (settings.method == "gptq")
    assert done.bits is not None and 4 < done.bits < 32
    ours, theirs = formats.read_model(tmp_path / "q"), formats.read_model(done.path)
    assert list(ours.layers) == list(theirs.layers)
    for name, layer in ours.layers.items():
        assert isinstance(layer, CodedLinear) and torch.equal(layer.codes, theirs.layers[name].codes)
    assert all(torch.equal(ours.weights[name], theirs.weights[name]) for name in ours.weights)
