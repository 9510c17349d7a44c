"""A model packed in memory is the GGUF file of that type; adapters trained beside it know."""

import json

import pytest
import torch

from congling.core.config import build
from congling.core.errors import UserError
from congling.interop import adapter_directory
from congling.interop.adapter_directory import Base
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.interop.gguf.packed import load_packed
from congling.interop.gguf.packing import pack, rounded
from congling.model.families import baichuan, gpt2, llama, qwen3, qwen3_moe
from congling.model.transformer import Transformer
from congling.quant.mixtures import named
from congling.quant.packed import Packed
from congling.transform.adapter import Adapter, Factors, common_packing
from congling.transform.config import AdapterConfig, Blocks
from support.adapters_made import IDS, model_of

SIZES = {
    "vocab_size": 300,
    "max_position_embeddings": 64,
    "num_hidden_layers": 2,
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_attention_heads": 8,
}
CONFIGS = {
    "llama": llama(**SIZES, num_key_value_heads=2, tie_word_embeddings=False),
    "qwen3": qwen3(**SIZES),
    "gpt2": gpt2(**SIZES),
    "baichuan": baichuan(**SIZES, tie_word_embeddings=False),
}


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("type", ["Q8_0", "Q4_K_M"])
def test_packed_in_memory_and_exported_are_the_same_to_the_bit(tmp_path, family, type):
    config = CONFIGS[family]
    model = model_of(config)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    gguf_model.write(ForeignModel(config, weights), tmp_path / "base.gguf", type)
    file, ours = load_packed(tmp_path / "base.gguf"), pack(model, type)
    lazily = rounded(weights, config, type)
    compared = 0
    for place, module in file.named_modules():
        if isinstance(module, Packed):
            own = ours.get_submodule(place)
            assert own.block_type == module.block_type
            assert torch.equal(own.dense(), module.dense())
            assert torch.equal(lazily[f"{place}.weight"], module.dense())
            compared += 1
    assert (
        compared == sum(isinstance(module, torch.nn.Linear) for module in Transformer(config).modules()) + 1
    )
    assert not any(parameter.requires_grad for parameter in ours.parameters())
    with torch.no_grad():
        tokens = torch.tensor([IDS])
        found, expected = (each.eval().logits(each(tokens)) for each in (ours, file))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(UserError, match="mixture of experts"):
        pack(
            Transformer(
                qwen3_moe(
                    vocab_size=300,
                    max_position_embeddings=64,
                    num_hidden_layers=1,
                    hidden_size=64,
                    num_attention_heads=4,
                    num_experts=4,
                )
            ),
            "Q8_0",
        )
    with pytest.raises(UserError, match="no such type"):
        pack(model_of(CONFIGS["qwen3"]), "Q9_9")
    broken = model_of(CONFIGS["qwen3"])
    with torch.no_grad():
        broken.blocks[1].mlp.up.weight[0, 0] = torch.nan
    with pytest.raises(UserError, match="not finite") as refusal:
        pack(broken, "Q8_0")
    assert "blocks.1.mlp.up.weight" in str(refusal.value)


def test_every_type_of_the_recipe_exists():
    assert [named(kind) for kind in Blocks.__args__] == list(Blocks.__args__)
    assert AdapterConfig(base_quantization="q4_k").base_quantization == "Q4_K_M"
    with pytest.raises(UserError, match=r"adapter.*base_quantization"):
        build(AdapterConfig, {"base_quantization": "Q9_9"}, where="adapter")


def test_an_adapter_says_what_base_it_belongs_to(tmp_path):
    config = CONFIGS["qwen3"]
    factors = {"blocks.0.mlp.up.weight": Factors(torch.randn(2, 256), torch.randn(256, 2))}
    for name, type in (("one", "Q8_0"), ("two", "Q4_K_M"), ("plain", None)):
        facts = {"adapter": AdapterConfig(base_quantization=type).model_dump(mode="json")}
        adapter_directory.write(tmp_path / name, Adapter(factors, facts), Base("0" * 64, "base", config))
    one, two, plain = (adapter_directory.read(tmp_path / name) for name in ("one", "two", "plain"))
    assert (one.packed_base, plain.packed_base) == ("Q8_0", None)
    assert common_packing([one, plain]) == "Q8_0"
    assert common_packing([plain]) is None
    with pytest.raises(UserError, match="Q4_K_M, Q8_0"):
        common_packing([one, two])
    assert (
        json.loads((tmp_path / "two" / "adapter.json").read_text())["adapter"]["base_quantization"]
        == "Q4_K_M"
    )
