"""``train-text-from-scratch``: files, resuming, and what the real llama.cpp makes of it."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from congling.core.errors import Interrupted, UserError
from congling.infer.checkpoints import load_checkpoint
from congling.interop.engines.llama_cpp import LlamaCpp
from congling.interop.gguf import model as gguf_model
from congling.interop.gguf.file import Field, GGUFFile, write_gguf
from congling.interop.gguf.vocabulary import fields
from congling.interop.llamacpp_checkpoint import progress_of, tensor
from congling.llamacpp_trainers import console, session
from congling.methods.base_model import open_base
from congling.model.transformer import Transformer
from congling.tokenizer import store, training
from congling.tokenizer.config import TokenizerConfig
from congling.tokenizer.imported import read
from support.classic_runs import TEXT, losses, make_inputs, train

NAMES = (
    "--checkpoint-in",
    "chk-LATEST.gguf",
    "--checkpoint-out",
    "chk-ITERATION.gguf",
    "--model-out",
    "model-ITERATION.gguf",
)
KEYS = [
    "training.type",
    "general.architecture",
    "general.name",
    "general.file_type",
    "llama.context_length",
    "llama.embedding_length",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.block_count",
    "llama.rope.dimension_count",
    "llama.attention.layer_norm_rms_epsilon",
    "llama.rope.freq_base",
    "llama.rope.scale_linear",
    "tokenizer.ggml.model",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.seperator_token_id",
    "tokenizer.ggml.padding_token_id",
]
TRAINING = [
    "training.file_version",
    "training.iteration_count",
    "training.sample_count",
    "training.token_count",
    "training.epoch_count",
    "training.shuffle.samples_hash",
    "training.shuffle.rng_state",
    "training.shuffle.sample_count",
    "training.shuffle.next_sample",
    "optimizer.file_version",
    "optimizer.convergence_past_count",
    "optimizer.parameter_count",
    "optimizer.iteration_count",
    "optimizer.just_initialized",
    "optimizer.type",
    "optimizer.adam.best_loss",
    "optimizer.adam.previous_loss",
    "optimizer.adam.no_improvement_count",
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    make_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_writes_the_former_programs_files(here):
    lines = train("--adam-iter 12 --save-every 5", *NAMES)
    written = sorted(path.name for path in here.glob("*.gguf"))
    labels = ("10", "12", "5", "LATEST")
    assert written == [f"{kind}-{label}.gguf" for kind in ("chk", "model") for label in labels]
    assert (here / "chk-12.gguf").read_bytes() == (here / "chk-LATEST.gguf").read_bytes()
    checkpoint, model = GGUFFile.open("chk-12.gguf"), GGUFFile.open("model-12.gguf")
    assert [key for key in checkpoint.fields if key in {*KEYS, *TRAINING}] == [*KEYS, *TRAINING]
    assert list(model.fields)[: len(KEYS) - 1] == KEYS[1:]
    block = [
        "attn_norm",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_norm",
        "ffn_gate",
        "ffn_down",
        "ffn_up",
    ]
    blocks = [f"blk.{layer}.{name}.weight" for layer in range(2) for name in block]
    assert list(model.tensors) == ["token_embd.weight", "output_norm.weight", "output.weight", *blocks]
    assert list(checkpoint.tensors) == [
        *model.tensors,
        "optimizer.adam.first_moments",
        "optimizer.adam.second_moments",
    ]
    assert {info.type for info in checkpoint.tensors.values()} == {"F32"}
    values = sum(model.array(name).size for name in model.tensors)
    assert checkpoint.value("optimizer.parameter_count") == values
    assert checkpoint.info("optimizer.adam.first_moments").shape == (values,)
    assert (progress_of(checkpoint).iterations, progress_of(checkpoint).tokens) == (12, 12 * 4 * 16)
    assert progress_of(checkpoint).samples == 13 * 4  # one more pass
    assert sum(" iter=" in line for line in lines) == 13
    assert losses(lines)[-1] < losses(lines)[0]


def test_what_llama_cpp_computes_is_what_was_trained(here):
    pytest.importorskip("xllamacpp")
    train("--adam-iter 60", *NAMES)
    ours = gguf_model.read("model-LATEST.gguf")
    model = Transformer(ours.config)
    model.load_state_dict(dict(ours.weights))
    with LlamaCpp("model-LATEST.gguf") as engine:
        text = TEXT[:30]
        ids = read.read("vocab.model").encode(text)
        assert engine.tokenize(text) == ids
        with torch.no_grad():
            logits = model.logits(model(torch.tensor([[1, *ids[:15]]])))[0].numpy()
        assert np.abs(engine.logits([1, *ids[:15]]) - logits).max() < 1e-3
        assert logits.std() > 0.1
        assert len(engine.greedy([1], 10)) == 10


@pytest.mark.parametrize("kind", ["bpe .model", "GGUF vocabulary", "tokenizer directory", "GGUF model"])
def test_vocabularies_from_everywhere(here, kind):
    pytest.importorskip("xllamacpp")
    make_inputs(here, "bpe")
    tokenizer, name = read.read("vocab.model"), "vocab.model"
    if kind.startswith("GGUF"):
        name = "vocab.gguf"
        write_gguf(name, {"general.architecture": Field("string", "llama"), **fields(tokenizer)}, [])
    if kind == "GGUF model":
        train("--adam-iter 1 --vocab-model vocab.gguf --model-out model.gguf", *NAMES[:4])
        name = "model.gguf"
    if kind == "tokenizer directory":
        name = "vocabulary"
        training.train(TokenizerConfig(kind="bpe", vocab_size=320), lambda: iter([TEXT]), name)
        tokenizer = store.load(name)
    train("--adam-iter 2 --checkpoint-in none --model-out out.gguf --vocab-model", name)
    with LlamaCpp("out.gguf") as engine:
        for text in (TEXT[:40], "emoji 🙂 and\ttabs\n"):
            assert engine.tokenize(text) == tokenizer.encode(text)


@pytest.mark.parametrize(
    "more", ["", "--grad-acc 2 --opt-past 3 --opt-delta 0", "--sample-random-offsets --epochs 9"]
)
def test_stopping_and_going_on_is_an_uninterrupted_run(here, more):
    train(
        f"--adam-iter 20 {more}",
        "--checkpoint-in",
        "",
        "--checkpoint-out",
        "whole-ITERATION.gguf",
        "--model-out",
        "",
    )
    train(f"--adam-iter 10 {more}", *NAMES)
    lines = train(f"--adam-iter 10 {more}", *NAMES)
    assert (here / "chk-20.gguf").read_bytes() == (here / "whole-20.gguf").read_bytes()
    assert lines[-1].startswith("main: total training time")
    assert any("iter=    10 sample=41/" in line or "--" in more for line in lines)


def test_ctrl_c_saves_and_the_next_run_goes_on(here, monkeypatch):
    train(
        "--adam-iter 9",
        "--checkpoint-in",
        "",
        "--checkpoint-out",
        "whole-ITERATION.gguf",
        "--model-out",
        "",
        "--save-every",
        "9",
    )

    def line(self, iteration, *rest):
        if iteration == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, iteration, *rest)

    original = console.IterationLog.line
    monkeypatch.setattr(session.IterationLog, "line", line)
    with pytest.raises(Interrupted, match="iteration 5; the checkpoint is saved"):
        train("--adam-iter 9", *NAMES)
    monkeypatch.setattr(session.IterationLog, "line", original)
    train("--adam-iter 4 --save-every 4", *NAMES)
    assert (here / "chk-9.gguf").read_bytes() == (here / "whole-9.gguf").read_bytes()


def test_other_data_restart_the_epoch_and_keep_the_counters(here):
    train("--adam-iter 10", *NAMES)
    (here / "text.txt").write_text(TEXT * 2, encoding="utf-8")
    lines = train("--adam-iter 10", *NAMES)
    assert "main: train data seems to have changed. restarting shuffled epoch." in lines
    assert any("iter=    10 sample=1/" in line for line in lines)
    lines = train("--adam-iter 1 --force-reshuffle", *NAMES)
    assert "main: forced reshuffling of data. restarting with newly shuffled epoch." in lines
    assert progress_of(GGUFFile.open("chk-LATEST.gguf")).iterations == 21


def test_sizes_of_the_checkpoint_win_but_a_context_that_is_given(here):
    train("--adam-iter 1", *NAMES)
    train("--adam-iter 1 --embd 64 --layer 3 --ctx 8", *NAMES)
    config = gguf_model.read("model-LATEST.gguf").config
    assert (config.hidden_size, config.num_hidden_layers, config.max_position_embeddings) == (32, 2, 8)


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_any_llama_model_is_trained_further(here, kind):
    train("--adam-iter 40", *NAMES)
    gguf_model.write(gguf_model.read("model-LATEST.gguf"), "plain.gguf", type=kind)
    before = losses(train("--adam-iter 2", *NAMES))[0]
    lines = train(
        "--adam-iter 2 --model-out '' --checkpoint-in plain.gguf --checkpoint-out further-ITERATION.gguf"
    )
    assert "load_checkpoint_gguf: loaded llama model as checkpoint" in lines
    assert losses(lines)[0] == pytest.approx(before, abs=1.0)  # other rows; from random weights it is 5
    assert losses(lines)[0] < 3.5
    assert progress_of(GGUFFile.open("further-2.gguf")).iterations == 2


def test_a_checkpoint_of_the_former_program_goes_on_as_ours_does(here):
    """Without our keys: its moments, counters and place in the epoch are all taken up."""
    train("--adam-iter 10", *NAMES)
    file = GGUFFile.open("chk-10.gguf")
    kept = {key: field for key, field in file.fields.items() if not key.startswith("congling.")}
    tensors = {name: file.array(name).copy() for name in file.tensors}
    write_gguf("old.gguf", kept, [tensor(name, values) for name, values in tensors.items()])
    ends = "--adam-iter 4 --model-out '' --checkpoint-in"
    lines = train(f"{ends} old.gguf --checkpoint-out old-ITERATION.gguf")
    ours = train(f"{ends} chk-10.gguf --checkpoint-out our-ITERATION.gguf")
    assert losses(lines) == losses(ours)
    assert any("iter=    10 sample=41/" in line for line in lines)
    assert not any("train data seems to have changed" in line for line in lines)
    assert any("with flash attention stores them, left to right" in line for line in lines)
    first, second = GGUFFile.open("old-14.gguf"), GGUFFile.open("our-14.gguf")
    assert all(np.array_equal(first.array(name), second.array(name)) for name in second.tensors)
    assert first.value("congling.moments.since") == 0


def test_moments_pass_between_the_two_ways_to_compute_attention(here):
    train("--adam-iter 10 --no-flash", *NAMES)
    assert GGUFFile.open("chk-10.gguf").value("congling.moments.order") == "1"
    ends = "--model-out '' --checkpoint-in chk-10.gguf --checkpoint-out x.gguf"
    assert losses(train(f"--adam-iter 4 {ends}")) == losses(train(f"--adam-iter 4 --no-flash {ends}"))


def test_only_writing_the_model(here):
    train("--adam-iter 3", *NAMES)
    (here / "model-3.gguf").unlink()
    lines = train("--only-write-model", *NAMES)
    assert (here / "model-3.gguf").read_bytes() == (here / "model-LATEST.gguf").read_bytes()
    assert not any(" iter=" in line for line in lines)


def test_epochs_and_stop_tests_end_a_run(here):
    (here / "text.txt").write_text("云对雨，雪对风。\n", encoding="utf-8")
    lines = train("--adam-iter 50 --epochs 2 --sample-start 云 --include-sample-start", *NAMES)
    assert "train_opt_callback: reshuffle samples. completed epochs: 2" in lines
    assert any("1 epochs are done" in line or "2 epochs are done" in line for line in lines)
    lines = train("--adam-iter 50 --opt-max-no-improvement 1 --adam-alpha 0", "--checkpoint-in", "")
    assert any("--opt-max-no-improvement" in line for line in lines)


def test_the_lines_around_training_stand_in_the_former_order(here):
    lines = train("--adam-iter 2 -ngl 1", *NAMES)
    expected = (
        "main: seed: 1",
        "main: init model",
        "print_params: n_vocab:",
        "main: total train_iterations 0",
        "main: seen train_samples     0",
        "main: seen train_tokens      0",
        "main: completed train_epochs 0",
        "main: model_size = ",
        "main: opt_size  = ",
        "main: opt iter 0",
        "main: input_size = ",
        "main: compute_size = ",
        "main: evaluation order = LEFT_TO_RIGHT",
        "main: tokenize training data",
        "tokenize_file: total number of samples: ",
        "main: number of training tokens: ",
        "main: begin training",
        "main: work_size = ",
        "train_opt_callback: iter=     0 sample=1/",
        "train_opt_callback: iter=     1 ",
        "train_opt_callback: iter=     2 ",
        "save_checkpoint_file: saving to chk-2.gguf",
        "save_checkpoint_file: saving to chk-LATEST.gguf",
        "save_llama_model_file: saving to model-2.gguf",
        "save_llama_model_file: saving to model-LATEST.gguf",
        "main: total training time: ",
    )
    places = [next(i for i, line in enumerate(lines) if line.startswith(start)) for start in expected]
    assert places == sorted(places)
    assert torch.cuda.is_available() or any("-ngl has no effect" in line for line in lines)


def test_traps_are_named_and_avoided(here):
    lines = train("--adam-iter 2", *NAMES)
    notes = [line for line in lines if line.startswith("main: note: ")]
    assert [line.rpartition("; better: ")[2] for line in notes[:5]] == [
        "--held-out 0.05",
        "--fit-schedule",
        "--fit-schedule",
        "--sample-stride 16",
        "--norms-at-one",
    ]
    assert any("programs of 2023 load no such model" in line for line in notes)
    flags = "--fit-schedule --sample-stride 16 --norms-at-one --adam-iter 30 --checkpoint-in none"
    for held_out in ("0.2", "text.txt"):
        lines = train(flags, "--held-out", held_out, "--checkpoint-out", "", "--model-out", "")
        assert not any("better:" in line for line in lines)
        measured = [float(line.rpartition("=")[2]) for line in lines if "held-out loss=" in line]
        assert len(measured) == 3
        tokens = int(next(line for line in lines if "number of training tokens" in line).split()[-1])
        assert tokens < 180 or held_out == "text.txt"
    assert measured[-1] < measured[0] - 1  # the last text is the one trained on


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("--vocab-model absent.gguf", "cannot read the vocabulary"),
        ("--train-data absent.txt", "cannot read the training text"),
        ("--head 3", "--head must divide --embd"),
        ("--checkpoint-in text.txt", "no GGUF file"),
        ("--adam-beta2 1", "betas are below 1"),
        ("--held-out 2", "--held-out is a file"),
    ],
)
def test_mistakes_are_named(here, words, what):
    with pytest.raises(UserError, match=what):
        train(f"--adam-iter 1 --checkpoint-out '' {words}")


def test_a_damaged_checkpoint_is_named(here):
    train("--adam-iter 1", *NAMES)
    data = (here / "chk-1.gguf").read_bytes()
    (here / "chk-LATEST.gguf").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="chk-LATEST"):
        train("--adam-iter 1", *NAMES)
    (here / "chk-LATEST.gguf").write_bytes(data)
    with pytest.raises(UserError, match="--opt-past 0"):
        train("--adam-iter 1 --opt-past 2", *NAMES)
    lines = train("--only-write-model --opt-past 2", *NAMES[:4], "--model-out", "written.gguf")
    assert lines[-1].endswith("saving to written.gguf") and (here / "written.gguf").is_file()


def test_a_resumed_run_does_not_begin_at_rate_zero(here):
    beginning = "the rate begins at 0"
    assert any(beginning in line for line in train("--adam-iter 1", *NAMES))
    assert not any(beginning in line for line in train("--adam-iter 1", *NAMES))


def test_checkpoints_and_vocabularies_are_no_models(here):
    train("--adam-iter 1", *NAMES)
    words = read.read("vocab.model")
    write_gguf("words.gguf", {"general.architecture": Field("string", "llama"), **fields(words)}, [])
    opened = {"import": gguf_model.read, "generate": load_checkpoint, "train": open_base}
    for verb, reader in opened.items():
        with pytest.raises(UserError, match="checkpoint of train-text-from-scratch") as error:
            reader("chk-1.gguf")
        assert "--only-write-model --checkpoint-in chk-1.gguf --model-out" in str(error.value), verb
        with pytest.raises(UserError, match="vocabulary and no weights"):
            reader("words.gguf")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("train-text-from-scratch --vocab-model vocab.model --train-data absent", "cannot read the training"),
        (
            "train-text-from-scratch --vocab-model . --train-data .",
            "cannot read the training text (it is a dir",
        ),
        ("train-text-from-scratch --vocab-model absent --train-data text.txt", "--vocab-model takes"),
        ("train-text-from-scratch --only-write-model --vocab-model vocab.model", "there is no checkpoint"),
        ("finetune --model-base absent --train-data text.txt", "cannot read the base model (No such file"),
        ("finetune --model-base vocab.model --train-data absent", "cannot read the training text"),
    ],
)
def test_a_missing_file_is_named_before_anything_is_loaded(here, line, what):
    program = (
        "import sys\nfrom congling.cli import main\nsys.argv = ['congling', *sys.argv[1:]]\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *line.split()], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "False\n")
    assert what in done.stderr and len(done.stderr.splitlines()) == 2


def test_the_command_itself(here):
    program = [sys.executable, "-m", "congling", "train-text-from-scratch"]
    done = subprocess.run([*program, "--adam_iter"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "usage: congling train-text-from-scratch" in done.stderr
    words = "--vocab_model vocab.model --train-data text.txt --ctx 16 --embd 32 --head 2 --layer 1 --ff 32"
    more = [
        "--checkpoint-in",
        "",
        "--checkpoint-out",
        "",
        "-t",
        "1",
        "-b",
        "2",
        "--adam-iter",
        "1",
        "--seed",
        "4",
    ]
    done = subprocess.run([*program, *words.split(), *more], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("main: seed: 4\n")
    assert (here / "ggml-checkpoint-f32.bin").is_file()
