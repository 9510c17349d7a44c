"""Stretched rotary positions in ``config.json``: what is read, written, told and refused."""

import json
import math
import re
from typing import Any

import pytest

from congling.core.errors import UserError
from congling.interop.hf.architecture import architecture, misfit
from congling.interop.hf.config import config_from
from congling.interop.hf.config_writing import config_json
from congling.interop.hf.position_remarks import remarks
from congling.interop.hf.position_writing import notes
from congling.interop.obstacles import Unrepresentable
from congling.interop.targets import obstacles
from congling.model.config import ModelConfig
from congling.model.families import FAMILIES
from support.stretched import BY_LENGTH, CONTEXT, STATIC, TRAINED

QWEN3: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"], "hidden_act": "silu", "hidden_size": 64, "head_dim": 16,
    "intermediate_size": 128, "max_position_embeddings": 131072, "num_attention_heads": 4,
    "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    "tie_word_embeddings": True, "vocab_size": 160,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
LONGROPE = {
    "rope_type": "longrope", "original_max_position_embeddings": 4096,
    "short_factor": [1.0] * 8, "long_factor": [1.0, 1.5, 2, 4, 8, 16, 24, 32],
}  # fmt: skip


def scaling_of(values: dict[str, Any]) -> dict[str, Any]:
    config = config_from(QWEN3 | values, "config.json")
    assert config.positions.kind == "rope" and config.positions.rope_scaling is not None
    return config.positions.rope_scaling.model_dump(exclude_none=True)


