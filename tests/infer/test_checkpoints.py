"""Finding checkpoints: every way a person may name one, and clear words when there is none."""

import shutil
from pathlib import Path

import pytest
import torch

from congling.core.errors import UserError
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.infer.generate import generate
from congling.infer.sampler import SamplingConfig
from congling.interop import adapter_directory
from congling.interop.adapters import read_any
from congling.interop.gguf.packing import pack
from congling.interop.source import locate_checkpoint
from congling.quant.packed import PackedEmbedding
from congling.transform import lora
from congling.transform.adapter import Adapter
from congling.transform.config import AdapterConfig


def test_a_run_leads_to_its_best_checkpoint_and_else_to_the_latest(run: Path, tmp_path: Path):
    best = run / "checkpoints/step-00000002"
    assert locate_checkpoint(run) == best
    assert locate_checkpoint(best) == best
    (tmp_path / "run").symlink_to(run)
    assert locate_checkpoint(tmp_path).samefile(best)
    other = tmp_path / "other"
    other.mkdir()
    (other / "checkpoints").symlink_to(run / "checkpoints")
    (other / "BEST").write_text("step-00000009\n")
    (other / "LATEST").write_text("step-00000001\n")
    assert locate_checkpoint(other).name == "step-00000001"


@pytest.mark.parametrize("name", ["../../../etc", "", "/", "step-00000009", "\x00"])
def test_a_pointer_to_nowhere_is_an_error(name: str, tmp_path: Path):
    (tmp_path / "LATEST").write_text(name)
    with pytest.raises(UserError, match="gone"):
        locate_checkpoint(tmp_path)


def test_nothing_there(tmp_path: Path, tokenizer_path: Path):
    with pytest.raises(UserError, match="no checkpoint"):
        locate_checkpoint(tmp_path)
    with pytest.raises(UserError, match="no such directory"):
        locate_checkpoint(tmp_path / "absent")
    with pytest.raises(UserError, match="is a tokenizer directory"):
        locate_checkpoint(tokenizer_path)


def test_a_damaged_checkpoint_is_not_loaded(run: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    for file in (run / "checkpoints/step-00000001").rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(run / "checkpoints/step-00000001")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    assert load_checkpoint(copy).checkpoint.facts["step"] == 1
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match="checksum"):
        load_checkpoint(copy)


def test_a_gguf_file_is_a_model_like_any_other(loaded: Loaded, gguf: Path):
    found = load_checkpoint(gguf)
    ids = torch.tensor([found.tokenizer.encode("从零开始学写字")])
    assert ids.tolist()[0] == loaded.tokenizer.encode("从零开始学写字")
    torch.testing.assert_close(
        found.model.logits(found.model(ids)), loaded.model.logits(loaded.model(ids)), atol=1e-4, rtol=1e-4
    )
    greedy = SamplingConfig(temperature=0)
    texts = [
        generate(each.model, each.tokenizer, ["从零", "学"], max_new_tokens=20, sampling=greedy)
        for each in (found, loaded)
    ]
    assert texts[0] == texts[1]
    assert found.checkpoint.path == gguf and not found.checkpoint.parents


def test_adapters_act_on_checkpoints_and_on_gguf_files_alike(
    loaded: Loaded, run: Path, gguf: Path, adapters: list[Path]
):
    ids = torch.tensor([loaded.tokenizer.encode("从零开始")])
    results = [
        each.model.logits(each.model(ids))
        for each in (
            load_checkpoint(place, adapters=[(adapters[0], 0.4), (adapters[1], 0.8)]) for place in (run, gguf)
        )
    ]
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)
    assert (results[0] - loaded.model.logits(loaded.model(ids))).abs().max() > 0.1


def test_what_is_no_model_or_no_adapter_of_it_is_refused(
    run: Path, gguf: Path, adapters: list[Path], tmp_path: Path
):
    (text := tmp_path / "notes.txt").write_text("not a model")
    with pytest.raises(UserError, match="GGUF"):
        load_checkpoint(text)
    (pickled := tmp_path / "ckpt.pt").write_bytes(b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00.")
    with pytest.raises(UserError, match="pickle"):
        load_checkpoint(pickled)
    (folder := tmp_path / "hf").mkdir()
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="congling import"):
        load_checkpoint(folder)
    with pytest.raises(UserError, match=r"notes\.txt"):
        load_checkpoint(run, adapters=[(text, 1.0)])
    with pytest.raises(UserError):
        load_checkpoint(adapters[0])
    with pytest.raises(UserError, match="finite"):
        load_checkpoint(run, adapters=[(adapters[0], float("nan"))])


def test_a_dense_base_is_packed_for_an_adapter_that_was_trained_beside_a_packed_one(
    loaded: Loaded, run: Path, adapters: list[Path], tmp_path: Path
):
    config, ids = loaded.model.config, torch.tensor([loaded.tokenizer.encode("从零开始")])
    adapter = read_any(adapters[0], config)
    facts = {"adapter": AdapterConfig(base_quantization="Q4_0").model_dump(mode="json")}
    own = adapter_directory.write(
        tmp_path / "own", Adapter(adapter.factors, facts), adapter_directory.Base("0" * 64, "base", config)
    )
    expected = pack(load_checkpoint(run).model, "Q4_0")
    lora.apply(expected, [(adapter, 0.7)])
    found = load_checkpoint(run, adapters=[(own, 0.7)]).model
    assert torch.equal(found.logits(found(ids)), expected.logits(expected(ids)))
    assert isinstance(found.embedding, PackedEmbedding)


def test_an_adapter_without_its_manifest_is_not_loaded(
    run: Path, loaded: Loaded, adapters: list[Path], tmp_path
):
    adapter = read_any(adapters[0], loaded.model.config)
    base = adapter_directory.Base(loaded.checkpoint.fingerprint, "base", loaded.model.config)
    own = adapter_directory.write(tmp_path / "own", adapter, base)
    load_checkpoint(run, adapters=[(own, 1.0)])
    (own / "MANIFEST.json").unlink()
    with pytest.raises(UserError, match=r"no manifest(.|\n)*MANIFEST\.json"):
        load_checkpoint(run, adapters=[(own, 1.0)])


@pytest.mark.parametrize("damage", [b"", b"step-00000009\n", b"\xff\xfe\0"])
def test_a_damaged_best_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: bytes):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "BEST").write_bytes(damage)
    assert locate_checkpoint(tmp_path).name == "step-00000001"
    said = capsys.readouterr().err
    assert "BEST names no checkpoint that is there" in said and "step-00000001, is used" in said


def test_a_link_in_a_checkpoint_does_not_lead_out_of_it(run: Path, tmp_path: Path):
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run/checkpoints/step-00000002/tokenizer/tokenizer.json"
    file.rename(tmp_path / "elsewhere.json")
    file.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UserError, match="leads out of this directory"):
        load_checkpoint(tmp_path)
