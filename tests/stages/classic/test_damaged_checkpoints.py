"""Mutants of checkpoints: each is taken up or refused by name, quickly, whatever was changed."""

import contextlib
import random
import struct
import time

import pytest

from congling.core.errors import UserError
from congling.interop.gguf.file import Field, GGUFFile, TensorData, write_gguf
from congling.llamacpp_trainers import finetune, scratch
from congling.llamacpp_trainers.adapter_options import FinetuneOptions
from congling.llamacpp_trainers.arguments import parse
from congling.llamacpp_trainers.options import ScratchOptions
from support.classic_runs import make_inputs, train, tune

NONE = ("--checkpoint-in", "")
EXTREME = (0, 1, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of either kind, and the base of the second."""
    folder = tmp_path_factory.mktemp("checkpoints")
    make_inputs(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train("--adam-iter 2 --layer 1 --model-out base.gguf --checkpoint-out scratch.gguf", *NONE)
        words = "--model-base base.gguf --adam-iter 2 --lora-out adapter.bin --checkpoint-out tuned.gguf"
        tune(words, *NONE)
    return folder


def go_on(kind, name):
    """Take up a checkpoint as far as its first iteration."""
    words = f"-t 1 -b 2 --adam-iter 1 --save-every 0 --checkpoint-in {name} --checkpoint-out out.gguf"
    if kind == "scratch":
        words += " --vocab-model vocab.model --train-data text.txt --model-out out-model.gguf"
        scratch.run(parse(ScratchOptions, words.split()), lambda line: None)
    else:
        words += " --model-base base.gguf --train-data other.txt --lora-out out.bin"
        finetune.run(parse(FinetuneOptions, words.split()), lambda line: None)


@pytest.mark.parametrize("kind", ["scratch", "tuned"])
@pytest.mark.parametrize("seed", range(40))
def test_mutants(folder, monkeypatch, kind, seed):
    monkeypatch.chdir(folder)
    chance = random.Random(seed)
    data = bytearray((folder / f"{kind}.gguf").read_bytes())
    header = (
        GGUFFile.open(f"{kind}.gguf")
        .info("token_embd.weight" + (".lora_a" if kind == "tuned" else ""))
        .offset
    )
    match seed % 4:
        case 0:
            del data[chance.randrange(len(data)) :]
        case 1:
            for _ in range(3):
                data[chance.randrange(header)] ^= 1 << chance.randrange(8)
        case 2:
            struct.pack_into("<Q", data, chance.randrange(header - 8), chance.choice(EXTREME))
        case _:
            data[chance.randrange(len(data))] = chance.randrange(256)
    (folder / "mutant.gguf").write_bytes(data)
    started = time.monotonic()
    with contextlib.suppress(UserError):
        go_on(kind, "mutant.gguf")
    assert time.monotonic() - started < 20  # training itself included, on a busy machine


@pytest.mark.parametrize(
    ("kind", "key", "value", "what"),
    [
        ("scratch", "training.type", "else", "unknown kind of training"),
        ("scratch", "training.file_version", 2, "later version"),
        ("scratch", "training.iteration_count", 2**40, "cannot be"),
        ("scratch", "training.shuffle.rng_state", "1 2 3", "shuffle state"),
        ("scratch", "congling.moments.since", 99, "cannot be"),
        ("scratch", "llama.block_count", 2**31, "more layers"),
        ("scratch", "llama.context_length", 2**32 - 1, "rows of this length"),
        ("scratch", "llama.feed_forward_length", 96, "is due"),
        ("tuned", "llama.context_length", 2**32 - 1, "rows of this length"),
        ("tuned", "training.lora.rank.attn_norm", 2**32 - 1, "is due"),
        ("tuned", "llama.embedding_length", 2**31, "another base"),
        ("tuned", "optimizer.convergence_past_count", 5, "--opt-past 5"),
    ],
)
def test_values_that_cannot_be(folder, monkeypatch, kind, key, value, what):
    monkeypatch.chdir(folder)
    rewrite(kind, {key: value}, {})
    with pytest.raises(UserError, match=what):
        go_on(kind, "changed.gguf")


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("optimizer.adam.second_moments", -1.0, "moments that Adam"),
        ("optimizer.adam.first_moments", float("nan"), "moments that Adam"),
        ("blk.0.ffn_up.weight", float("inf"), "not finite"),
    ],
)
def test_tensors_that_cannot_be(folder, monkeypatch, name, value, what):
    monkeypatch.chdir(folder)
    rewrite("scratch", {}, {name: value})
    with pytest.raises(UserError, match=what):
        go_on("scratch", "changed.gguf")


def rewrite(kind, values, tensors):
    """Write ``changed.gguf``: a checkpoint with other values, or other first numbers in tensors."""
    file = GGUFFile.open(f"{kind}.gguf")
    fields = {key: Field(field.type, values.get(key, field.value)) for key, field in file.fields.items()}

    def data(name):
        array = file.array(name).copy()
        array.reshape(-1)[0] = tensors.get(name, array.reshape(-1)[0])
        return array

    found = [
        TensorData(name, info.shape, "F32", lambda name=name: data(name))
        for name, info in file.tensors.items()
    ]
    write_gguf("changed.gguf", fields, found, overwrite=True)
