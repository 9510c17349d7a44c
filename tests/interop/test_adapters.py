"""Adapter formats: GGUF beside the real llama.cpp, PEFT beside PEFT, ggla; files that are damaged."""

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from congling.core.errors import UserError
from congling.interop import adapters
from congling.interop.adapters import ggla, gguf, peft
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.interop.gguf.file import GGUFFile
from congling.transform.adapter import Adapter, Factors
from congling.transform.merge import merged
from support.adapters_made import CONFIGS, IDS, adapted_logits, adapter_of, logits, model_of, same

TOLERANCE = {"gpt2": 5e-3}  # llama.cpp looks GELU up in a table of 16-bit values
FORMATS = ["gguf-lora", "peft", "ggla"]


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("scales", [(2.0, 2.0), (2.0, 0.75)], ids=["one alpha", "scales differ"])
def test_llama_cpp_computes_the_same_at_every_strength(tmp_path, family, scales):
    pytest.importorskip("xllamacpp")
    from congling.interop.engines.llama_cpp import LlamaCpp

    config = CONFIGS[family]
    model, ranks = model_of(config), (4, 7)
    gguf_model.write(ForeignModel(config, model.state_dict()), tmp_path / "base.gguf")
    first = adapter_of(config, scales=scales, ranks=ranks, embedding=not config.tie_word_embeddings)
    second = adapter_of(config, seed=2, scales=(0.5, 0.5))
    assert gguf.write(first, config, tmp_path / "a.gguf") == []
    gguf.write(second, config, tmp_path / "b.gguf")
    mixes = [[("a", 0.0)], [("a", 0.4)], [("a", 1.0)], [("a", 1.5)], [("a", 0.4), ("b", 0.8)]]
    with LlamaCpp(tmp_path / "base.gguf", context=64) as engine:
        plain = logits(config, model.state_dict())
        for mix in mixes:
            engine.set_adapters([(tmp_path / f"{name}.gguf", strength) for name, strength in mix])
            ours = adapted_logits(model, *[({"a": first, "b": second}[name], s) for name, s in mix])
            assert np.abs(engine.logits(IDS) - ours).max() < TOLERANCE.get(family, 1e-3), mix
            assert (np.abs(ours - plain).max() > 0.3) == (mix[0][1] > 0)


@pytest.mark.parametrize(("type", "tolerance"), [("F32", 1e-3), ("F16", 5e-2), ("Q8_0", 0.5)])
def test_merged_into_a_gguf_base_llama_cpp_computes_as_with_the_adapters_on(tmp_path, type, tolerance):
    pytest.importorskip("xllamacpp")
    from congling.interop.engines.llama_cpp import LlamaCpp

    config, adapter = CONFIGS["qwen3"], adapter_of(CONFIGS["qwen3"], gains=True, embedding=True)
    gguf_model.write(ForeignModel(config, model_of(config).state_dict()), tmp_path / "base.gguf", "Q8_0")
    base = gguf_model.read(tmp_path / "base.gguf")
    whole = ForeignModel(config, merged(base.weights, [(adapter, 0.7)]))
    gguf_model.write(whole, tmp_path / "merged.gguf", type)
    types = {info.name: info.type for info in GGUFFile.open(tmp_path / "merged.gguf").tensors.values()}
    assert types["blk.0.attn_q.weight"] == type
    assert types["output_norm.weight"] == "F32"
    with LlamaCpp(tmp_path / "merged.gguf", context=64) as engine:
        difference = np.abs(engine.logits(IDS) - logits(config, whole.weights))
    assert difference.max() < tolerance


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_is_read_again(tmp_path, family, format):
    if (family, format) == ("gpt2", "ggla"):
        pytest.skip("the old program knew llama alone")
    config = CONFIGS[family]
    adapter = adapter_of(
        config,
        ranks=(4, 7),
        scales=(2.0, 0.75),
        embedding=not config.tie_word_embeddings or format != "gguf-lora",
    )
    if format == "peft":
        adapter = held_by_peft(config, adapter)
    assert adapters.write(adapter, config, format, tmp_path / "out") == []
    back = adapters.read_any(tmp_path / "out", config)
    assert same(adapter, back, tolerance=2e-6)
    assert max(part.rank for part in back.factors.values()) <= 7


