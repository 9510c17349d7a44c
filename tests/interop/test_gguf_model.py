"""GGUF models as other programs write them, and what we refuse instead of computing something else."""

from pathlib import Path

import numpy as np
import pytest
import torch

from congling.core.errors import UserError
from congling.infer.checkpoints import load_checkpoint
from congling.interop.assembly import transformer
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import vocabulary
from congling.interop.gguf.arrangement import to_half_split, to_interleaved
from congling.interop.gguf.file import Field, GGUFFile
from congling.interop.gguf.model import read, write
from congling.interop.gguf.names import gguf_name, our_name
from congling.methods.base_model import open_base
from congling.model import families
from congling.model.transformer import Transformer
from congling.quant import ggml
from congling.tokenizer.character import train
from support.gguf_models import rewritten

LLAMA = families.llama(
    vocab_size=300,
    max_position_embeddings=64,
    num_hidden_layers=2,
    hidden_size=64,
    num_attention_heads=4,
    tie_word_embeddings=False,
)


def llama(**changes: object) -> Transformer:
    torch.manual_seed(1)
    return Transformer(LLAMA.replace(**changes))


def saved(folder: Path, model: Transformer | None = None, type: str = "F32", **fields: Field) -> Path:
    model = model or llama()
    keys = {name.replace("__", "."): field for name, field in fields.items()}
    write(ForeignModel(model.config, model.state_dict()), folder / "m.gguf", type, keys)
    return folder / "m.gguf"


def test_rows_of_rotated_heads_in_the_documented_order():
    rows = np.arange(16)
    assert to_interleaved(rows, 2).tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    assert to_half_split(to_interleaved(rows, 2), 2).tolist() == rows.tolist()
    tensor = torch.randn(16, 5)
    assert torch.equal(to_half_split(to_interleaved(tensor, 4), 4), tensor)


def test_every_parameter_has_one_name_there_and_back():
    for config in (
        LLAMA,
        families.gpt2(vocab_size=300, max_position_embeddings=64, num_hidden_layers=1, hidden_size=64),
        families.deepseek_moe(
            vocab_size=300, max_position_embeddings=64, num_hidden_layers=2, hidden_size=64
        ),
    ):
        for architecture in ("llama", "glm4moe"):
            for name in Transformer(config).state_dict():
                assert our_name(gguf_name(name, architecture), architecture) == name
    assert our_name("blk.0.attn_qkv.weight", "llama") is None
    assert our_name("blk.0.nonsense.weight", "llama") is None


def test_a_file_as_train_text_from_scratch_writes_it(tmp_path):
    """No key for key/value heads, none for scaling but the old one, "none" ids of 2^32-1, its own order."""
    model = llama()
    path = saved(tmp_path, model)

    def older(keys: dict[str, Field], arrays: dict[str, np.ndarray]) -> None:
        for key in ("llama.attention.head_count_kv", "llama.vocab_size", "general.type"):
            del keys[key]
        keys["llama.rope.scale_linear"] = Field("f32", 1.0)
        keys["tokenizer.ggml.seperator_token_id"] = Field("u32", 2**32 - 1)
        for name in ("token_embd.weight", "output_norm.weight", "output.weight"):
            arrays[name] = arrays.pop(name)

    found = read(rewritten(path, older))
    assert found.config == model.config
    assert all(torch.equal(found.weights[name], value) for name, value in model.state_dict().items())


def test_queries_keys_and_values_in_one_matrix(tmp_path):
    model = llama(tie_word_embeddings=True)
    path = saved(tmp_path, model)

    def fuse(keys: dict[str, Field], arrays: dict[str, np.ndarray]) -> None:
        for layer in range(2):
            parts = [arrays.pop(f"blk.{layer}.attn_{part}.weight") for part in "qkv"]
            arrays[f"blk.{layer}.attn_qkv.weight"] = np.concatenate(parts)

    found = read(rewritten(path, fuse))
    assert found.config.tie_word_embeddings
    assert all(torch.equal(found.weights[name], value) for name, value in model.state_dict().items())


def test_sizes_given_for_every_layer_alike(tmp_path):
    path = saved(tmp_path, llama__attention__head_count=Field("array:i32", [4, 4]))
    assert read(path).config == LLAMA


def test_a_model_keeps_its_name_and_says_what_it_is_made_of(tmp_path):
    model = llama()
    path = tmp_path / "m.gguf"
    write(ForeignModel(model.config, model.state_dict(), facts={"name": "聲律"}), path, "Q8_0")
    found = read(path)
    assert found.facts["name"] == "聲律"
    assert found.facts["types"] == {"Q8_0": 16, "F32": 5}
    assert GGUFFile.open(path).integer("general.quantization_version") == 2
    assert transformer(found).config == model.config


def test_whether_a_model_was_tuned_for_chat_survives(tmp_path):
    model = llama()
    for chat in (True, False):
        write(ForeignModel(model.config, model.state_dict(), facts={"chat": chat}), tmp_path / f"{chat}.gguf")
        assert read(tmp_path / f"{chat}.gguf").facts["chat"] is chat


OPENERS = {
    "import": lambda path: read(path).facts["chat"],
    "generate": lambda path: load_checkpoint(path).tuned_for_chat,
    "train": lambda path: open_base(path).chat,
}


