"""``finetune`` and ``export-lora``: adapters on packed bases, and what the real llama.cpp makes of them."""

import struct
from functools import partial

import numpy as np
import pytest
import torch

from congling.core.errors import UserError
from congling.evals.conversion.parity import logits_of
from congling.infer.checkpoints import load_checkpoint
from congling.interop.adapters.any import read_any
from congling.interop.engines.llama_cpp import LlamaCpp
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.interop.gguf.config import config_from
from congling.interop.gguf.file import GGUFFile
from congling.interop.llamacpp_checkpoint import progress_of
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.tokenizer.imported import read
from support.classic_runs import TEXT, losses, make_inputs, merge, train, tune

IDS = [1, 9, 12, 5, 30, 41, 7, 8]
CHECKPOINTS = "--checkpoint-in chk-LATEST.gguf --checkpoint-out chk-ITERATION.gguf"
NONE = ("--checkpoint-in", "", "--checkpoint-out", "")


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """A folder with a trained model in several types."""
    folder = tmp_path_factory.mktemp("bases")
    make_inputs(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train("--adam-iter 150 --embd 64 --fit-schedule --norms-at-one", "--model-out", "f32.gguf", *NONE)
        for kind in ("Q8_0", "F16", "BF16"):
            gguf_model.write(gguf_model.read("f32.gguf"), f"{kind.lower()}.gguf", type=kind)
    return folder


@pytest.fixture
def here(bases, tmp_path, monkeypatch):
    for file in bases.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("base", ["f32", "f16", "bf16", "q8_0"])
@pytest.mark.parametrize("format", ["bin", "gguf"])
def test_training_lowers_the_loss_and_writes_the_adapter_twice(here, base, format):
    names = f"{CHECKPOINTS} --lora-out lora-ITERATION.{format}"
    lines = tune(f"--model-base {base}.gguf --adam-iter 24 --save-every 10 --use-checkpointing {names}")
    assert np.mean(losses(lines)[-4:]) < 0.7 * np.mean(losses(lines)[:4])
    written = sorted(path.name for path in here.glob(f"lora-*.{format}"))
    assert written == [f"lora-{label}.{format}" for label in ("10", "20", "24", "LATEST")]
    assert (here / f"{base}.gguf").resolve().read_bytes()[:4] == b"GGUF"
    assert f"save_as_llama_lora: saving to lora-20.{format}" in lines


def test_checkpoint_keys_and_tensors(here):
    tune(f"--model-base f32.gguf --adam-iter 3 --lora-r 3 --rank-wq 2 --lora-out x.bin {CHECKPOINTS}")
    file = GGUFFile.open("chk-3.gguf")
    ranks = {key.rpartition(".")[2]: file.value(key) for key in file.fields if ".rank." in key}
    assert ranks == {
        "token_embd": 3,
        "output_norm": 1,
        "output": 3,
        "attn_norm": 1,
        "attn_q": 2,
        "attn_k": 3,
        "attn_v": 3,
        "attn_output": 3,
        "ffn_norm": 1,
        "ffn_gate": 3,
        "ffn_down": 3,
        "ffn_up": 3,
    }
    assert (file.value("training.type"), progress_of(file).iterations) == ("finetune_lora", 3)
    shapes = {name: info.shape for name, info in file.tensors.items()}
    assert shapes["blk.0.attn_q.weight.lora_a"] == (64, 2)
    assert shapes["blk.0.attn_q.weight.lora_b"] == (64, 2)
    assert shapes["blk.1.ffn_up.weight.lora_a"] == (64, 3)
    assert shapes["output_norm.weight.lora_a"] == (64, 1)
    assert shapes["output_norm.weight.lora_b"] == (1, 1)
    vocabulary = GGUFFile.open("f32.gguf").info("token_embd.weight").shape[0]
    assert shapes["token_embd.weight.lora_b"] == (vocabulary, 3)
    assert list(shapes)[:6] == [
        f"{name}.weight.lora_{side}" for name in ("token_embd", "output_norm", "output") for side in "ab"
    ]


def test_the_former_formats_header_and_records(here):
    tune("--model-base f32.gguf --adam-iter 3 --lora-r 3 --lora-alpha 6 --lora-out x.bin", *NONE)
    data = (here / "x.bin").read_bytes()
    assert struct.unpack_from("<4sIii", data) == (b"algg", 1, 3, 6)
    dimensions, length, kind = struct.unpack_from("<III", data, 16)
    assert (dimensions, kind) == (2, 0)
    assert data[28 + 8 : 28 + 8 + length] == b"token_embd.weight.loraA"


@pytest.mark.parametrize("format", ["bin", "gguf"])
def test_stopping_and_going_on_is_an_uninterrupted_run(here, format):
    words = f"--model-base q8_0.gguf --lora-out lora-ITERATION.{format}"
    tune(f"{words} --adam-iter 20 --checkpoint-out whole-ITERATION.gguf", "--checkpoint-in", "")
    whole = (here / f"lora-20.{format}").read_bytes()
    for _ in range(2):
        tune(f"{words} --adam-iter 10 {CHECKPOINTS}")
    assert (here / "chk-20.gguf").read_bytes() == (here / "whole-20.gguf").read_bytes()
    assert (here / f"lora-20.{format}").read_bytes() == whole


def test_two_scaled_adapters_act_in_llama_cpp_as_here_and_as_merged(here):
    pytest.importorskip("xllamacpp")
    for seed, name, text in (("3", "a", "other.txt"), ("4", "b", "text.txt")):
        words = (
            f"--model-base f32.gguf --adam-iter 25 --lora-out {name}.gguf --train-data {text} --seed {seed}"
        )
        tune(words, *NONE)
    adapters = [("a.gguf", 0.4), ("b.gguf", 0.8)]
    with LlamaCpp("f32.gguf") as engine:
        plain = engine.logits(IDS)
    with LlamaCpp("f32.gguf", adapters=adapters) as engine:
        theirs = engine.logits(IDS)
    model = load_checkpoint("f32.gguf", "cpu", adapters=adapters).model
    with torch.no_grad():
        ours = model.logits(model(torch.tensor([IDS])))[0].numpy()
    assert np.abs(theirs - plain).max() > 0.5
    assert np.abs(theirs - ours).max() < 1e-3
    lines = merge("-m f32.gguf -o merged.gguf -s a.gguf 0.4 --lora-scaled b.gguf 0.8")
    assert lines[-1] == "export_lora: 16 tensors merged, saved to merged.gguf"
    with LlamaCpp("merged.gguf") as engine:
        assert np.abs(engine.logits(IDS) - theirs).max() < 1e-3


def test_merging_keeps_types_keys_and_what_is_not_adapted(here):
    only = "--rank-tok-embd 0 --rank-out 0 --rank-wk 0"
    tune(f"--model-base q8_0.gguf --adam-iter 8 --lora-out a.bin {only}", *NONE)
    merge("-m q8_0.gguf -o merged.gguf -l a.bin")
    before, after = GGUFFile.open("q8_0.gguf"), GGUFFile.open("merged.gguf")
    assert {key: field.type for key, field in after.fields.items()} == {
        key: field.type for key, field in before.fields.items()
    }
    assert {name: info.type for name, info in after.tensors.items()} == {
        name: info.type for name, info in before.tensors.items()
    }
    same = {name for name in before.tensors if np.array_equal(before.raw(name), after.raw(name))}
    assert {"token_embd.weight", "output.weight", "blk.0.attn_k.weight"} <= same
    assert not {"output_norm.weight", "blk.1.ffn_up.weight", "blk.0.attn_q.weight"} & same
    adapter = read_any("a.bin", config_from(before), "llama")
    gain = before.array("output_norm.weight") + adapter.factors["norm.weight"].delta()[:, 0].numpy()
    assert np.allclose(after.array("output_norm.weight"), gain, atol=1e-6)
    merge("-m q8_0.gguf -o f16.out -l a.bin -l a.bin --type F16")
    assert GGUFFile.open("f16.out").info("blk.1.ffn_up.weight").type == "F16"


def trained_delta(name, alpha_flags):
    """The change that the checkpoint holds and the one that the adapter file makes, of one matrix."""
    tune(
        f"--model-base f32.gguf --adam-iter 6 --lora-r 2 --lora-out {name}.gguf {alpha_flags}",
        "--checkpoint-in",
        "",
        "--checkpoint-out",
        f"{name}-chk.gguf",
    )
    file, base = GGUFFile.open(f"{name}-chk.gguf"), GGUFFile.open("f32.gguf")
    stem = "blk.0.ffn_up.weight.lora_"
    stored = file.array(stem + "b") @ file.array(stem + "a").T
    made = (
        read_any(f"{name}.gguf", config_from(base), "llama").factors["blocks.0.mlp.up.weight"].delta().numpy()
    )
    return stored, made


def test_alpha_is_applied_where_the_adapter_is_loaded_and_on_wish_in_training(here):
    plain, loaded = trained_delta("plain", "")
    assert np.allclose(plain, loaded, atol=1e-7)
    stored, loaded = trained_delta("alpha", "--lora-alpha 8")
    assert np.allclose(stored, plain, atol=1e-7)  # training knows no alpha
    assert np.allclose(loaded, 4 * stored, atol=1e-6)
    stored, loaded = trained_delta("scaled", "--lora-alpha 8 --lora-scale-in-training")
    assert np.abs(stored - plain).max() > 1e-4
    assert np.allclose(loaded, 4 * stored, atol=1e-6)


def test_habits_are_named(here):
    lines = tune("--model-base f32.gguf --adam-iter 1 --lora-alpha 8 --lora-out x.bin", *NONE)
    notes = " ".join(line for line in lines if line.startswith("main: note: "))
    for flag in ("--lora-scale-in-training", "--lora-out NAME.gguf", "--held-out", "--fit-schedule"):
        assert flag in notes
    assert "main: model base = 'f32.gguf'" in lines
    lines = tune("--model-base f32.gguf --adam-iter 1 --lora-out x.gguf", *NONE)
    assert any("norm gains are not trained" in line for line in lines)


def test_norm_gains_of_a_checkpoint_go_on_being_trained(here):
    tune(f"--model-base f32.gguf --adam-iter 2 --lora-out x.bin {CHECKPOINTS}")
    lines = tune(f"--model-base f32.gguf --adam-iter 2 --lora-out x.gguf {CHECKPOINTS}")
    assert any("leaves out the norm gains" in line for line in lines)
    assert GGUFFile.open("chk-4.gguf").value("training.lora.rank.attn_norm") == 1


def test_only_writing_the_adapter(here):
    tune(f"--model-base f32.gguf --adam-iter 2 --lora-out x-ITERATION.bin {CHECKPOINTS}")
    lines = tune(f"--model-base f32.gguf --only-write-lora --lora-out y-ITERATION.bin {CHECKPOINTS}")
    assert (here / "y-2.bin").read_bytes() == (here / "x-2.bin").read_bytes()
    assert not any(" iter=" in line for line in lines)


def test_rotary_and_norm_settings_override_the_base(here):
    first = losses(tune("--model-base f32.gguf --adam-iter 2 --lora-out x.bin", *NONE))
    for words in ("--rope-freq-base 20", "--rope-freq-scale 0.25", "--norm-rms-eps 0.5"):
        assert losses(tune(f"--model-base f32.gguf --adam-iter 2 --lora-out x.bin {words}", *NONE)) != first


def test_rows_longer_than_the_bases_context(here):
    lines = tune("--model-base f32.gguf --adam-iter 2 --ctx 40 --lora-out x.bin", *NONE)
    assert any(line == "print_params: n_ctx:   40" for line in lines)


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "gpt2", "baichuan", "mistral"])
def test_other_architectures_are_tuned_too_and_llama_cpp_takes_the_adapter(here, family):
    pytest.importorskip("xllamacpp")
    tokenizer = read.read("vocab.model")
    config = FAMILIES[family](
        vocab_size=tokenizer.vocab_size,
        max_position_embeddings=32,
        num_hidden_layers=2,
        hidden_size=64,
        tie_word_embeddings=False,
    )
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.1, generator=generator)
    gguf_model.write(ForeignModel(config, model.state_dict(), tokenizer), "base.gguf", type="F32")
    lines = tune("--model-base base.gguf --adam-iter 20 --lora-out a.gguf", *NONE)
    assert losses(lines)[-1] < losses(lines)[0]
    ours = load_checkpoint("base.gguf", "cpu", adapters=[("a.gguf", 1.0)]).model
    with torch.no_grad():
        expected = ours.logits(ours(torch.tensor([IDS])))[0].numpy()
    with LlamaCpp("base.gguf", adapters=[("a.gguf", 1.0)]) as engine:
        assert np.abs(engine.logits(IDS) - expected).max() < 2e-3
    merge("-m base.gguf -o merged.gguf -l a.gguf")
    with LlamaCpp("merged.gguf") as engine:
        assert np.abs(engine.logits(IDS) - expected).max() < 2e-3