def test_the_class_of_a_folder_is_no_architecture_of_gguf(tmp_path):
    config = CONFIGS["llama"]
    adapters.write(adapter_of(config), config, "gguf-lora", tmp_path / "a.gguf", "LlamaForCausalLM")
    assert GGUFFile.open(tmp_path / "a.gguf").text("general.architecture") == "llama"
    assert adapters.read_any(tmp_path / "a.gguf", config, "LlamaForCausalLM").factors
    adapters.write(adapter_of(config), config, "gguf-lora", tmp_path / "b.gguf", "baichuan")
    assert same(adapters.read_any(tmp_path / "b.gguf", config), adapter_of(config), tolerance=1e-7)


@pytest.mark.parametrize("format", FORMATS)
def test_one_scale_is_kept_bit_for_bit(tmp_path, format):
    config = CONFIGS["llama"]
    adapter = adapter_of(config, scales=(1.5, 1.5))
    adapters.write(adapter, config, format, tmp_path / "out")
    for name, part in adapters.read_any(tmp_path / "out", config).factors.items():
        expected = adapter.factors[name]
        assert torch.equal(part.a, expected.a)
        assert torch.equal(part.b, expected.b)
        assert part.scale == expected.scale


def test_norm_gains_are_kept_by_ggla_and_left_out_elsewhere_with_a_note(tmp_path):
    config = CONFIGS["llama"]
    adapter = adapter_of(config, gains=True)
    assert ggla.write(adapter, config, tmp_path / "lora.bin") == []
    assert same(adapter, ggla.read(tmp_path / "lora.bin", config), tolerance=1e-7)
    for format in ("gguf-lora", "peft"):
        notes = adapters.write(adapter, config, format, tmp_path / format)
        assert "5 norm gains" in notes[0]
        assert same(
            adapter_of_matrices(adapter), adapters.read_any(tmp_path / format, config), tolerance=1e-7
        )
    only = Adapter({"norm.weight": adapter.factors["norm.weight"]})
    with pytest.raises(UserError, match="nothing of this"):
        gguf.write(only, config, tmp_path / "nothing.gguf")
    assert not (tmp_path / "nothing.gguf").exists()


def held_by_peft(config, adapter):
    """All factors, but in mixtures of experts those of attention and embeddings alone."""
    mixed = config.mlp.kind == "moe"
    return Adapter({name: part for name, part in adapter.factors.items() if not (mixed and ".mlp." in name)})


def test_mlps_beside_experts_are_left_out_of_peft_with_a_note(tmp_path):
    config = CONFIGS["qwen3-moe"]
    adapter = adapter_of(config)
    assert "2 tensors of MLPs" in peft.write(adapter, config, tmp_path / "lora")[0]
    assert same(held_by_peft(config, adapter), peft.read(tmp_path / "lora", config), tolerance=1e-7)


def adapter_of_matrices(adapter):
    return Adapter({name: part for name, part in adapter.factors.items() if part.a.shape[1] > 1})


def test_a_tied_embedding_is_left_out_of_gguf_since_llama_cpp_would_break_off(tmp_path):
    config = CONFIGS["qwen3"]
    notes = gguf.write(adapter_of(config, embedding=True), config, tmp_path / "a.gguf")
    assert "embedding" in notes[0]
    assert not any(name.startswith("token_embd") for name in GGUFFile.open(tmp_path / "a.gguf").tensors)


@pytest.mark.parametrize("family", CONFIGS)
def test_peft_computes_the_same_and_its_own_folders_are_read(tmp_path, family):
    pytest.importorskip("peft")
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from congling.interop.hf import model as hf

    config = CONFIGS[family]
    if config.positions.kind == "alibi":
        pytest.skip("transformers has no class for it")
    model = model_of(config)
    hf.write(ForeignModel(config, model.state_dict()), tmp_path / "base")
    adapter = held_by_peft(config, adapter_of(config, ranks=(4, 7), scales=(2.0, 0.75), embedding=True))
    peft.write(adapter, config, tmp_path / "lora", base=str(tmp_path / "base"))
    loaded = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "lora"
    ).eval()
    with torch.no_grad():
        theirs = loaded(torch.tensor([IDS])).logits[0].numpy()
    ours = adapted_logits(model, (adapter, 1.0))
    assert np.abs(ours - logits(config, model.state_dict())).max() > 0.3
    assert np.abs(theirs - ours).max() < 5e-5
    loaded.save_pretrained(tmp_path / "again")
    assert same(adapter, peft.read(tmp_path / "again", config), tolerance=2e-6)