@pytest.mark.parametrize("opened", OPENERS.values(), ids=OPENERS)
def test_every_way_to_open_a_file_says_the_same_of_it(opened, tmp_path):
    model, words = llama(), train({character: 9 for character in "天地玄黄"}, vocab_size=263)
    for chat in (True, False):
        path = tmp_path / f"{chat}.gguf"
        write(ForeignModel(model.config, model.state_dict(), words, {"chat": chat}), path)
        assert opened(path) is chat
    many = vocabulary.fields(words, vocab_size=300) | {
        "tokenizer.ggml.tokens": Field("array:string", [f"token {i}" for i in range(301)]),
        "tokenizer.ggml.token_type": Field("array:i32", [3, *[1] * 300]),
        "tokenizer.ggml.scores": Field("array:f32", [0.0] * 301),
    }
    with pytest.raises(UserError, match=r"more tokens than(.|\n)*changed"):
        opened(rewritten(path, lambda keys, arrays: keys.update(many)))


def test_rows_that_no_k_quant_fits_are_noted(tmp_path):
    pytest.importorskip("xllamacpp")
    model = llama()
    notes = write(ForeignModel(model.config, model.state_dict()), tmp_path / "m.gguf", "Q4_K_M")
    assert any("Q5_0" in note and "256" in note for note in notes)
    assert set(read(tmp_path / "m.gguf").facts["types"]) <= {"F32", "Q5_0", "Q8_0", "F16", "Q6_K"}


def test_tensors_are_made_one_at_a_time(tmp_path):
    model, alive, most = llama(), 0, 0

    class Counted(dict):
        def __getitem__(self, name: str) -> torch.Tensor:
            nonlocal alive, most
            value = super().__getitem__(name).clone()
            alive += 1
            most = max(most, alive)
            alive -= 1
            return value

    write(ForeignModel(model.config, Counted(model.state_dict())), tmp_path / "m.gguf", "F16")
    assert most == 1
    assert read(tmp_path / "m.gguf").config == model.config


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("general.architecture", Field("string", "mamba")),
        ("general.type", Field("string", "adapter")),
        ("split.count", Field("u16", 2)),
        ("llama.block_count", Field("u32", 2**32 - 1)),
        ("llama.block_count", Field("u32", 3)),
        ("llama.block_count", Field("u32", 1)),
        ("llama.block_count", Field("f32", 2.0)),
        ("llama.embedding_length", Field("u32", 32)),
        ("llama.embedding_length", Field("u32", 0)),
        ("llama.attention.head_count", Field("u32", 0)),
        ("llama.attention.head_count", Field("u32", 3)),
        ("llama.attention.head_count", Field("array:i32", [4, 2])),
        ("llama.attention.head_count_kv", Field("u32", 2)),
        ("llama.attention.key_length", Field("u32", 32)),
        ("llama.attention.layer_norm_rms_epsilon", Field("f32", float("nan"))),
        ("llama.attention.layer_norm_rms_epsilon", Field("f32", -1.0)),
        ("llama.feed_forward_length", Field("u32", 2**31)),
        ("llama.rope.dimension_count", Field("u32", 8)),
        ("llama.rope.scaling.type", Field("string", "dynamic")),
        ("llama.expert_count", Field("u32", 4)),
        ("llama.attention.scale", Field("f32", 0.5)),
        ("llama.attention.causal", Field("bool", False)),
        ("llama.logit_scale", Field("f32", 2.0)),
        ("llama.logit_scale", Field("array:f32", [1.0, 1.0])),
    ],
)
def test_settings_we_do_not_compute_or_that_contradict_the_tensors(key, field, tmp_path):
    path = saved(tmp_path)

    def change(keys: dict[str, Field], arrays: dict[str, np.ndarray]) -> None:
        keys[key] = field
        if key.endswith("scaling.type"):
            keys["llama.rope.scaling.factor"] = Field("f32", 4.0)

    with pytest.raises(UserError):
        read(rewritten(path, change))


@pytest.mark.parametrize("name", ["blk.0.attn_q.weight", "output_norm.weight", "token_embd.weight"])
def test_a_missing_tensor_is_named(name, tmp_path):
    path = saved(tmp_path)
    with pytest.raises(UserError, match=name):
        read(rewritten(path, lambda keys, arrays: arrays.pop(name)))


@pytest.mark.parametrize(
    "name", ["blk.0.ffn_up.bias", "blk.0.attn_q_norm.bias", "blk.7.attn_q.weight", "extra"]
)
def test_a_tensor_we_would_ignore_is_refused(name, tmp_path):
    path = saved(tmp_path)

    def add(keys: dict[str, Field], arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = np.ones(64, np.float32)

    with pytest.raises(UserError, match=name):
        read(rewritten(path, add))


def test_weights_that_are_not_those_of_the_configuration(tmp_path):
    model = llama()
    weights = dict(model.state_dict())
    del weights["norm.weight"]
    with pytest.raises(UserError, match=r"norm\.weight"):
        write(ForeignModel(model.config, weights), tmp_path / "m.gguf")
    with pytest.raises(UserError, match="finite"):
        broken = model.state_dict() | {"blocks.0.mlp.up.weight": torch.full((192, 64), torch.nan)}
        write(ForeignModel(model.config, broken), tmp_path / "m.gguf", "Q8_0")
    assert not list(tmp_path.iterdir())


def test_bytes_that_are_no_text_break_no_message(tmp_path):
    path = saved(tmp_path, general__name=Field("string", "m\udcff"))
    assert read(path).facts["name"] == "m?"
    other = rewritten(path, lambda keys, arrays: keys.update({"general.type": Field("string", "m\udcff")}))
    with pytest.raises(UserError) as raised:
        read(other)
    assert str(raised.value).encode()


def test_an_output_that_exists_is_kept(tmp_path):
    path = saved(tmp_path)
    with pytest.raises(UserError, match="exists"):
        saved(tmp_path)
    assert ggml.TYPES["F32"].number == 0
    assert read(path).config == LLAMA
