"""``README.md`` of a PEFT folder: what the base must be, which the other files cannot say."""

import json
from typing import Any

from congling.interop.hf import position_writing
from congling.model.config import ModelConfig
from congling.transform.adapter import Adapter


def base_settings(config: ModelConfig) -> dict[str, Any]:
    """Keys of the base's ``config.json`` that say how its positions turn; none where they are not rotary."""
    if config.positions.kind != "rope":
        return {}
    context = {"max_position_embeddings": position_writing.context(config)}
    return context | position_writing.positions(config, config.positions.partial_rotary_factor != 1)


def notes(config: ModelConfig) -> list[str]:
    """What a person has to load, where the base's positions are stretched, in sentences."""
    scaling = base_settings(config).get("rope_scaling")
    if scaling is None:
        return []
    return [
        "the base's positions are stretched, which a PEFT folder cannot say: load it on a base whose "
        f"config.json has rope_scaling = {_shown(scaling)} (README.md beside the adapter has all of it)"
    ]


def card(adapter: Adapter, config: ModelConfig, base: str | None) -> str:
    """Markdown with the front matter of model hubs."""
    name, settings = str(adapter.facts.get("name") or "adapter"), base_settings(config)
    head = f"---\nlibrary_name: peft\ntags:\n- congling\n- lora\n---\n\n# {name}\n"
    parts = [head, f"An adapter of {len(adapter.factors)} tensors, written by congling."]
    if base:
        parts.append(f"Base: {base}")
    if settings:
        text = json.dumps(settings, indent=2)
        parts.append(
            "It was trained on a base with these rotary positions. A PEFT folder does not say so, and PEFT "
            "loads it on any other without a word: the base's `config.json` must have\n\n"
            f"```json\n{text}\n```"
        )
    return "\n\n".join(parts) + "\n"


def _shown(scaling: dict[str, Any]) -> str:
    """On a line, without lists of factors."""
    return json.dumps({key: "…" if isinstance(value, list) else value for key, value in scaling.items()})