def test_patterns_of_alpha_and_rank_stabilised_scales_are_those_of_peft(tmp_path):
    pytest.importorskip("peft")
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from congling.interop.hf import model as hf

    config = CONFIGS["llama"]
    model = model_of(config)
    hf.write(ForeignModel(config, model.state_dict()), tmp_path / "base")
    settings = LoraConfig(
        r=4,
        lora_alpha=6,
        use_rslora=True,
        target_modules=["q_proj", "up_proj", "lm_head"],
        rank_pattern={"q_proj": 2},
        alpha_pattern={r"layers\.1\.mlp\.up_proj": 10, "q_proj": 3},
    )
    wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), settings).eval()
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    wrapped.save_pretrained(tmp_path / "lora")
    adapter = peft.read(tmp_path / "lora", config)
    with torch.no_grad():
        theirs = wrapped(torch.tensor([IDS])).logits[0].numpy()
    assert np.abs(theirs - adapted_logits(model, (adapter, 1.0))).max() < 5e-5


def test_ggla_is_laid_out_as_the_old_program_wrote_it(tmp_path):
    config = CONFIGS["llama"]
    adapter = adapter_of(config, ranks=(4, 4), scales=(1.0, 1.0), gains=True, embedding=True)
    ggla.write(adapter, config, tmp_path / "lora.bin", header=(4, 16))
    raw = (tmp_path / "lora.bin").read_bytes()
    assert raw[:4] == b"algg"
    assert struct.unpack_from("<Iii", raw, 4) == (1, 4, 16)
    dimensions, length, kind, rank, inputs = struct.unpack_from("<5I", raw, 16)
    assert (dimensions, kind, rank, inputs) == (2, 0, 4, 64)
    assert raw[36 : 36 + length] == b"token_embd.weight.loraA"
    values = np.frombuffer(raw, "<f4", 256, -(-(36 + length) // 32) * 32).reshape(64, 4)
    assert np.array_equal(values, adapter.factors["embedding.weight"].a.T.numpy())
    order = [
        raw.find(f"blk.1.{name}.weight.loraA".encode())
        for name in ("attn_norm", "attn_q", "ffn_gate", "ffn_up")
    ]
    assert order == sorted(order)
    back = ggla.read(tmp_path / "lora.bin", config)
    assert back.factors["blocks.0.mlp.up.weight"].scale == 4.0  # alpha / r, as the old loader applied it


@pytest.mark.parametrize("format", FORMATS)
def test_an_adapter_of_another_base_is_refused(tmp_path, format):
    wide = CONFIGS["llama"].replace(hidden_size=128, attention={"head_dim": 32})
    deep = CONFIGS["llama"].replace(num_hidden_layers=3)
    for config, word in ((wide, "another base"), (deep, r"lacks|does not have")):
        adapters.write(adapter_of(config), config, format, tmp_path / f"out{config.num_hidden_layers}")
        with pytest.raises(UserError, match=word):
            adapters.read_any(tmp_path / f"out{config.num_hidden_layers}", CONFIGS["llama"])


def test_a_gguf_adapter_for_another_architecture_is_refused(tmp_path):
    gguf.write(adapter_of(CONFIGS["qwen2"]), CONFIGS["qwen2"], tmp_path / "a.gguf")
    with pytest.raises(UserError, match="another architecture"):
        gguf.read(tmp_path / "a.gguf", CONFIGS["llama"])
    gguf_model.write(
        ForeignModel(CONFIGS["llama"], model_of(CONFIGS["llama"]).state_dict()), tmp_path / "m.gguf"
    )
    with pytest.raises(UserError, match="an adapter is needed"):
        adapters.read_any(tmp_path / "m.gguf", CONFIGS["llama"])


@pytest.mark.parametrize("format", FORMATS)
def test_values_that_are_no_numbers_are_refused(tmp_path, format):
    config = CONFIGS["llama"]
    adapter = adapter_of(config)
    name = "blocks.1.mlp.up.weight"
    bad = Factors(adapter.factors[name].a, torch.full_like(adapter.factors[name].b, float("nan")))
    with pytest.raises(UserError, match="not finite"):
        adapters.write(Adapter({**adapter.factors, name: bad}), config, format, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    adapters.write(adapter, config, format, tmp_path / "out")
    file = tmp_path / "out" / peft.WEIGHTS if format == "peft" else tmp_path / "out"
    raw = bytearray(file.read_bytes())
    raw[-4:] = np.float32("nan").tobytes()
    file.write_bytes(raw)
    with pytest.raises(UserError, match="not finite"):
        adapters.read_any(tmp_path / "out", config)


def test_damaged_ggla_files_are_refused(tmp_path):
    config, path = CONFIGS["llama"], tmp_path / "lora.bin"
    ggla.write(adapter_of(config), config, path)
    raw = path.read_bytes()
    second = 16 + (-(-(16 + 20 + len("blk.0.attn_q.weight.loraA")) // 32) * 32 - 16) + 4 * 64 * 4
    bad = {
        "cut": raw[:-3],
        "header alone": raw[:10],
        "no record": raw[:16],
        "rank 0": raw[:8] + bytes(4) + raw[12:],
        "version": raw[:4] + b"\2" + raw[5:],
        "dimensions": raw[:16] + b"\xff\xff\xff\xff" + raw[20:],
        "name": raw[:20] + b"\xff\xff\xff\x7f" + raw[24:],
        "type": raw[:24] + b"\x08" + raw[25:],
        "sizes": raw[:28] + b"\xff" * 8 + raw[36:],
        "one half": raw[:second],
        "again": raw + raw[16:],
    }
    for name, content in bad.items():
        path.write_bytes(content)
        with pytest.raises(UserError) as refusal:
            ggla.read(path, config)
        assert str(path) in str(refusal.value), name


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"use_dora": True}, "magnitude is missing"),
        ({"use_dora": "true"}, "use_dora must be true or false"),
        ({"use_rslora": "true"}, "use_rslora must be true or false"),
        ({"use_rslora": 1}, "use_rslora must be true or false"),
        ({"lora_alpha": True}, "alpha is a finite number"),
        ({"lora_alpha": "16"}, "alpha is a finite number"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "kind IA3 .scales of activations.; LoRA and DoRA are read"),
        ({"peft_type": "LOKR"}, "kind LOKR .Kronecker products."),
        ({"peft_type": None, "fine_tune_type": "lora", "lora_parameters": {"rank": 8}}, "adapter of MLX"),
        ({"init_lora_weights": "pissa"}, "base itself"),
        ({"lora_alpha": float("nan")}, "finite"),
        ({"lora_alpha": "8"}, "finite"),
        ({"alpha_pattern": {"(a*)*b": 3}}, "pattern"),
        ({"alpha_pattern": {"(": 3}}, "pattern"),
    ],
)
def test_peft_settings_that_change_the_result_are_refused(tmp_path, changes, word):
    config = CONFIGS["llama"]
    peft.write(adapter_of(config), config, tmp_path / "lora")
    file = tmp_path / "lora/adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(UserError, match=word):
        peft.read(tmp_path / "lora", config)


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: name.replace(".weight", ".default.weight"),
        lambda name: name.removesuffix(".weight") + ".weight.default",
        lambda name: "_orig_mod." + name,
        lambda name: name.replace("base_model.model.", "base_model.model._orig_mod."),
        lambda name: "module." + name,
        lambda name: "module._orig_mod." + name,
        lambda name: name.removeprefix("base_model.model."),
    ],
)
@pytest.mark.parametrize("kind", ["LORA", "PeftType.LORA", "lora", None])
def test_names_of_compiled_distributed_and_bare_adapters(tmp_path, renamed, kind):
    config = CONFIGS["llama"]
    adapter = adapter_of(config)
    peft.write(adapter, config, tmp_path / "lora")
    file = tmp_path / "lora" / peft.WEIGHTS
    tensors = {renamed(name): tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file)
    settings = tmp_path / "lora/adapter_config.json"
    values = json.loads(settings.read_text()) | {"peft_type": kind}
    settings.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    assert same(adapter, peft.read(tmp_path / "lora", config), tolerance=0)


def test_a_pickled_adapter_is_refused_by_content(tmp_path):
    config = CONFIGS["llama"]
    peft.write(adapter_of(config), config, tmp_path / "lora")
    (tmp_path / "lora" / peft.WEIGHTS).unlink()
    (tmp_path / "lora/adapter_model.bin").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(UserError, match="pickle"):
        adapters.read_any(tmp_path / "lora", config)
    (tmp_path / "lora" / peft.WEIGHTS).write_bytes(b"\x80\x02}q\x00." * 9)
    with pytest.raises(UserError, match="pickle"):
        adapters.read_any(tmp_path / "lora", config)


def test_peft_of_a_tied_base_must_change_both_uses_alike(tmp_path):
    config = CONFIGS["qwen3"]
    untied = config.replace(tie_word_embeddings=False)
    adapter = adapter_of(untied, embedding=True)
    peft.write(adapter, untied, tmp_path / "apart")
    with pytest.raises(UserError, match="differently"):
        peft.read(tmp_path / "apart", config)
    del adapter.factors["head.weight"]  # type: ignore[attr-defined]
    peft.write(adapter, untied, tmp_path / "one")
    with pytest.raises(UserError, match="only one"):
        peft.read(tmp_path / "one", config)
