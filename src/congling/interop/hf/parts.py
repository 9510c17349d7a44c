"""Parts of a decoder, read from the keys that most classes of transformers share. Without torch."""

from collections.abc import Mapping
from typing import Any

from congling.core.errors import UserError
from congling.interop.hf.settings import Settings

DYNAMIC = "dynamic"
"""Rotary positions whose base grows with a text that is longer than the context: within it, plain ones."""


def decoder(settings: Settings, *, mlp_bias: bool = False) -> dict[str, Any]:
    """A Llama: what the others change a key or two of; ``mlp_bias`` if the class may have biases there.

    Raises:
        UserError: a key is missing, or one of these parts has no counterpart here.
    """
    settings.require("hidden_act", "silu", "swish")
    if not mlp_bias:
        settings.require("mlp_bias", False)
    width, heads = settings.integer("hidden_size"), settings.integer("num_attention_heads")
    if settings.get("head_dim") is None and width % heads:
        raise UserError(
            "hidden_size must be a multiple of num_attention_heads", where=settings.where, value=width
        )
    context = settings.integer("max_position_embeddings", "model_max_length")
    return {
        "vocab_size": settings.integer("vocab_size"),
        "max_position_embeddings": _without_window(settings, context),
        "num_hidden_layers": settings.integer("num_hidden_layers"),
        "hidden_size": width,
        "attention": {
            "num_attention_heads": heads,
            "num_key_value_heads": settings.integer("num_key_value_heads", "num_attention_heads"),
            "head_dim": settings.integer("head_dim") if settings.get("head_dim") else width // heads,
            "attention_bias": settings.flag("attention_bias"),
        },
        "mlp": {
            "kind": "gated",
            "intermediate_size": settings.integer("intermediate_size"),
            "mlp_bias": mlp_bias and settings.flag("mlp_bias"),
        },
        "norm": {"kind": "rms", "eps": settings.number("rms_norm_eps")},
        "positions": _rotary(settings),
        "tie_word_embeddings": settings.flag("tie_word_embeddings"),
    }


def rotary_table(settings: Settings) -> Settings:
    """Settings of rotary positions: transformers 5's ``rope_parameters`` or the older ``rope_scaling``, which
    wins where both are.

    Raises:
        UserError: it is no object.
    """
    key = "rope_scaling" if settings.get("rope_scaling") else "rope_parameters"
    given = settings.get(key) or {}
    if not isinstance(given, dict):
        raise UserError(f"{key} must be an object", where=settings.where, value=given)
    kind = given.get("rope_type", given.get("type", "default"))
    outside = {key: settings.get(key) for key in ("rope_theta", "partial_rotary_factor")}
    defaults = outside | {"rope_type": kind}
    return Settings(given, f"{settings.where}, {key}", defaults)


def stretches(values: Mapping[str, Any]) -> bool:
    """Whether the base of rotary positions grows with a text that is longer than the context."""
    table = rotary_table(Settings(values, "config.json", {}))
    return table.get("rope_type") == DYNAMIC and not table.get("alpha")


def _rotary(settings: Settings) -> dict[str, Any]:
    table = rotary_table(settings)
    share = table.get("partial_rotary_factor")
    if "partial_rotary_factor" not in settings.defaults and share not in (None, 1):
        settings.require("partial_rotary_factor", 1, 1.0)  # other classes turn whole heads
        table.require("partial_rotary_factor", 1, 1.0)
    kind = table.get("rope_type")
    scaling: dict[str, Any] | None = None
    if kind == "linear":
        scaling = {"rope_type": "linear", "factor": table.number("factor")}
    elif kind == "llama3":
        scaling = {
            "rope_type": "llama3",
            "factor": table.number("factor"),
            "low_freq_factor": table.number("low_freq_factor"),
            "high_freq_factor": table.number("high_freq_factor"),
            "original_max_position_embeddings": table.integer("original_max_position_embeddings"),
        }
    elif kind not in ("default", DYNAMIC):
        raise UserError(
            "rotary positions of this kind are not supported",
            where=table.where,
            value=kind,
            hint="supported: default, linear, llama3; dynamic within the context",
        )
    found = {"kind": "rope", "rope_theta": table.number("rope_theta"), "rope_scaling": scaling}
    return (
        found if share is None else found | {"partial_rotary_factor": table.number("partial_rotary_factor")}
    )


def _without_window(settings: Settings, context: int) -> int:
    """The context up to which a model with sliding windows is the same as one without: the window."""
    # Here a null means that there is no window, while a key left out may mean that there is one.
    window = settings.values.get("sliding_window", settings.defaults.get("sliding_window"))
    said = settings.get("use_sliding_window") is not None
    if window is None or (said and not settings.flag("use_sliding_window")):
        return context
    window, kinds = settings.integer("sliding_window"), settings.get("layer_types")
    if isinstance(kinds, list):
        windowed = any(kind != "full_attention" for kind in kinds)
    else:  # blocks from this number on look through the window
        windowed = settings.count("max_window_layers") < settings.integer("num_hidden_layers")
    return min(window, context) if windowed else context
