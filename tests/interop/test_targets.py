"""What goes where: decided without torch, with a reason and the nearest choice for what does not."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from congling.core.errors import UserError
from congling.interop.gguf import vocabulary
from congling.interop.gguf_architecture import gguf_architecture
from congling.interop.llama2c import tokenizer_bin
from congling.interop.obstacles import Unrepresentable
from congling.interop.targets import TARGETS, obstacles
from congling.model import families
from congling.model.config import ModelConfig
from congling.tokenizer import store, training
from congling.tokenizer.config import TokenizerConfig

SIZES = {"vocab_size": 300, "max_position_embeddings": 64, "num_hidden_layers": 2, "hidden_size": 64}
LLAMA = families.llama(**SIZES)
QWEN3 = families.qwen3(**SIZES)
GPT2 = families.gpt2(**SIZES)


def changed(config: ModelConfig, part: str, **values: object) -> ModelConfig:
    return config.replace(**{part: {**getattr(config, part).model_dump(), **values}})


@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_family_goes_to_llama_cpp(family):
    config = families.FAMILIES[family](**SIZES)
    assert gguf_architecture(config)
    assert obstacles(config, "bpe", "gguf") == obstacles(config, "bpe", "ollama") == []


STRETCHED: dict[str, dict[str, object]] = {
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 64},
    "dynamic": {"factor": 4.0, "original_max_position_embeddings": 64},
    "longrope": {
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "short_factor": [1.0] * 8,
        "long_factor": [2.0] * 8,
    },
    "clex": {"original_max_position_embeddings": 64},
}


@pytest.mark.parametrize("kind", STRETCHED)
def test_no_kind_of_stretched_positions_is_dropped(kind):
    config = changed(LLAMA, "attention", head_dim=16, num_attention_heads=4, num_key_value_heads=4)
    config = config.replace(norm={"eps": 1e-5}, max_position_embeddings=256)
    stretched = changed(config, "positions", rope_scaling={"rope_type": kind, **STRETCHED[kind]})
    for target in TARGETS:
        assert not obstacles(config, None, target)
        held = kind == "yarn" and target != "llama2c"
        found = obstacles(stretched, None, target)
        if target == "hf":  # all but the learnt curve
            assert bool(found) == (kind == "clex") and all("--freeze" in one.remedy for one in found)
            continue
        assert [any("scal" in obstacle.nearest for obstacle in found)] == [not held]
        assert target == "llama2c" or all("--freeze" in obstacle.remedy for obstacle in found)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_a_context_that_ends_with_the_trained_length_has_one_set_of_frequencies(kind):
    config = changed(QWEN3, "attention", head_dim=16)
    scaling = {"rope_type": kind, **STRETCHED[kind]}
    within = changed(config, "positions", rope_scaling=scaling).replace(max_position_embeddings=64)
    assert not within.depends_on_length and not obstacles(within, None, "gguf")
    assert within.replace(max_position_embeddings=65).depends_on_length


def test_a_ramp_that_qwen3_cannot_hold_there_is_refused_with_one_that_it_can():
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256, "beta_fast": 3.0}
    wide = changed(QWEN3, "attention", head_dim=64)
    (found,) = obstacles(changed(wide, "positions", rope_scaling=scaling), None, "gguf")
    assert "beta_fast = 32, beta_slow = 1" in found.nearest
    nearest = scaling | {"beta_fast": 32.0, "beta_slow": 1.0}
    assert not obstacles(changed(wide, "positions", rope_scaling=nearest), None, "gguf")
    assert not obstacles(changed(LLAMA, "positions", rope_scaling=scaling), None, "gguf")


@pytest.mark.parametrize(
    "config",
    [
        changed(QWEN3, "attention", attention_bias=True),
        changed(QWEN3, "positions", rope_scaling={"rope_type": "llama3", "factor": 8.0}),
        QWEN3.replace(norm={"kind": "layer"}),
        LLAMA.replace(norm={"kind": "layer"}, positions={"kind": "alibi"}),
        LLAMA.replace(positions={"kind": "learned"}),
        LLAMA.replace(mlp={"kind": "plain", "intermediate_size": 128}),
        GPT2.replace(positions={"kind": "alibi"}),
        changed(GPT2, "attention", attention_bias=False),
        changed(GPT2, "attention", head_dim=64),
        changed(GPT2, "attention", attention_output_bias=False),
        QWEN3.replace(positions={"kind": "alibi"}),
        families.mixtral(**SIZES).replace(positions={"kind": "alibi"}),
        changed(families.deepseek_moe_v1(**SIZES), "attention", attention_bias=True),
        LLAMA.replace(num_hidden_layers=513),
    ],
)
def test_what_llama_cpp_has_not_is_refused_with_the_nearest_choice(config):
    with pytest.raises(Unrepresentable) as raised:
        gguf_architecture(config)
    assert raised.value.obstacle.nearest in str(raised.value)
    assert obstacles(config, "bpe", "gguf") == [raised.value.obstacle]


def test_heads_that_are_together_wider_than_the_model_get_an_architecture_that_allows_it():
    alibi = families.baichuan(**SIZES | {"num_hidden_layers": 40})
    first = families.deepseek_moe_v1(**SIZES)
    for config, narrow, wide in (
        (families.qwen2(**SIZES), "qwen2", "llama"),
        (alibi, "baichuan", "refact"),
        (first, "deepseek", "glm4moe"),
    ):
        assert gguf_architecture(config) == narrow
        assert gguf_architecture(changed(config, "attention", head_dim=128)) == wide


def test_obstacles_of_llama2c_and_of_unigram():
    exact = changed(LLAMA, "norm", eps=1e-5)
    assert obstacles(exact, "character", "llama2c") == []
    assert any("qk_norm" in obstacle.nearest for obstacle in obstacles(QWEN3, "bpe", "llama2c"))
    for target in ("gguf", "ollama", "llama2c"):
        assert any("unigram" in obstacle.what for obstacle in obstacles(exact, "unigram", target))


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
def test_what_is_said_of_a_tokenizer_is_what_its_export_does(kind, tmp_path):
    training.train(
        TokenizerConfig(kind=kind, vocab_size=320),
        lambda: iter(["小明说：“天气很好，we have 2026 apples.”\n"] * 50),
        tmp_path / "own",
    )
    words = store.load(tmp_path / "own")
    exact = changed(LLAMA, "norm", eps=1e-5)
    assert bool(obstacles(exact, kind, "gguf")) == bool(_refusal(lambda: vocabulary.fields(words)))
    refused = _refusal(lambda: tokenizer_bin.vocabulary_of(words))
    inexact = refused or any("ids may differ" in note for note in tokenizer_bin.vocabulary_of(words)[1])
    assert bool(obstacles(exact, kind, "llama2c")) == bool(inexact)


def _refusal(export: Callable[[], object]) -> str | None:
    try:
        export()
    except UserError as error:
        return str(error)
    return None


def test_transformers_has_no_alibi_without_remote_code():
    assert obstacles(LLAMA, "bpe", "hf") == []
    assert len(obstacles(LLAMA.replace(positions={"kind": "alibi"}), "bpe", "hf")) == 1


def test_it_needs_no_torch():
    program = "import sys, congling.interop.targets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    assert len(TARGETS) == 4
