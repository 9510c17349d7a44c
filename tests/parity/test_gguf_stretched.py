"""Stretched positions in the real llama.cpp: far beyond the trained length, in every architecture.

L is 64 here: what decides is how often pairs turn within it, not how long it is.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from congling.core.errors import UserError
from congling.interop.gguf import model as gguf_model
from congling.interop.gguf.file import Field, GGUFFile
from congling.interop.gguf.stretch import FACTORS
from congling.interop.gguf_architecture import gguf_architecture
from congling.interop.obstacles import Unrepresentable
from congling.model import families
from congling.model.config import ModelConfig
from congling.model.rope_scaling import ntk_theta
from support.gguf_models import foreign, logits, model_of, rewritten
from support.llama_cpp_child import opened_in_a_child

pytest.importorskip("xllamacpp")

TRAINED, CONTEXT, BEGIN, COUNT = 64, 256, 240, 16
IDS = torch.randint(0, 320, (CONTEXT,), generator=torch.Generator().manual_seed(3)).tolist()
EVERY = ("llama", "qwen3")
SOME = ("granite", "qwen2", "qwen3_moe", "deepseek_moe", "olmo2", "smollm3", "hunyuan", "glm4", "gemma3")
FEW = ("plain", "yarn", "by parts", "yarn 16/0.5", "longrope")
"""Kinds that are tried in the others."""
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": TRAINED}
SPECTRUM = [float(factor) for factor in np.linspace(1, 7, 16).round(3)]
KINDS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "linear": {"rope_type": "linear", "factor": 4.0},
    "yarn": YARN,
    "by parts": YARN | {"attention_factor": 1.0},
    "mscale": YARN | {"mscale": 1.0, "mscale_all_dim": 0.5},
    "yarn 16/0.5": YARN | {"beta_fast": 16.0, "beta_slow": 0.5},
    "yarn 4/1": YARN | {"beta_fast": 4.0},
    "yarn, untruncated": YARN | {"truncate": False},
    "longrope, one factor": {
        "rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": TRAINED,
        "short_factor": [4.0] * 16, "long_factor": [4.0] * 16,
    },
    "longrope": {
        "rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": TRAINED,
        "short_factor": SPECTRUM, "long_factor": SPECTRUM,
    },
    "llama3": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 1024},
}  # fmt: skip
TABLED = {"yarn 4/1", "yarn, untruncated", "longrope", "llama3"}
"""Kinds that only a table of factors can say."""
MULTIPLYING = {"by parts", "mscale", "longrope, one factor"}


def config_of(family: str, kind: str) -> ModelConfig:
    sizes: dict[str, Any] = {
        "vocab_size": 320, "max_position_embeddings": CONTEXT, "num_hidden_layers": 2, "hidden_size": 64,
        "num_attention_heads": 2,
    }  # fmt: skip
    if family == "gemma3":
        sizes |= {"num_hidden_layers": 6, "sliding_window": 9}
    if family == "granite":
        config = families.llama(**sizes).replace(embedding_multiplier=3.0, logits_scaling=0.5)
    elif family == "smollm3":
        config = families.llama(**sizes | {"num_hidden_layers": 4}).replace(
            positions={"no_rope_layers": [1, 1, 1, 0]}
        )
    elif family == "hunyuan":
        config = families.qwen3(**sizes).replace(attention={"qk_norm_after_rope": True})
    else:
        config = families.FAMILIES[family.replace("_", "-")](**sizes)
    if kind == "ntk":
        positions = config.positions.model_dump()
        return config.replace(positions=positions | {"rope_theta": ntk_theta(1e4, 4.0, 32)})
    scaling = KINDS[kind]
    if scaling is not None and scaling["rope_type"] == "longrope" and family == "glm4":
        scaling = scaling | {key: scaling[key][:8] for key in ("short_factor", "long_factor")}
    return config.replace(positions=config.positions.model_dump() | {"rope_scaling": scaling})


def written(config: ModelConfig, path: Path, fields: dict[str, Field] | None = None) -> torch.nn.Module:
    model = model_of(config)
    gguf_model.write(foreign(model), path, fields=fields)
    return model


def holds(family: str, kind: str) -> bool:
    if kind in TABLED:
        return family in ("llama", "granite", "qwen2")
    return not (family == "gemma3" and kind in MULTIPLYING)


def test_the_same_logits_and_greedy_text_at_four_times_the_length(tmp_path):
    models, files = {}, {}
    pairs = [(family, kind) for family in EVERY for kind in (*KINDS, "ntk")]
    for family, kind in [*pairs, *((family, kind) for family in SOME for kind in FEW)]:
        config, name = config_of(family, kind), f"{family}, {kind}"
        if not holds(family, kind):
            with pytest.raises(Unrepresentable) as raised:
                gguf_architecture(config)
            assert raised.value.obstacle.nearest, name
            continue
        files[name] = tmp_path / f"{len(files)}.gguf"
        models[name] = written(config, files[name])
        assert gguf_model.read(files[name]).config.positions == config.positions, name
    seen = opened_in_a_child(files, IDS, BEGIN, COUNT)
    assert seen.keys() == files.keys()
    for name, model in models.items():
        expected, theirs = logits(model, IDS).numpy(), seen[name].logits
        assert theirs is not None, seen[name].refused
        off = np.abs(theirs - expected).max()
        assert off <= (1e-2 if name.startswith("gemma3") else 1e-3), (name, off)
        text = IDS[:BEGIN] + seen[name].text
        assert logits(model, text).argmax(-1)[BEGIN - 1 : -1].tolist() == seen[name].text, name
        plain = name.split(", ")[0] + ", plain"
        if name != plain and not name.startswith("hunyuan"):
            assert np.abs(theirs - seen[plain].logits).max() > 0.05, name


CHANGED: dict[Any, Any] = {"yarn": "linear", "linear": "none"}


def _keys(fields: dict[str, Field]) -> Callable[[dict[str, Field], object], object]:
    return lambda keys, arrays: keys.update(fields)


def test_no_key_is_without_effect(tmp_path):
    """Each key of positions that we write, and the table, made less by a quarter.

    The base is 10000 everywhere: with a larger one a ramp has so few pairs that its corners may stay.
    """
    files: dict[str, Path] = {}
    tried = (("qwen3", "by parts"), ("llama", "linear"), ("granite", "yarn 4/1"), ("llama", "longrope"))
    for family, kind in tried:
        name = f"{family}, {kind}"
        files[name] = path = tmp_path / f"{len(files)}.gguf"
        config = config_of(family, kind)
        written(config.replace(positions={**config.positions.model_dump(), "rope_theta": 1e4}), path)
        file = GGUFFile.open(path)
        told = [key for key in file.fields if ".rope.freq_base" in key or ".rope.scaling." in key]
        assert len(told) >= 2
        for key in told:
            kept = file.fields[key]
            new = CHANGED.get(kept.value) or type(kept.value)(kept.value * 0.75)
            change = _keys({key: Field(kept.type, new)})
            files[f"{name}: {key}"] = rewritten(path, change, f"{len(files)}.gguf")
        if FACTORS in file.tensors:
            table = {FACTORS: file.array(FACTORS) * np.float32(0.75)}
            files[f"{name}: {FACTORS}"] = rewritten(
                path, lambda keys, arrays, table=table: arrays.update(table), f"{len(files)}.gguf"
            )
    seen = opened_in_a_child(files, IDS, BEGIN, 1)
    assert seen.keys() == files.keys()
    for name in files:
        if ": " in name:
            before, after = seen[name.split(": ")[0]].logits, seen[name].logits
            assert before is not None and after is not None, seen[name].refused
            assert np.abs(after - before).max() > 1e-2, name


def test_keys_of_yarn_that_llama_cpp_passes_over_are_passed_over_here(tmp_path):
    """The official converter writes them: what its files compute is what llama.cpp makes of them."""
    told = {"beta_fast": 8.0, "beta_slow": 2.0, "attn_factor": 0.5, "ext_factor": 0.5, "log_multiplier": 0.7}
    files, models = {}, {}
    for family in ("llama", "qwen3", "granite"):
        path, config = tmp_path / f"{family}.gguf", config_of(family, "yarn")
        models[family] = written(config, path)
        prefix = f"{gguf_architecture(config)}.rope.scaling.yarn_"
        change = _keys({f"{prefix}{key}": Field("f32", value) for key, value in told.items()})
        files[family] = rewritten(path, change, f"{family} 2.gguf")
        assert gguf_model.read(files[family]).config == config
    seen = opened_in_a_child(files, IDS, BEGIN, 1)
    for family, model in models.items():
        theirs = seen[family].logits
        assert theirs is not None and np.abs(theirs - logits(model, IDS).numpy()).max() <= 1e-3


def test_a_type_that_llama_cpp_does_not_know_ends_it_and_is_refused_here(tmp_path):
    """Should it stop ending the process one day, what is said of it is to be said otherwise."""
    path = tmp_path / "plain.gguf"
    written(config_of("llama", "plain"), path)
    scaling = {"type": Field("string", "dynamic"), "factor": Field("f32", 4.0)}
    bad = rewritten(path, _keys({f"llama.rope.scaling.{key}": field for key, field in scaling.items()}))
    assert opened_in_a_child({"plain": path, "dynamic": bad}, IDS, BEGIN, 1).keys() == {"plain"}
    with pytest.raises(UserError, match="dynamic"):
        gguf_model.read(bad)
