"""Command lines by the former programs' rules."""

import dataclasses

import pytest

from congling.llamacpp_trainers.adapter_options import ExportOptions, FinetuneOptions
from congling.llamacpp_trainers.arguments import HelpWanted, Misuse, parse, unescaped, usage
from congling.llamacpp_trainers.options import ScratchOptions, TrainerOptions

DEFAULTS = {
    "train_data": "shakespeare.txt", "checkpoint_in": "checkpoint.gguf",
    "checkpoint_out": "checkpoint-ITERATION.gguf", "pattern_fn_it": "ITERATION", "fn_latest": "LATEST",
    "save_every": 10, "seed": -1, "ctx": 128, "threads": 6, "batch": 8, "grad_acc": 1, "sample_start": "",
    "include_sample_start": False, "escape": False, "overlapping_samples": False,
    "fill_with_next_samples": False, "separate_with_eos": False, "separate_with_bos": True,
    "sample_random_offsets": False, "force_reshuffle": False, "use_checkpointing": True, "warmup": 100,
    "cos_decay_steps": 1000, "cos_decay_restart": 1.1, "cos_decay_min": 0.1, "enable_restart": False,
    "opt_past": 0, "opt_delta": 1e-5, "opt_max_no_improvement": 0, "epochs": -1, "adam_iter": 256,
    "adam_alpha": 1e-3, "adam_min_alpha": 0, "adam_decay": 0.1, "adam_decay_min_ndim": 2, "adam_beta1": 0.9,
    "adam_beta2": 0.999, "adam_gclip": 1.0, "adam_epsf": 0, "gpu_layers": 0,
}  # fmt: skip
SCRATCH = {
    "vocab_model": "ggml-vic7b-uncensored-q4_0.bin", "model_out": "ggml-checkpoint-f32.bin",
    "only_write_model": False, "embd": 256, "ff": 768, "head": 8, "layer": 16, "norm_rms_eps": 1e-5,
    "rope_freq_base": 10000, "rope_freq_scale": 1,
}  # fmt: skip
FINETUNE = {
    "model_base": "", "lora_out": "ggml-lora-ITERATION-f32.gguf", "only_write_lora": False, "lora_r": 4,
    "lora_alpha": None, "norm_rms_eps": None, "rope_freq_base": None, "rope_freq_scale": None,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "own"), [(ScratchOptions, SCRATCH), (FinetuneOptions, FINETUNE)])
def test_defaults_are_the_former_programs(kind, own):
    found = dataclasses.asdict(parse(kind, []))
    assert {key: found[key] for key in DEFAULTS | own} == DEFAULTS | own


def test_underscores_are_hyphens_in_long_names_only():
    found = parse(
        FinetuneOptions, ["--train_data", "a_b.txt", "--rank_ffn_gate", "3", "--rank-ffn-down", "5"]
    )
    assert (found.train_data, found.w1, found.w2) == ("a_b.txt", 3, 5)
    assert found.given == {"train_data", "w1", "w2"}


def test_a_value_may_look_like_a_flag():
    assert parse(ScratchOptions, ["--sample-start", "--x_y"]).sample_start == "--x_y"


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("-b 4", "batch", 4), ("-c 64", "ctx", 64), ("-t 2", "threads", 2), ("-s 7", "seed", 7),
        ("-ngl 9", "gpu_layers", 9), ("--no-checkpointing", "use_checkpointing", False),
        ("--use-checkpointing", "use_checkpointing", True),
        ("--no-separate-with-bos", "separate_with_bos", False),
        ("--enable-restart", "enable_restart", True),
        ("--enable-restart --disable-restart", "enable_restart", False),
        ("--use-flash", "use_flash", True), ("--seed -1", "seed", -1),
    ],
)  # fmt: skip
def test_flags(words, field, value):
    assert getattr(parse(ScratchOptions, words.split()), field) == value


@pytest.mark.parametrize(
    "name", ["att-norm", "ffn-norm", "out-norm", "tok-embd", "out", "wq", "wk", "wv", "wo"]
)
def test_ranks_follow_lora_r_but_for_norms(name):
    field = name.replace("-", "_")
    found = parse(FinetuneOptions, ["--lora-r", "7", "--lora-out", "x.bin"])
    assert found.rank_of(field) == (1 if "norm" in name else 7)
    assert parse(FinetuneOptions, [f"--rank-{name}", "3"]).rank_of(field) == 3


def test_a_gguf_adapter_leaves_norms_alone():
    assert parse(FinetuneOptions, ["--lora-out", "x.gguf"]).rank_of("att_norm") == 0
    assert parse(FinetuneOptions, ["--lora-out", "x.gguf", "--lora-format", "ggla"]).rank_of("att_norm") == 1


@pytest.mark.parametrize(
    "words",
    ["--unknown", "book.txt", "--ctx", "--ctx many", "--ctx 0", "--ctx=64", "--adam-alpha nan", "--lora-r 2",
     "--enable-restart 5"],
)  # fmt: skip
def test_misuse(words):
    with pytest.raises(Misuse, match=words.split()[-1] if "5" in words else words.split()[0]):
        parse(ScratchOptions, words.split())


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help(word):
    with pytest.raises(HelpWanted):
        parse(ScratchOptions, ["--ctx", "64", word])


def test_adapters_keep_their_order():
    found = parse(
        ExportOptions,
        ["-m", "a", "-o", "b", "-l", "x", "-s", "y", "0.5", "--lora", "z", "--lora-scaled", "x", "-2"],
    )
    assert found.adapters == (("x", 1.0), ("y", 0.5), ("z", 1.0), ("x", -2.0))


@pytest.mark.parametrize("kind", [ScratchOptions, FinetuneOptions, ExportOptions])
def test_usage_names_every_flag_with_its_default(kind):
    text = usage(kind, "x", "About.")
    for field in dataclasses.fields(kind):
        for switch in field.metadata.get("switches", ()):
            line = next(
                line for line in text.splitlines() if line.strip().startswith(", ".join(switch.names))
            )
            assert not switch.shown or field.default in (None, ()) or repr(field.default) in line
    assert issubclass(ScratchOptions, TrainerOptions)


def test_escapes():
    assert unescaped(r"\n\r\t\'\"\\x\q") == "\n\r\t'\"\\x\\q"
    assert unescaped("a\\") == "a\\"
