"""Damaged and hostile Hugging Face folders give one message, soon, and never a model."""

import json
import pickle
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from congling.core.errors import UserError
from congling.interop.foreign import ForeignModel
from congling.interop.hf.model import read, write
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "max_position_embeddings": 32,
    "num_hidden_layers": 2,
    "hidden_size": 64,
}
FILE, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"


def built(folder: Path, family: str, **changes: Any) -> Path:
    model = Transformer(FAMILIES[family](**SIZES, **changes))
    write(ForeignModel(model.config, model.state_dict()), folder)
    return folder


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        found = load_file(folder / FILE)
        change(found)
        save_file(found, folder / FILE)

    return damage


def config(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        values = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(values | changes))

    return damage


def index(**table: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / FILE).rename(folder / "part.safetensors")
        (folder / INDEX).write_text(json.dumps(table))

    return damage


def content(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


def pickled(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / FILE).unlink()
        (folder / name).write_bytes(pickle.dumps({"model.norm.weight": [1.0]}))

    return damage


def headed(header: str) -> bytes:
    return len(header).to_bytes(8, "little") + header.encode()


def two_parts(folder: Path) -> None:
    (folder / "a.safetensors").write_bytes((folder / FILE).read_bytes())
    index(weight_map={"x": "a.safetensors", "y": "part.safetensors"})(folder)


BEYOND = json.dumps({"model.norm.weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})
OVERLAP = json.dumps(
    {
        name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
        for name in ("model.norm.weight", "lm_head")
    }
)
DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no configuration": (lambda folder: (folder / CONFIG).unlink(), CONFIG),
    "no weights": (lambda folder: (folder / FILE).unlink(), FILE),
    "configuration no JSON": (content(CONFIG, b"{"), "JSON"),
    "configuration not UTF-8": (content(CONFIG, b"\xff\xfe{}"), "JSON"),
    "configuration a list": (content(CONFIG, b"[]"), "object"),
    "configuration nested": (content(CONFIG, b"[" * 100_000), "JSON"),
    "configuration huge": (content(CONFIG, b" " * 2**23), "too large"),
    "weights cut": (lambda folder: (folder / FILE).write_bytes((folder / FILE).read_bytes()[:9000]), FILE),
    "weights empty": (content(FILE, b""), FILE),
    "header of 2^63 bytes": (content(FILE, b"\xff" * 7 + b"\x7f" + b"{}"), FILE),
    "tensor beyond the file": (content(FILE, headed(BEYOND)), FILE),
    "tensors overlap": (content(FILE, headed(OVERLAP) + bytes(8)), FILE),
    "pickle of the usual name": (pickled("pytorch_model.bin"), "no checkpoint that torch saved"),
    "pickle under our name": (pickled(FILE), "pickle under another name"),
    "zip under our name": (content(FILE, b"PK\x03\x04" + bytes(60)), "pickle under another name"),
    "tensor lost": (tensors(lambda t: t.pop("model.norm.weight")), "missing.*model.norm.weight"),
    "tensor more": (tensors(lambda t: t.update(extra=torch.ones(1))), "extra"),
    "tensor of another shape": (
        tensors(lambda t: t.update({"model.norm.weight": torch.ones(65)})), r"wrong shape, \(64,\).*65",
    ),
    "whole numbers": (tensors(lambda t: t.update({"model.norm.weight": torch.ones(64).long()})), "I64"),
    "expert lost": (
        tensors(lambda t: t.pop("model.layers.1.mlp.experts.3.up_proj.weight")), "experts.3.up_proj",
    ),
    "expert within lost": (
        tensors(lambda t: t.pop("model.layers.1.mlp.experts.2.up_proj.weight")), "experts.2.up_proj",
    ),
    "expert of another shape": (
        tensors(lambda t: t.update({"model.layers.1.mlp.experts.2.up_proj.weight": torch.ones(3, 64)})),
        "experts.2.up_proj.weight has the wrong shape",
    ),
    "endless layers": (config(num_hidden_layers=2**31 - 1), "more layers"),
    "endless experts": (config(num_experts=2**31 - 1), r"wrong shape, \(2147483647, 64\)"),
    "endless width": (config(hidden_size=2**31 - 2, head_dim=64), "does not exist|wrong shape|missing"),
    "endless words": (config(vocab_size=2**31 - 1), "wrong shape"),
    "another model's configuration": (config(hidden_size=128), "wrong shape.*\n.*another config.json"),
    "index outside": (index(weight_map={"x": "../part.safetensors"}), "outside its folder"),
    "index absolute": (index(weight_map={"x": "/etc/passwd"}), "outside its folder"),
    "index to another kind": (index(weight_map={"x": CONFIG}), "outside its folder"),
    "index to a lost part": (index(weight_map={"x": "lost.safetensors"}), "missing.*lost.safetensors"),
    "index of nothing": (index(weight_map={}), "weight_map"),
    "index of a list": (index(weight_map=["part.safetensors"]), "weight_map"),
    "tensors twice": (two_parts, "stored twice"),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(
        tmp_path_factory.mktemp("hf") / "whole", "qwen3-moe", num_experts=4, tie_word_embeddings=False
    )


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_soon_and_cheaply(whole: Path, tmp_path: Path, damage: str):
    for file in whole.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    change, message = DAMAGE[damage]
    change(tmp_path)
    begun = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=message):
            read(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - begun < 60  # a hang, on a machine however slow


def test_a_part_that_lies_elsewhere_in_a_cache_is_read(whole: Path, tmp_path: Path):
    """Model caches keep links to files named by their hash."""
    for file in whole.iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert read(tmp_path).weights["norm.weight"].shape == (64,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read_as_float32(tmp_path: Path, dtype: torch.dtype):
    folder = built(tmp_path / "hf", "gpt2")
    stored = {name: tensor.to(dtype) for name, tensor in load_file(folder / FILE).items()}
    save_file(stored, folder / FILE)
    weights = read(folder).weights
    assert {weights[name].dtype for name in weights} == {torch.float32}
    assert torch.equal(weights["embedding.weight"], stored["transformer.wte.weight"].float())


def test_gpt2_without_a_prefix_and_with_its_masks_is_read(tmp_path: Path):
    folder = built(tmp_path / "hf", "gpt2")
    stored = {name.removeprefix("transformer."): t for name, t in load_file(folder / FILE).items()}
    expected = dict(read(folder).weights)
    stored["h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
    save_file(stored, folder / FILE)
    found = read(folder).weights
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("type", ["F16", "BF16"])
def test_weights_are_written_in_half_precision(tmp_path: Path, type: str):
    model = Transformer(FAMILIES["qwen3-moe"](**SIZES, num_experts=4))
    write(ForeignModel(model.config, model.state_dict()), tmp_path / "hf", type)
    dtype = {"F16": torch.float16, "BF16": torch.bfloat16}[type]
    stored = load_file(tmp_path / "hf" / FILE)
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert torch.equal(stored["model.norm.weight"], model.state_dict()["norm.weight"].to(dtype))
    assert str(dtype).endswith(json.loads((tmp_path / "hf" / CONFIG).read_text())["torch_dtype"])


def test_a_failed_conversion_leaves_nothing(tmp_path: Path):
    model = Transformer(FAMILIES["llama"](**SIZES))
    weights = {name: t for name, t in model.state_dict().items() if name != "norm.weight"}
    with pytest.raises(KeyError, match="norm.weight"):
        write(ForeignModel(model.config, weights), tmp_path / "hf")
    with pytest.raises(UserError, match="Q8_0.*\n.*BF16"):
        write(ForeignModel(model.config, model.state_dict()), tmp_path / "hf", "Q8_0")
    alibi = Transformer(FAMILIES["baichuan"](**SIZES))
    with pytest.raises(UserError, match="GGUF"):
        write(ForeignModel(alibi.config, alibi.state_dict()), tmp_path / "hf")
    assert list(tmp_path.iterdir()) == []


def test_the_card_counts_and_promises_nothing(tmp_path: Path):
    model = Transformer(FAMILIES["deepseek-moe"](**SIZES))
    facts = {"name": "小词典", "notes": ["merged from two adapters"], "step": 1200, "tokens": 4.8e6}
    assert write(ForeignModel(model.config, model.state_dict(), None, facts), tmp_path / "hf") == []
    card = (tmp_path / "hf" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n") and "# 小词典" in card and "merged from two adapters" in card
    assert "1,200 steps, 4,800,000 tokens" in card
    assert f"{sum(p.numel() for p in model.parameters()):,}" in card and "32 tokens" in card
    assert "no licence" in card and "not known to have been tuned" in card
    assert json.loads((tmp_path / "hf" / "configuration.json").read_text())["task"] == "text-generation"


def test_another_head_beside_a_tied_embedding_is_used(tmp_path: Path):
    """As after merging an adapter into the output matrix; a copy of the embedding stays tied."""
    folder = built(tmp_path / "hf", "llama", tie_word_embeddings=True)
    stored = load_file(folder / FILE)
    stored["lm_head.weight"] = stored["model.embed_tokens.weight"].clone()
    save_file(stored, folder / FILE)
    assert read(folder).config.tie_word_embeddings
    stored["lm_head.weight"] = stored["lm_head.weight"] + 1
    save_file(stored, folder / FILE)
    found = read(folder)
    assert not found.config.tie_word_embeddings
    assert torch.equal(found.weights["head.weight"], stored["lm_head.weight"])
    assert any("untied" in note for note in found.facts["notes"])


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "-model."])
def test_names_of_compiled_distributed_and_headless_models(tmp_path: Path, prefix: str):
    folder = built(tmp_path / "hf", "llama", tie_word_embeddings=True)
    stored = load_file(folder / FILE)
    lost = prefix.removeprefix("-") if prefix.startswith("-") else ""
    more = "" if lost else prefix
    expected = dict(read(folder).weights)
    save_file({more + name.removeprefix(lost): tensor for name, tensor in stored.items()}, folder / FILE)
    found = read(folder).weights
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_missing_tensor_is_told_with_what_is_there(tmp_path: Path):
    folder = built(tmp_path / "hf", "llama", tie_word_embeddings=True)
    stored = {f"backbone.{name}": tensor for name, tensor in load_file(folder / FILE).items()}
    save_file(stored, folder / FILE)
    with pytest.raises(UserError, match="model.embed_tokens.weight.*\n.*tensors, the first backbone"):
        read(folder)
