"""LoRA, rsLoRA and DoRA beside PEFT: the same logits both ways, and the same gradients."""

import pytest
import torch

from congling.core import artifact
from congling.core.errors import UserError
from congling.interop import adapter_directory, adapters
from congling.interop.adapter_directory import Base
from congling.interop.adapters import peft
from congling.interop.foreign import ForeignModel
from congling.transform import lora
from congling.transform.adapter import Adapter, Factors
from congling.transform.merge import merged
from support.adapters_made import CONFIGS, IDS, adapter_of, logits, model_of, same

pytest.importorskip("peft")
TOKENS = torch.tensor([IDS])
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
KINDS = {
    "lora": {"lora_alpha": 6},
    "rslora": {"lora_alpha": 6, "use_rslora": True},
    "dora": {"lora_alpha": 6, "use_dora": True},
}


def base_of(config, folder):
    """A model of ours, and the same in transformers."""
    from transformers import AutoModelForCausalLM

    from congling.interop.hf import model as hf

    model = model_of(config)
    hf.write(ForeignModel(config, model.state_dict()), folder / "base")
    return model, AutoModelForCausalLM.from_pretrained(folder / "base").eval()


def decomposed(config, **options):
    """A DoRA adapter for every matrix of the blocks, and the head where there is one."""
    state, generator = model_of(config).state_dict(), torch.Generator().manual_seed(7)
    found = {}
    for name, part in adapter_of(config, embedding=not config.tie_word_embeddings, **options).factors.items():
        if name == "embedding.weight":
            continue
        stretch = 0.7 + 0.6 * torch.rand(part.b.shape[0], generator=generator)
        lengths = (state[name] + part.delta()).norm(dim=1) * stretch
        found[name] = Factors(part.a, part.b, part.scale, lengths)
    return Adapter(found, {"name": "test"})


@pytest.mark.parametrize("kind", KINDS)
def test_what_peft_trained_has_the_same_logits_and_gradients_here(tmp_path, kind):
    from peft import LoraConfig, get_peft_model

    config = CONFIGS["llama"]
    model, theirs = base_of(config, tmp_path)
    targets = MODULES if kind == "dora" else [*MODULES, "embed_tokens"]
    wrapped = get_peft_model(theirs, LoraConfig(r=4, target_modules=targets, **KINDS[kind])).eval()
    torch.manual_seed(0)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            torch.nn.init.normal_(weight, std=0.1)
        if "magnitude" in name:
            with torch.no_grad():
                weight.mul_(0.7 + 0.6 * torch.rand_like(weight))
    wrapped.save_pretrained(tmp_path / "lora")
    lora.add(model, "mine", adapters.read_any(tmp_path / "lora", config), train=True)
    expected, found = wrapped(TOKENS).logits, model.logits(model(TOKENS))
    assert (expected - theirs_plain(wrapped)).abs().max() > 0.1
    assert (expected - found).abs().max() < 1e-5 * max(1.0, float(expected.abs().max()))
    for scores in (expected, found):
        torch.log_softmax(scores, -1)[0, :, 5].sum().backward()
    compared = 0
    for name, weight in wrapped.named_parameters():
        if weight.grad is not None and "layers.1.mlp.up_proj" in name:
            part = "magnitude" if "magnitude" in name else "a" if "lora_A" in name else "b"
            ours = getattr(model.get_submodule("blocks.1.mlp.up"), part)["mine"].grad
            torch.testing.assert_close(ours, weight.grad, atol=1e-5, rtol=1e-4)
            compared += 1
    assert compared == (3 if kind == "dora" else 2)


def theirs_plain(wrapped):
    """Logits without the adapter."""
    with torch.no_grad(), wrapped.disable_adapter():
        return wrapped(TOKENS).logits


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "olmo2", "glm4"])
def test_peft_computes_dora_of_ours_and_gives_it_back(tmp_path, family):
    from peft import PeftModel

    config = CONFIGS[family]
    model, theirs = base_of(config, tmp_path)
    adapter = decomposed(config, scales=(2.0, 0.75), ranks=(4, 7))
    assert peft.write(adapter, config, tmp_path / "lora") == []
    loaded = PeftModel.from_pretrained(theirs, tmp_path / "lora").eval()
    with torch.no_grad():
        expected = loaded(TOKENS).logits[0]
    ours = torch.from_numpy(logits(config, merged(model.state_dict(), [(adapter, 1.0)])))
    assert (expected - ours).abs().max() < 5e-5
    loaded.save_pretrained(tmp_path / "again")
    back = peft.read(tmp_path / "again", config)
    for name, part in adapter.factors.items():
        torch.testing.assert_close(back.factors[name].magnitude, part.magnitude, atol=0, rtol=0)
        torch.testing.assert_close(
            back.factors[name].scale * back.factors[name].b @ back.factors[name].a,
            part.scale * part.b @ part.a,
            atol=2e-6,
            rtol=1e-5,
        )


def test_our_directory_keeps_magnitudes_and_other_formats_refuse_them_by_name(tmp_path):
    config = CONFIGS["llama"]
    adapter = decomposed(config)
    adapter_directory.write(tmp_path / "own", adapter, Base("0" * 64, "base", config))
    back = adapter_directory.read(tmp_path / "own")
    for name, part in adapter.factors.items():
        for ours, theirs in zip(part.tensors().values(), back.factors[name].tensors().values(), strict=True):
            assert torch.equal(ours, theirs)
    for format in ("gguf-lora", "ggla"):
        with pytest.raises(UserError, match="DoRA") as refusal:
            adapters.write(adapter, config, format, tmp_path / "out")
        assert "merge it" in str(refusal.value) and not (tmp_path / "out").exists()


def test_what_peft_cannot_hold_of_dora_is_named(tmp_path):
    config = CONFIGS["llama"]
    adapter, plain = decomposed(config), adapter_of(config, embedding=True)
    table = {"embedding.weight": plain.factors["embedding.weight"]}
    notes = peft.write(Adapter({**adapter.factors, **table}), config, tmp_path / "lora")
    assert "embedding is left out" in notes[0]
    assert same(adapter_without(adapter), adapter_without(peft.read(tmp_path / "lora", config)), 1e-7)
    name = "blocks.0.mlp.up.weight"
    with pytest.raises(UserError, match="all layers or of none"):
        peft.write(Adapter({**adapter.factors, name: plain.factors[name]}), config, tmp_path / "mixed")


def adapter_without(adapter):
    """Its factors without magnitudes."""
    return Adapter({name: Factors(part.a, part.b, part.scale) for name, part in adapter.factors.items()})


def test_a_damaged_magnitude_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    config = CONFIGS["llama"]
    adapter_directory.write(tmp_path / "own", decomposed(config), Base("0" * 64, "base", config))
    file = tmp_path / "own" / adapter_directory.WEIGHTS
    tensors, name = load_file(file), "blocks.0.mlp.up.weight.magnitude"
    damages = {
        "no factors of one matrix": {name: tensors[name][:-1].clone()},
        "not finite": {name: torch.full_like(tensors[name], torch.nan)},
        "no scale belongs to": {"blocks.9.mlp.up.weight.magnitude": tensors[name].clone()},
        "floating-point": {name: tensors[name].long()},
    }
    for word, damage in damages.items():
        save_file({**tensors, **damage}, file)
        artifact.seal(tmp_path / "own", adapter_directory.KIND, parents={}, facts={})  # as one who means it
        with pytest.raises(UserError, match=word):
            adapter_directory.read(tmp_path / "own")