def test_an_adapter_on_two_bits_helps_as_much_in_llama_cpp(here):
    pytest.importorskip("xllamacpp")
    train(
        "--adam-iter 10 --embd 256 --ff 256 --layer 1 --fit-schedule --norms-at-one",
        "--model-out",
        "wide.gguf",
        *NONE,
    )
    gguf_model.write(gguf_model.read("wide.gguf"), "q2.gguf", type="Q2_K")
    assert "Q2_K" in {info.type for info in GGUFFile.open("q2.gguf").tensors.values()}
    tune("--model-base q2.gguf --train-data text.txt --adam-iter 40 --lora-out a.gguf", *NONE)
    vocabulary = read.read("vocab.model")
    rows = [[1, *vocabulary.encode(line)] for line in TEXT.splitlines()]
    gains = []
    for adapters in ([], [("a.gguf", 1.0)]):
        model = load_checkpoint("q2.gguf", "cpu", adapters=adapters).model
        with LlamaCpp("q2.gguf", adapters=adapters) as engine:
            gains.append((nats(partial(logits_of, model), rows), nats(engine.logits, rows)))
    (ours, theirs), (ours_after, theirs_after) = gains
    assert ours - ours_after > 0.3
    assert theirs - theirs_after == pytest.approx(ours - ours_after, rel=0.02)


