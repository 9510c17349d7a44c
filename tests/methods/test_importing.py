"""``congling import``: what it takes, what it refuses, and that its checkpoints are as good as our own."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from congling.core import artifact
from congling.core.errors import UserError
from congling.infer.checkpoints import load_checkpoint
from congling.interop import checkpoint_directory
from congling.interop.detect import kind_of
from congling.interop.hf import model as hf
from congling.methods import conversion, importing
from congling.quant.config import FACT
from congling.stages import generate
from congling.transform import lora
from congling.transform.config import AdapterConfig
from support.coded_models import coded_model
from support.tiny_checkpoint import TOKENIZER, write

PICKLE = b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x07echo hi\x85R."


@pytest.mark.parametrize("version", [0, 2])
def test_an_import_writes_text(tmp_path: Path, version: int):
    """Of the 8-bit version too, where runq rounds what flows through the model: no difference to report."""
    exported = conversion.run(
        write(tmp_path / "checkpoint"), "llama2c", tmp_path / "export", version=version, verify=False
    )
    done = importing.run(exported.path, tmp_path / "base")
    assert done.report is not None and done.report.misses == []
    (text,) = generate.run(tmp_path / "base", ["学而时习之"], max_new_tokens=5)
    assert isinstance(text, str)
    done.checkpoint.verify()
    assert (tmp_path / "base.parity.json").is_file()  # not in it: it would change the fingerprint
    assert not (tmp_path / "base" / "parity.json").exists()


def test_an_import_reports_where_it_comes_from_and_what_to_do_next(tmp_path: Path, call):
    exported = conversion.run(write(tmp_path / "checkpoint"), "llama2c", tmp_path / "export", verify=False)
    said = call("import", str(exported.path), "--out", "base", "--no-verify").stdout
    assert "the report is base/report/report.html" in said and "\n  congling chat base\n" in said
    page = (tmp_path / "base/report/report.html").read_text("utf-8")
    assert "imported from llama2c" in page and "Where it comes from" in page and ">None<" not in page
    artifact.opened(tmp_path / "base", "checkpoint", verify=True)
    assert "report.html" in call("report", "base").stdout


def test_a_model_without_tokenizer_needs_one(tmp_path: Path):
    made = conversion.run(write(tmp_path / "checkpoint"), "llama2c", tmp_path / "export", verify=False)
    (made.path / "tokenizer.bin").unlink()
    with pytest.raises(UserError, match="--tokenizer"):
        importing.run(made.path, tmp_path / "base", verify=False)
    assert not (tmp_path / "base").exists()
    words = tmp_path / "checkpoint" / "tokenizer"
    done = importing.run(made.path, tmp_path / "base", tokenizer=words, verify=False)
    assert artifact.opened(done.checkpoint.path / "tokenizer", "tokenizer")


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tmp_path: Path):
    made = conversion.run(
        write(tmp_path / "a", vocab_size=TOKENIZER.vocab_size), "llama2c", tmp_path / "export", verify=False
    )
    from congling.tokenizer import store
    from congling.tokenizer.character import CharacterTokenizer

    with artifact.writing(tmp_path / "larger", "tokenizer") as folder:
        store.save(CharacterTokenizer(TOKENIZER.characters + "龍鳳"), folder)
    with pytest.raises(UserError, match="more ids"):
        importing.run(made.path, tmp_path / "base", tokenizer=tmp_path / "larger", verify=False)


@pytest.mark.parametrize(("template", "said"), [
    ("{{ messages[0].content | sort_by_magic }}", "conversations cannot be written here"),
    ("{% for m in messages %}{{ m.content }}", "conversations cannot be written here"),
    ("{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
     "{{ m.content }}<|im_end|>{% endfor %}", None),
])  # fmt: skip
def test_a_template_that_cannot_run_here_is_said_at_import(tmp_path: Path, template: str, said: str | None):
    made = conversion.run(write(tmp_path / "checkpoint"), "hf", tmp_path / "export", verify=False)
    (made.path / "chat_template.jinja").write_text(template, encoding="utf-8")
    settings = json.loads((made.path / "tokenizer_config.json").read_text("utf-8"))
    (made.path / "tokenizer_config.json").write_text(
        json.dumps(settings | {"chat_template": template}), encoding="utf-8"
    )
    done = importing.run(made.path, tmp_path / "base", verify=False)
    found = [note for note in done.notes if "conversations cannot be written" in note]
    assert (len(found) == 1 and said in found[0] and "sft template=" in found[0]) if said else not found


def test_our_own_is_not_imported(tmp_path: Path):
    with pytest.raises(UserError, match="ours already"):
        importing.run(write(tmp_path / "checkpoint"), tmp_path / "base")


@pytest.mark.parametrize(
    "name", ["model.gguf", "model.safetensors", "model.bin", "tokenizer.model", "x.json"]
)
def test_a_pickle_is_refused_by_content(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(PICKLE)
    with pytest.raises(UserError, match="pickle"):
        importing.run(tmp_path / name, tmp_path / "base")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "ckpt.pt"])
def test_a_folder_with_a_pickle_says_so(tmp_path: Path, name: str):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_bytes(PICKLE)
    with pytest.raises(UserError, match="pickle"):
        kind_of(tmp_path / "folder")


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 300, b"{", b"GGUF", b"algg", b"24ka"])
def test_anything_else_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match="x"):
        importing.run(tmp_path / "x", tmp_path / "base")
    with pytest.raises(UserError, match="no such"):
        importing.run(tmp_path / "nothing", tmp_path / "base")


def test_a_class_with_code_of_its_own_is_imported_but_not_checked(tmp_path: Path):
    """Importing fails neither before nor after the checkpoint is written; asked to check, it says why not."""
    pytest.importorskip("transformers")
    from congling.tokenizer import store
    from support.foreign_folders import MAKERS

    MAKERS["minicpm"][0](tmp_path / "folder", TOKENIZER.vocab_size)
    with artifact.writing(tmp_path / "words", "tokenizer") as folder:
        store.save(TOKENIZER, folder)
    done = importing.run(tmp_path / "folder", tmp_path / "base", tokenizer=tmp_path / "words")
    assert done.report is None and "MiniCPMForCausalLM" in done.notes[-1]
    with pytest.raises(UserError, match="code of its own"):
        importing.run(tmp_path / "folder", tmp_path / "other", tokenizer=tmp_path / "words", verify=True)
    assert not (tmp_path / "other").exists()


FOLDERS: list[Any] = [
    ("GPTQ", {"sym": False}, {"method": "gptq", "bits": 4, "group_size": 32, "sym": False}),
    ("AWQ", {"sym": False}, {"method": "awq", "bits": 4, "group_size": 32, "sym": False}),
    ("CT", {"bits": 3}, {"method": "compressed-tensors", "bits": 3, "group_size": 32, "sym": True}),
    ("BNB", {"int8": 6.0}, {"method": "bitsandbytes", "bits": 8, "group_size": -1, "sym": True}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "made", "fact"), FOLDERS, ids=[case[0] for case in FOLDERS])
def test_a_folder_in_few_bits_stays_so(kind: Any, made: dict[str, Any], fact: dict[str, Any], tmp_path: Path):
    hf.write(coded_model(**made, tokenizer=TOKENIZER, num_hidden_layers=1), tmp_path / "folder", kind)
    done = importing.run(tmp_path / "folder", tmp_path / "base", verify=False)
    assert any("stay in few bits" in note for note in done.notes)
    assert fact.items() <= done.checkpoint.facts[FACT].items()
    done.checkpoint.verify()
    (text,) = generate.run(tmp_path / "base", ["学而时习之"], max_new_tokens=5)
    assert isinstance(text, str)
    model = load_checkpoint(tmp_path / "base").model
    lora.attach(model, AdapterConfig(r=2))
    model(torch.tensor([[3, 4, 5]])).square().sum().backward()
    assert any(one.grad is not None for one in model.parameters() if one.requires_grad)
    conversion.run(tmp_path / "base", "hf", tmp_path / "again", type=kind, verify=False)
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "folder" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_a_folder_in_few_bits_may_become_floats(tmp_path: Path, call: Any):
    model = coded_model(tokenizer=TOKENIZER, num_hidden_layers=1)
    hf.write(model, tmp_path / "folder", "GPTQ")
    said = call("import", "folder", "--out", "base", "--dequantize", "--no-verify").stdout
    assert "were unpacked" in said
    found = checkpoint_directory.read(tmp_path / "base")
    assert not found.layers and FACT not in found.facts
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in model.weights.items())
