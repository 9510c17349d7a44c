"""A PEFT folder says, for people, how the positions of its base turn: PEFT itself cannot."""

import json
from pathlib import Path
from typing import Any

import pytest

from congling.interop.adapters import peft
from congling.interop.hf.config_writing import config_json
from congling.model.config import ModelConfig
from support.adapters_made import CONFIGS, adapter_of

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "attention_factor": 1.0}
YARN |= {"beta_slow": 0.5}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "ntk": {"rope_theta": 41829.4},
    "yarn": {"rope_scaling": YARN},
    "dynamic": {
        "rope_scaling": {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 8}
    },
}


def stretched(case: str) -> ModelConfig:
    return CONFIGS["llama"].replace(positions=CASES[case], max_position_embeddings=32)


@pytest.mark.parametrize("case", CASES)
def test_the_readme_holds_the_keys_of_the_base(case: str, tmp_path: Path) -> None:
    config = stretched(case)
    notes = peft.write(adapter_of(config, embedding=False), config, tmp_path / "a", base="runs/base")
    text = (tmp_path / "a" / "README.md").read_text()
    found = json.loads(text.split("```json\n")[1].split("```")[0])
    base = config_json(config, {}, "float32")
    assert found == {key: base[key] for key in found} and found["rope_theta"] == base["rope_theta"]
    assert found.get("rope_scaling") == base.get("rope_scaling") and "runs/base" in text
    told = [note for note in notes if "rope_scaling" in note]
    assert bool(told) == ("rope_scaling" in base)
    assert all(f'"{base["rope_scaling"]["rope_type"]}"' in note for note in told)


def test_positions_that_are_not_rotary_are_not_spoken_of(tmp_path: Path) -> None:
    config = CONFIGS["gpt2"]
    peft.write(adapter_of(config, embedding=False), config, tmp_path / "a")
    assert "rotary" not in (tmp_path / "a" / "README.md").read_text()