def nats(logits, rows):
    """Mean loss of each id after the first of its row."""
    found = []
    for ids in rows:
        scores = torch.log_softmax(torch.tensor(logits(ids), dtype=torch.float64), -1)
        found += (-scores[range(len(ids) - 1), ids[1:]]).tolist()
    return np.mean(found)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("", "the base model is missing"),
        ("--model-base text.txt", "no GGUF file"),
        ("--model-base f32.gguf --checkpoint-in f32.gguf", "no checkpoint of finetune"),
        ("--model-base f32.gguf --lora-r 5 --checkpoint-in chk-LATEST.gguf", "rank 4 of token_embd"),
        ("--model-base f32.gguf --rank-att-norm 2 --checkpoint-in chk-LATEST.gguf", "rank 1 of attn_norm"),
        (
            "--model-base f32.gguf --lora-scale-in-training --checkpoint-in chk-LATEST.gguf",
            "other --lora-scale",
        ),
        ("--model-base small.gguf --checkpoint-in chk-LATEST.gguf", "another base"),
    ],
)
def test_mistakes_are_named(here, words, what):
    if "chk" in words:
        tune(f"--model-base f32.gguf --adam-iter 1 --lora-out x.bin {CHECKPOINTS}")
    if "small" in words:
        train("--adam-iter 1 --embd 32", "--model-out", "small.gguf", *NONE)
    with pytest.raises(UserError, match=what):
        tune(f"--adam-iter 1 --lora-out x.bin {words}")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("-m f32.gguf -o out.gguf", "needs a base"),
        ("-m f32.gguf -o f32.gguf -l a.bin", "take the place of the base"),
        ("-m f32.gguf -o out.gguf -l text.txt", "text.txt"),
        ("-m f32.gguf -o out.gguf -l a.bin --type Q9", "no type"),
        ("-m small.gguf -o out.gguf -l a.bin", "another base"),
    ],
)
def test_merging_mistakes_are_named_and_leave_nothing(here, words, what):
    tune("--model-base f32.gguf --adam-iter 1 --lora-out a.bin", *NONE)
    train("--adam-iter 1 --embd 32", "--model-out", "small.gguf", *NONE)
    with pytest.raises(UserError, match=what):
        merge(words)
    assert not (here / "out.gguf").exists()