READ: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as published for Qwen3": ({"rope_scaling": YARN}, {"beta_fast": 32, "beta_slow": 1, "truncate": True}),
    "older key": ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, {
        "rope_type": "yarn", "original_max_position_embeddings": 131072,
    }),
    "transformers 5": ({"rope_theta": None, "rope_parameters": YARN | {"rope_theta": 5e5}}, YARN),
    "newer of two names": ({"rope_scaling": YARN | {"type": "linear"}}, YARN),
    "all keys": (
        {"rope_scaling": YARN | {"beta_fast": 16, "beta_slow": 2, "attention_factor": 1, "truncate": False}},
        {"beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 1.0, "truncate": False},
    ),
    "zeros and nulls are none": (
        {"rope_scaling": YARN | {"beta_fast": 0, "beta_slow": None, "mscale": 1.0, "mscale_all_dim": 0}},
        YARN | {"beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "truncate": True},
    ),
    "no factor but a null": ({"rope_scaling": YARN | {"factor": None}}, {"factor": 4.0}),
    "trained length outside wins": (
        {"rope_scaling": YARN, "original_max_position_embeddings": 16384},
        {"original_max_position_embeddings": 16384},
    ),
    "dynamic": ({"rope_scaling": {"type": "dynamic", "factor": 2}}, {
        "rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 131072,
    }),
    "dynamic knows one length": (
        {"rope_scaling": {"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 512}},
        {"original_max_position_embeddings": 131072},
    ),
    "Phi-3": ({"rope_scaling": LONGROPE}, {"factor": 32.0}),
    "first name of longrope": ({"rope_scaling": {"type": "su"} | {
        key: value for key, value in LONGROPE.items() if key != "rope_type"
    }}, {"rope_type": "longrope", "long_factor": tuple(map(float, LONGROPE["long_factor"]))}),
    "longrope with its length outside": (
        {"rope_scaling": {**LONGROPE, "original_max_position_embeddings": None},
         "original_max_position_embeddings": 8192},
        {"original_max_position_embeddings": 8192, "factor": 16.0},
    ),
    "llama3 of the context's length": (
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                          "high_freq_factor": 4.0}},
        {"original_max_position_embeddings": 131072},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_keys_mean_what_they_mean_to_transformers(case: str) -> None:
    values, expected = READ[case]
    found = scaling_of(values)
    assert {key: found[key] for key in expected} == expected
    config = config_from(QWEN3 | values, "config.json")
    assert config.max_position_embeddings == 131072
    # Written once more it is the same.
    again = config_json(config, {}, "float32")
    assert config_from(json.loads(json.dumps(again)), "config.json") == config


def test_theta_of_the_newer_table_is_read() -> None:
    values = QWEN3 | {"rope_theta": None, "rope_parameters": YARN | {"rope_theta": 5e5}}
    config = config_from(values, "config.json")
    assert config.positions.kind == "rope" and config.positions.rope_theta == 5e5


REFUSED: dict[str, tuple[Any, str]] = {
    "factor as text": (YARN | {"factor": "4"}, "factor must be a number"),
    "factor of zero": (YARN | {"factor": 0}, "factor"),
    "negative factor": (YARN | {"factor": -1}, "factor"),
    "factor below one": (YARN | {"factor": 0.5}, "factor"),
    "endless factor": (YARN | {"factor": 1e309}, "factor"),
    "factor of many digits": (YARN | {"factor": 10**400}, "factor"),
    "factor that is no number": (YARN | {"factor": math.nan}, "factor"),
    "factor that is a truth": (YARN | {"factor": True}, "factor"),
    "no factor": ({"rope_type": "yarn"}, "factor"),
    "nested": ({"rope_type": {"rope_type": "yarn"}}, "not supported"),
    "listed": ({"rope_type": ["yarn"]}, "not supported"),
    "nested factor": (YARN | {"factor": {"a": [1]}}, "factor must be a number"),
    "scores that are no number": (YARN | {"attention_factor": math.nan}, "attention_factor"),
    "scores of zero": (YARN | {"attention_factor": 0.0}, "attention_factor"),
    "ramp upside down": (YARN | {"beta_fast": 1, "beta_slow": 32}, "beta_fast"),
    "trained length too short for a ramp": (YARN | {"original_max_position_embeddings": 6}, "beta_slow"),
    "trained length of zero": (YARN | {"original_max_position_embeddings": 0}, "original_max_position"),
    "trained length as text": (YARN | {"original_max_position_embeddings": "32768"}, "original_max_position"),
    "truncated as text": (YARN | {"truncate": "no"}, "truncate"),
    "truncated by nothing": (YARN | {"truncate": None}, "truncate"),
    "no lists": ({"rope_type": "longrope", "factor": 4.0}, "short_factor must be a list"),
    "too few": (LONGROPE | {"short_factor": [1.0] * 7}, "short_factor"),
    "too few of both": (LONGROPE | {"short_factor": [1.0], "long_factor": [1.0]}, "long_factor has 1"),
    "a million": (LONGROPE | {"long_factor": [1.0] * 10**6}, "long_factor 1000000"),
    "text in a list": (LONGROPE | {"long_factor": ["1"] * 8}, "long_factor must be a list of numbers"),
    "a list in a list": (LONGROPE | {"long_factor": [[1.0]] * 8}, "long_factor must be a list of numbers"),
    "zero in a list": (LONGROPE | {"long_factor": [0.0] * 8}, "long_factor"),
    "many digits in a list": (LONGROPE | {"long_factor": [10**400] * 8}, "long_factor"),
    "dynamic by alpha": ({"type": "dynamic", "alpha": 1000.0}, "factor"),
    "dynamic without a factor": ({"type": "dynamic"}, "factor"),
    "a list for a table": ([YARN], "rope_scaling must be an object"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_positions_is_one_error_with_the_key(case: str) -> None:
    scaling, message = REFUSED[case]
    with pytest.raises(UserError, match=message) as error:
        config_from(QWEN3 | {"rope_scaling": scaling}, "config.json")
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(("name", "kind"), [
    ("InternLM2ForCausalLM", "yarn"), ("MiniMindForCausalLM", "yarn"), ("BaiChuanForCausalLM", "linear"),
])  # fmt: skip
def test_a_class_with_code_of_its_own_is_asked_what_it_has(name: str, kind: str) -> None:
    values = QWEN3 | {"architectures": [name], "bias": False, "rope_scaling": YARN | {"rope_type": kind}}
    with pytest.raises(UserError, match=f"{name}.*{kind}.*\n.*default"):
        config_from(values, "config.json")


SAID: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "nothing": ({"rope_scaling": YARN}, ()),
    "vLLM's word for the same": ({"rope_scaling": YARN | {"attention_factor": 1.0,
                                 "attn_factor": 1 / (0.1 * math.log(4) + 1)}}, ()),
    "vLLM's word for something else": ({"rope_scaling": YARN | {"attn_factor": 0.5}}, ("attn_factor",)),
    "another context": ({"rope_scaling": YARN, "max_position_embeddings": 65536}, ("131,072.*65,536",)),
    "a key of another kind": ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta_fast": 16}},
                              ("change nothing.*beta_fast",)),
    "scaled twice": ({"rope_scaling": YARN, "rope_parameters": YARN | {"factor": 2.0}},
                     ("scaled twice.*4.0.*is used.*2.0",)),
    "scaled twice alike": ({"rope_scaling": YARN, "rope_parameters": YARN | {"rope_theta": 1e6}}, ()),
    "two bases": ({"rope_scaling": YARN, "rope_parameters": YARN | {"rope_theta": 1e4}}, ("scaled twice",)),
    "two trained lengths": ({"rope_scaling": YARN, "original_max_position_embeddings": 32000},
                            ("twice: 32000.*32768", "128,000.*131,072")),
    "dynamic": ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, ("dynamic.*131,072 tokens",)),
    "two sets of factors": ({"rope_scaling": LONGROPE}, ("beyond 4,096 tokens",)),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_what_is_decided_on_the_way_is_said(case: str) -> None:
    values, expected = SAID[case]
    found = remarks(QWEN3 | values, config_from(QWEN3 | values, "config.json"))
    assert len(found) == len(expected)
    for sentence, pattern in zip(found, expected, strict=True):
        assert re.search(pattern, sentence)


def model(positions: dict[str, Any], family: str = "qwen3", **more: Any) -> ModelConfig:
    sizes = {"vocab_size": 160, "max_position_embeddings": CONTEXT, "num_hidden_layers": 2, "hidden_size": 64}
    return FAMILIES[family](**sizes, num_attention_heads=2, **more).replace(positions=positions)


@pytest.mark.parametrize("kind", [*STATIC, *BY_LENGTH])
def test_the_folder_says_the_stretched_context_but_for_dynamic_positions(kind: str) -> None:
    config = model((STATIC | BY_LENGTH)[kind])
    written = config_json(config, {}, "float32")
    assert written["max_position_embeddings"] == (TRAINED if kind == "dynamic" else CONTEXT)
    assert "rope_parameters" not in written and "rope_theta" not in (written.get("rope_scaling") or {})
    read = config_from(json.loads(json.dumps(written)), "config.json")
    assert read == config.replace(max_position_embeddings=written["max_position_embeddings"])
    assert bool(notes(config)) == (kind in BY_LENGTH)
    assert not notes(read) if kind == "dynamic" else True


def test_vllm_is_told_what_scores_are_multiplied_by() -> None:
    parts = config_json(model(STATIC["by parts"]), {}, "float32")["rope_scaling"]
    assert parts["attn_factor"] == pytest.approx(1 / (0.1 * math.log(4) + 1))
    assert parts["attention_factor"] == 1.0
    assert "attn_factor" not in config_json(model(STATIC["yarn"]), {}, "float32")["rope_scaling"]
    scales = config_json(model(STATIC["yarn, two scales"]), {}, "float32")["rope_scaling"]
    expected = (0.07 * math.log(4) + 1) / (0.12 * math.log(4) + 1) / (0.1 * math.log(4) + 1)
    assert scales["attn_factor"] == pytest.approx(expected)
    spectrum = config_json(model(STATIC["a spectrum"]), {}, "float32")["rope_scaling"]
    assert (spectrum["short_mscale"], spectrum["long_mscale"]) == (1.0, 1.0)
    longrope = config_json(model(STATIC["longrope"]), {}, "float32")["rope_scaling"]
    assert longrope["long_mscale"] == pytest.approx(math.sqrt(1 + math.log(4) / math.log(TRAINED)))


def test_a_learnt_curve_is_refused_with_the_nearest_choice() -> None:
    config = model({"rope_scaling": {"rope_type": "clex", "original_max_position_embeddings": TRAINED}})
    with pytest.raises(Unrepresentable, match=f"clex(.|\n)*--freeze {CONTEXT}"):
        architecture(config)
    (found,) = obstacles(config, "bpe", "hf")
    assert f"--freeze {CONTEXT}" in found.remedy and "yarn" in found.nearest


def test_gemma_truncates_its_ramp_whatever_its_table_says() -> None:
    sizes: dict[str, Any] = {"sliding_window": 8, "num_key_value_heads": 2}
    config = model(STATIC["yarn"], "gemma3", **sizes)
    values = config_json(config, {}, "float32")
    assert misfit(config) is None
    assert (misfit(model(STATIC["yarn, not truncated"], "gemma3", **sizes)) or ("", [""]))[1] == [
        "a ramp of yarn that is truncated"
    ]
    values["rope_scaling"]["truncate"] = False
    read = config_from(values, "config.json")
    assert read == config and "truncate" in remarks(values, read)[0]
