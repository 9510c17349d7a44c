"""Parts of a decoder, read from the keys that most classes of transformers share. Without torch."""

from typing import Any

from congling.core.errors import UserError
from congling.interop.hf.positions import rotary
from congling.interop.hf.settings import Settings


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
        "positions": rotary(settings),
        "tie_word_embeddings": settings.flag("tie_word_embeddings"),
    }


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
