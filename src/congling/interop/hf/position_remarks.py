"""What there is to tell about rotary positions read from a ``config.json``, in sentences. Without torch."""

import json
from collections.abc import Mapping
from typing import Any

from congling.interop.hf.positions import KEYS, TRAINED, plain_kind, rotary_table
from congling.interop.hf.settings import Settings
from congling.model.config import ModelConfig
from congling.model.rope_scaling import DynamicScaling, LongRopeScaling, YarnScaling, depends_on_length

_ALWAYS = frozenset({"rope_type", "type", "rope_theta", "partial_rotary_factor"})
_LONGEST_SHOWN = 200  # characters of a table in a message


def remarks(values: Mapping[str, Any], config: ModelConfig) -> list[str]:
    """What there is to tell about how positions were read, in sentences.

    ``values`` are those of the ``config.json`` that ``config`` was read from.
    """
    if config.positions.kind != "rope":
        return []
    settings = Settings(values, "config.json", {})
    nested = values.get("rope_parameters")
    if isinstance(nested, dict) and isinstance(
        nested.get("full_attention"), dict
    ):  # one for each type of layer
        settings = Settings(dict(values) | {"rope_parameters": nested["full_attention"]}, "", {})
    table = rotary_table(settings)
    return [
        *_said_twice(settings, table),
        *_without_effect(table, config),
        *_other_context(config),
        *_by_length(config),
    ]


def _said_twice(settings: Settings, table: Settings) -> list[str]:
    older, newer = settings.get("rope_scaling"), settings.get("rope_parameters")
    found = []
    if older and isinstance(newer, dict) and newer and _plain(older, settings) != _plain(newer, settings):
        found.append(
            f"positions are scaled twice in config.json: rope_scaling, {_shown(older)}, is used, as in "
            f"transformers, and rope_parameters, {_shown(newer)}, is not: remove one of them"
        )
    outside, inside = settings.get(TRAINED), (older or newer or {}).get(TRAINED)
    if None not in (outside, inside) and outside != inside and TRAINED in _keys(table):
        found.append(
            f"{TRAINED} is there twice: {outside}, outside of the table of rotary positions, is used, as in "
            f"transformers, and {inside}, in it, is not"
        )
    return found


def _keys(table: Settings) -> frozenset[str]:
    """Those that transformers computes with."""
    return KEYS.get(plain_kind(table.get("rope_type")) or "", frozenset())


def _plain(table: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What a table says, without what is said by leaving it out."""
    theta = settings.get("rope_theta")
    said = {"rope_type": table.get("type", "default")} | ({} if theta is None else {"rope_theta": theta})
    return said | {key: value for key, value in table.items() if value is not None and key != "type"}


def _shown(table: Any) -> str:
    text = json.dumps(table)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def _without_effect(table: Settings, config: ModelConfig) -> list[str]:
    kind, known = table.get("rope_type"), _keys(table) | _ALWAYS
    odd = {key: value for key, value in table.values.items() if key not in known and value is not None}
    if kind == "dynamic" and odd.get("alpha") and config.attention.qk_norm_after_rope:
        return []  # HunYuan's: a fixed base
    odd = {key: value for key, value in odd.items() if not _agrees(key, value, config)}
    scaling = config.positions.rope_scaling if config.positions.kind == "rope" else None
    if table.get("truncate") is False and getattr(scaling, "truncate", False):  # Gemma 3
        odd["truncate"] = False
    if not odd:
        return []
    return [
        f"keys of the rotary positions ({kind}) that change nothing in transformers change nothing here: "
        f"{_shown(odd)}"
    ]


def _agrees(key: str, value: Any, config: ModelConfig) -> bool:
    """Whether a key that vLLM reads says what others say already."""
    scaling = config.positions.rope_scaling if config.positions.kind == "rope" else None
    said = None
    if isinstance(scaling, YarnScaling) and key == "attn_factor":
        said = scaling.magnitude / scaling.replace(attention_factor=None, mscale=None).magnitude
    if isinstance(scaling, LongRopeScaling) and key in ("short_mscale", "long_mscale"):
        said = scaling.magnitude
    return said is not None and type(value) in (int, float) and abs(value / said - 1) < 1e-6


def _other_context(config: ModelConfig) -> list[str]:
    """Where a context is not the one that the factor stretches the trained length to."""
    scaling = config.positions.rope_scaling if config.positions.kind == "rope" else None
    if not isinstance(scaling, YarnScaling | LongRopeScaling):
        return []
    context, trained = config.max_position_embeddings, scaling.original_max_position_embeddings
    reach = scaling.factor * trained
    if abs(context - reach) <= 1:
        return []
    return [
        f"a factor of {scaling.factor:g} stretches a trained length of {trained:,} tokens to {reach:,.0f}, "
        f"but max_position_embeddings is {context:,}: the factor is used, as in transformers, and the "
        f"context is {context:,} tokens"
    ]


def _by_length(config: ModelConfig) -> list[str]:
    scaling = config.positions.rope_scaling if config.positions.kind == "rope" else None
    if isinstance(scaling, DynamicScaling):
        return [
            "rotary positions are dynamic: plain in texts of up to "
            f"{scaling.original_max_position_embeddings:,} tokens, which is the context; in longer ones the "
            "base grows, here with each token's position, in transformers with the length of what is read at "
            "once"
        ]
    if depends_on_length(scaling):
        return [
            "rotary positions are others beyond "
            f"{config.trained_length:,} tokens: here for the tokens that stand there, in transformers for "
            "all tokens of a longer text"
        ]
    return []
