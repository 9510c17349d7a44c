"""Stretched positions in GGUF files: written and read back, read from others' files, refused if damaged."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from congling.core.errors import UserError
from congling.interop.foreign import ForeignModel
from congling.interop.gguf.file import Field, GGUFFile
from congling.interop.gguf.model import read, write
from congling.interop.gguf.packed import load_packed
from congling.interop.gguf.stretch import OURS, yarn_context
from congling.interop.gguf.stretch_flags import flags, note
from congling.model import families
from congling.model.config import ModelConfig
from congling.model.frequencies import rotary_frequencies
from congling.model.rope_scaling import LongRopeScaling, YarnScaling, ntk_theta
from congling.model.transformer import Transformer
from support.gguf_models import rewritten

SIZES: dict[str, Any] = {
    "vocab_size": 300, "max_position_embeddings": 256, "num_hidden_layers": 1, "hidden_size": 64,
    "num_attention_heads": 2,
}  # fmt: skip
LLAMA, QWEN3 = families.llama(**SIZES), families.qwen3(**SIZES)
PLAIN = 1e4 ** (-np.arange(0, 32, 2) / 32)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
TABLE = np.linspace(1, 5, 16).astype(np.float32)
LONG = {
    "rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": 64,
    "short_factor": tuple(TABLE.tolist()), "long_factor": tuple(TABLE.tolist()),
}  # fmt: skip
SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 3.3},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 1024},
    "llama3, other bands": {
        "rope_type": "llama3", "factor": 8.0, "high_freq_factor": 3.0,
        "original_max_position_embeddings": 300,
    },
    "yarn": YARN, "yarn, factor 1": YARN | {"factor": 1.0}, "yarn, odd factor": YARN | {"factor": 10 / 3},
    "by parts": YARN | {"attention_factor": 1.0}, "mscale": YARN | {"mscale": 0.7, "mscale_all_dim": 0.3},
    "yarn 16/0.5": YARN | {"beta_fast": 16.0, "beta_slow": 0.5}, "yarn 4/1": YARN | {"beta_fast": 4.0},
    "untruncated": YARN | {"truncate": False}, "longrope": LONG,
    "longrope, factor of scores": LONG | {"attention_factor": 1.25},
    "longrope, one factor": LONG | {"short_factor": (2.0,) * 16, "long_factor": (2.0,) * 16},
}  # fmt: skip


def stretched(config: ModelConfig, scaling: dict[str, Any] | None, **changes: Any) -> ModelConfig:
    return config.replace(positions=config.positions.model_dump() | {"rope_scaling": scaling, **changes})


def saved(folder: Path, config: ModelConfig = LLAMA, **fields: Field) -> Path:
    torch.manual_seed(1)
    keys = {f"llama.rope.{name.replace('__', '.')}": field for name, field in fields.items()}
    write(ForeignModel(config, Transformer(config).state_dict()), folder / "m.gguf", fields=keys)
    return folder / "m.gguf"


def f32(value: float) -> Field:
    return Field("f32", value)


def frequencies(config: ModelConfig) -> np.ndarray:
    assert config.positions.kind == "rope"
    return rotary_frequencies(config.positions, 32).numpy()


@pytest.mark.parametrize("kind", SCALINGS)
def test_every_static_kind_is_read_back_as_it_was(kind, tmp_path):
    config = stretched(LLAMA, SCALINGS[kind])
    path = saved(tmp_path, config)
    assert read(path).config == config
    assert load_packed(path).config == config
    # Without our own key what is computed is the same, under whatever name.
    found = read(rewritten(path, lambda keys, arrays: keys.pop(OURS, None))).config
    assert np.allclose(frequencies(found), frequencies(config), rtol=1e-6)
    ours = getattr(config.positions.rope_scaling, "magnitude", 1.0)
    assert getattr(found.positions.rope_scaling, "magnitude", 1.0) == pytest.approx(ours, rel=1e-5)


@pytest.mark.parametrize("config", [LLAMA, QWEN3], ids=["llama", "qwen3"])
def test_what_the_usual_keys_tell_has_no_key_of_ours(config, tmp_path):
    path = saved(tmp_path, stretched(config, YARN))
    assert OURS not in GGUFFile.open(path).fields
    assert GGUFFile.open(path).integer(f"{config and read(path).facts['architecture']}.context_length") == 256
    ntk = stretched(config, None, rope_theta=ntk_theta(1e4, 4.0, 32))
    path.unlink()
    assert read(saved(tmp_path, ntk)).config == ntk


def test_our_own_key_is_believed_only_beside_what_we_would_write(tmp_path):
    path = saved(tmp_path, stretched(LLAMA, SCALINGS["yarn 4/1"]))
    assert isinstance(read(path).config.positions.rope_scaling, YarnScaling)
    changes = {
        "table": lambda keys, arrays: arrays.update({"rope_freqs.weight": TABLE}),
        "scores": lambda keys, arrays: keys.update({"llama.rope.scaling.attn_factor": f32(1.5)}),
        "no JSON": lambda keys, arrays: keys.update({OURS: Field("string", "{" * 9999)}),
        "no text": lambda keys, arrays: keys.update({OURS: Field("u32", 1)}),
        "dynamic": lambda keys, arrays: keys.update({OURS: Field("string", '{"rope_theta":1e4,"rope_scaling":'
            '{"rope_type":"dynamic","factor":4,"original_max_position_embeddings":64}}')}),
    }  # fmt: skip
    for name, change in changes.items():
        found = read(rewritten(path, change, f"{name}.gguf")).config
        assert isinstance(found.positions.rope_scaling, LongRopeScaling), name
    base = rewritten(path, lambda keys, arrays: keys.update({"llama.rope.freq_base": f32(2e4)}), "base.gguf")
    assert read(base).config.positions.rope_theta == 2e4


def test_any_table_of_factors_is_a_static_longrope(tmp_path):
    path = saved(tmp_path, stretched(LLAMA, SCALINGS["llama3"]))
    found = read(rewritten(path, lambda keys, arrays: arrays.update({"rope_freqs.weight": TABLE}))).config
    assert np.allclose(frequencies(found), PLAIN / TABLE, rtol=1e-6)
    assert not found.depends_on_length

    def under_yarn(keys: dict[str, Field], arrays: dict[str, np.ndarray]) -> None:
        arrays["rope_freqs.weight"] = TABLE

    path.unlink()
    path = saved(tmp_path, stretched(LLAMA, YARN))
    both = read(rewritten(path, under_yarn, "both.gguf")).config
    alone = frequencies(stretched(LLAMA, YARN))
    assert np.allclose(frequencies(both), alone / TABLE, rtol=1e-6)
    assert both.positions.rope_scaling.magnitude == pytest.approx(YarnScaling(**YARN).magnitude, rel=1e-5)


def test_keys_as_other_writers_leave_them(tmp_path, capsys):
    path = saved(tmp_path)

    def scaling(**keys: Any) -> Any:
        kinds = {str: "string", float: "f32", int: "u32"}
        given = {f"llama.rope.{name}": Field(kinds[type(value)], value) for name, value in keys.items()}
        given = {name.replace("scaling_", "scaling.", 1): field for name, field in given.items()}
        name = f"{len(list(tmp_path.iterdir()))}.gguf"
        config = read(rewritten(path, lambda fields, arrays: fields.update(given), name)).config
        return config.positions.rope_scaling

    yarn: dict[str, Any] = {"scaling_type": "yarn", "scaling_factor": 4.0}
    assert scaling(scale_linear=2.0).factor == 2.0
    assert scaling(scaling_factor=2.0).rope_type == "linear"
    assert scaling(scaling_type="none", scaling_factor=2.0) is None
    assert scaling(scaling_type="yarn") is None
    assert scaling(**yarn | {"scaling_factor": 0.0}) is None
    for more in ({}, {"scaling_original_context_length": 0}):  # llama.cpp takes the context
        assert scaling(**yarn, **more) == YarnScaling(factor=4, original_max_position_embeddings=256)
    assert capsys.readouterr().err == ""
    by_parts = scaling(**yarn, scaling_attn_factor=float(np.float32(1 / YarnScaling(**YARN).magnitude)))
    assert by_parts.attention_factor == 1
    one = scaling(scaling_type="linear", scaling_factor=4.0, scaling_attn_factor=1.5)
    assert (one.magnitude, set(one.long_factor)) == (1.5, {4.0})
    assert scaling(**yarn, scaling_yarn_beta_fast=32.0, scaling_yarn_ext_factor=1.0).beta_fast == 32
    assert capsys.readouterr().err == ""
    assert scaling(**yarn, scaling_yarn_beta_fast=8.0, scaling_yarn_attn_factor=0.5).beta_fast == 32
    told = capsys.readouterr().err
    assert all(part in told for part in ("yarn_beta_fast", "8", "yarn_attn_factor", "passes over"))


def test_tables_for_short_and_for_long_texts(tmp_path, capsys):
    path = saved(
        tmp_path,
        scaling__type=Field("string", "longrope"),
        scaling__original_context_length=Field("u32", 64),
        scaling__attn_factor=f32(1.2),
    )
    ones = np.ones(16, np.float32)
    tables = {"rope_factors_long.weight": TABLE, "rope_factors_short.weight": ones}
    found = read(rewritten(path, lambda keys, arrays: arrays.update(tables))).config
    scaling = found.positions.rope_scaling
    assert isinstance(scaling, LongRopeScaling) and found.depends_on_length
    assert (scaling.original_max_position_embeddings, scaling.magnitude) == (64, 1.2)
    assert np.allclose(scaling.long_factor, TABLE) and set(scaling.short_factor) == {1.0}
    assert "size" in (told := capsys.readouterr().err) or "every context" in told
    with pytest.raises(UserError, match=r"freeze(.|\n)*--freeze"):
        write(ForeignModel(found, read(path).weights), tmp_path / "again.gguf")
    alike = {name: TABLE for name in tables}
    found = read(rewritten(path, lambda keys, arrays: arrays.update(alike), "alike.gguf")).config
    assert not found.depends_on_length and np.allclose(frequencies(found), PLAIN / TABLE, rtol=1e-6)


HOSTILE: dict[str, tuple[dict[str, Field], dict[str, np.ndarray]]] = {
    "dynamic": ({"scaling.type": Field("string", "dynamic"), "scaling.factor": f32(4)}, {}),
    "unknown": ({"scaling.type": Field("string", "su")}, {}),
    "empty": ({"scaling.type": Field("string", "")}, {}),
    "number for a type": ({"scaling.type": Field("u32", 1)}, {}),
    "factor NaN": ({"scaling.type": Field("string", "yarn"), "scaling.factor": f32(float("nan"))}, {}),
    "factor below 0": ({"scaling.type": Field("string", "yarn"), "scaling.factor": f32(-4)}, {}),
    "factor below 1": ({"scaling.type": Field("string", "yarn"), "scaling.factor": f32(0.5)}, {}),
    "linear below 0": ({"scaling.factor": f32(-4)}, {}),
    "infinite": ({"scaling.factor": f32(float("inf"))}, {}),
    "scores times 0": ({"scaling.attn_factor": f32(0)}, {}),
    "short original context": (
        {"scaling.type": Field("string", "yarn"), "scaling.factor": f32(4),
         "scaling.original_context_length": Field("u32", 6)}, {}),
    "base 0": ({"freq_base": f32(0)}, {}),
    "base below 0": ({"freq_base": f32(-1)}, {}),
    "yarn of base 1": (
        {"freq_base": f32(1), "scaling.type": Field("string", "yarn"), "scaling.factor": f32(4)}, {}),
    "table of another length": ({}, {"rope_freqs.weight": np.ones(17, np.float32)}),
    "table of two dimensions": ({}, {"rope_freqs.weight": np.ones((16, 1), np.float32)}),
    "table of zeros": ({}, {"rope_freqs.weight": np.zeros(16, np.float32)}),
    "table with NaN": ({}, {"rope_freqs.weight": np.full(16, np.nan, np.float32)}),
    "table below 0": ({}, {"rope_freqs.weight": -TABLE}),
    "tables without their type": ({}, {"rope_factors_long.weight": TABLE}),
    "both tables": ({"scaling.type": Field("string", "longrope")}, {"rope_freqs.weight": TABLE}),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_damaged_file_is_refused_with_what_is_wrong(case, tmp_path):
    keys, tables = HOSTILE[case]

    def change(fields: dict[str, Field], arrays: dict[str, np.ndarray]) -> None:
        fields.update({f"llama.rope.{name}": field for name, field in keys.items()})
        arrays.update(tables)

    with pytest.raises(UserError, match=r"rop|rotary|position"):
        read(rewritten(saved(tmp_path), change))


def test_a_table_where_llama_cpp_takes_none_is_refused(tmp_path):
    path = saved(tmp_path, QWEN3)
    with pytest.raises(UserError, match="rope_freqs"):
        read(rewritten(path, lambda keys, arrays: arrays.update({"rope_freqs.weight": TABLE})))


def test_other_turns_within_another_context_make_the_same_ramp():
    drawn, found = random.Random(1), 0
    for _ in range(3000):
        turned, theta = drawn.choice([8, 16, 32, 64, 128]), drawn.choice([2.0, 1e4, 1e6, 1e300])
        trained, slow = drawn.choice([64, 256, 1024, 32768]), drawn.choice([0.25, 0.5, 1, 2, 8])
        fast = slow * drawn.choice([1, 4, 32, 64])
        yarn = YarnScaling(factor=4, original_max_position_embeddings=trained, beta_fast=fast, beta_slow=slow)
        context = yarn_context(yarn, theta, turned)
        if context is not None:
            usual = YarnScaling(factor=4, original_max_position_embeddings=context)
            assert usual.ramp(theta, turned) == yarn.ramp(theta, turned)
            found += context != trained
        assert context is not None or fast != 32 * slow
        assert yarn_context(yarn.replace(truncate=False), theta, turned) is None
    assert found > 300
    known = YarnScaling(factor=4, original_max_position_embeddings=256, beta_fast=8, beta_slow=0.25)
    assert known.ramp(1e4, 64) == YarnScaling(factor=4, original_max_position_embeddings=1024).ramp(1e4, 64)


def test_what_an_adapter_needs_beside_it_is_told():
    yarn = "--rope-scaling yarn --rope-scale 4 --yarn-orig-ctx 64"
    given = {
        "yarn": yarn,
        "yarn 4/1": f"{yarn} --yarn-beta-fast 4 --yarn-beta-slow 1",
        "linear": "--rope-scaling linear --rope-scale 3.3",
        "by parts": None, "untruncated": None, "longrope": None, "llama3": None,
    }  # fmt: skip
    for kind, expected in given.items():
        config = stretched(LLAMA, SCALINGS[kind])
        assert flags(config) == expected
        assert "converted from here" in str(note(config)) and str(expected or "") in str(note(config))
    assert note(LLAMA) is None and flags(LLAMA) == ""
