"""Rotary positions of a Hugging Face ``config.json``: what its keys mean to transformers, and here. No torch.

::

    transformers 4   "rope_theta": 1e6, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, …}
    transformers 5   "rope_parameters": {"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0, …}

Where both are, transformers takes ``rope_scaling``, and so do we. Frequencies follow the factor that is
written, whatever ``max_position_embeddings`` is; that is the context.
"""

from typing import Any

from congling.core.errors import UserError
from congling.interop.hf.settings import Settings, as_float

TRAINED = "original_max_position_embeddings"
KEYS: dict[str, frozenset[str]] = {
    "default": frozenset(),
    "linear": frozenset({"factor"}),
    "dynamic": frozenset({"factor"}),
    "llama3": frozenset({"factor", "low_freq_factor", "high_freq_factor", TRAINED}),
    "yarn": frozenset({
        "factor", TRAINED, "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim",
        "truncate",
    }),
    "longrope": frozenset({"factor", TRAINED, "short_factor", "long_factor", "attention_factor"}),
}  # fmt: skip
"""Keys that transformers computes with, by the kind; it warns of others, and does nothing with them."""
FORMER = {"su": "longrope"}
"""Names under which kinds were first published."""


def rotary(settings: Settings) -> dict[str, Any]:
    """Our configuration of the rotary positions.

    Raises:
        UserError: positions of a kind that has no counterpart here, or a key is missing or absurd.
    """
    table = rotary_table(settings)
    share = table.get("partial_rotary_factor")
    if "partial_rotary_factor" not in settings.defaults and share not in (None, 1):
        settings.require("partial_rotary_factor", 1, 1.0)  # other classes turn whole heads
        table.require("partial_rotary_factor", 1, 1.0)
    kind, context = _kind(table), settings.integer("max_position_embeddings", "model_max_length")
    found = {
        "kind": "rope",
        "rope_theta": table.number("rope_theta"),
        "rope_scaling": None if kind == "default" else {"rope_type": kind, **_scaling(kind, table, context)},
    }
    return (
        found if share is None else found | {"partial_rotary_factor": table.number("partial_rotary_factor")}
    )


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
    outside = {key: settings.get(key) for key in ("rope_theta", "partial_rotary_factor")}
    kind = given.get("rope_type", given.get("type", "default"))
    if (trained := settings.get(TRAINED)) is not None and TRAINED in KEYS.get(plain_kind(kind) or "", ()):
        given = given | {TRAINED: trained}  # outside of the table it counts for more than within
    return Settings(given, f"{settings.where}, {key}", outside | {"rope_type": kind})


def plain_kind(kind: object) -> str | None:
    """The name of now of a kind; None: it is no name."""
    return FORMER.get(kind, kind) if isinstance(kind, str) else None


def _kind(table: Settings) -> str:
    kind = table.get("rope_type")
    known = plain_kind(kind)
    if known not in KEYS:
        raise UserError(
            "rotary positions of this kind are not supported",
            where=table.where,
            value=kind,
            hint=f"supported: {', '.join(KEYS)}",
        )
    return known


def _scaling(kind: str, table: Settings, context: int) -> dict[str, Any]:
    """Keys of a kind, with what transformers takes where they are left out."""
    if kind in ("linear", "dynamic"):
        scaling = {"factor": table.number("factor")}
        return scaling if kind == "linear" else scaling | {TRAINED: context}
    trained = table.integer(TRAINED) if table.get(TRAINED) is not None else context
    if kind == "llama3":
        keys = ("factor", "low_freq_factor", "high_freq_factor")
        return {key: table.number(key) for key in keys} | {TRAINED: trained}
    if kind == "yarn":
        derived = table.get("factor") is None and "factor" in table.values  # null: by the contexts
        numbers = ("beta_fast", "beta_slow", "mscale", "mscale_all_dim")  # 0 is none there
        return {
            "factor": context / trained if derived else table.number("factor"),
            TRAINED: trained,
            **{key: table.number(key) for key in numbers if table.get(key)},
            "attention_factor": _optional(table, "attention_factor"),
            "truncate": table.values.get("truncate", True),
        }
    given = table.get("factor") is not None
    return {
        "factor": table.number("factor") if given else max(1.0, context / trained),
        TRAINED: trained,
        "short_factor": _factors(table, "short_factor"),
        "long_factor": _factors(table, "long_factor"),
        "attention_factor": _optional(table, "attention_factor"),
    }


def _optional(table: Settings, key: str) -> float | None:
    return None if table.get(key) is None else table.number(key)


def _factors(table: Settings, key: str) -> tuple[float, ...]:
    """Numbers, one a pair.

    Raises:
        UserError: the key is missing, or its value is no list of numbers.
    """
    value = table.get(key)
    if not isinstance(value, list):
        raise UserError(f"{key} must be a list of numbers", where=table.where, value=value)
    odd = next((one for one in value if type(one) not in (int, float)), None)
    if odd is not None or not value:
        raise UserError(f"{key} must be a list of numbers", where=table.where, value=odd)
    return tuple(as_float(one) for one in value)
