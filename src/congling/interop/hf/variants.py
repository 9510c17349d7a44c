"""Classes that are a Llama but for a few keys, by their ``config.json``. Without torch."""

import math
from typing import Any

from congling.core.errors import UserError
from congling.interop.hf.parts import decoder
from congling.interop.hf.positions import rotary_table
from congling.interop.hf.settings import Settings


def llama(settings: Settings) -> dict[str, Any]:
    """The Llama itself, with biases in its MLP or without."""
    return decoder(settings, mlp_bias=True)


def granite(settings: Settings) -> dict[str, Any]:
    """Multipliers everywhere; the scores have one whatever the width of the heads."""
    values = decoder(settings, mlp_bias=True)
    multiplier, usual = settings.number("attention_multiplier"), values["attention"]["head_dim"] ** -0.5
    values["attention"]["attention_multiplier"] = None if multiplier == usual else multiplier
    multipliers = ("embedding_multiplier", "residual_multiplier", "logits_scaling")
    return values | {name: settings.number(name) for name in multipliers}


def minicpm(settings: Settings) -> dict[str, Any]:
    """The same multipliers, told by the depth and the width of the model they were tuned on (MiniCPM)."""
    settings.require("num_experts", 0)
    if settings.get("sparse_config") is not None:
        raise UserError(
            "sparse_config: attention to chosen blocks of tokens is not supported", where=settings.where
        )
    values = decoder(settings)
    return values | {
        "embedding_multiplier": settings.number("scale_emb"),
        "residual_multiplier": settings.number("scale_depth") / math.sqrt(values["num_hidden_layers"]),
        "logits_scaling": values["hidden_size"] / settings.integer("dim_model_base"),
    }


def smollm3(settings: Settings) -> dict[str, Any]:
    """Some blocks rotate nothing, by a list or one in so many."""
    values = decoder(settings, mlp_bias=True)
    layers, listed = values["num_hidden_layers"], settings.get("no_rope_layers")
    if listed is None:
        step = settings.integer("no_rope_layer_interval")
        listed = [int((layer + 1) % step != 0) for layer in range(layers)]
    if (
        not isinstance(listed, list)
        or len(listed) < layers
        or any(type(one) is not int or one not in (0, 1) for one in listed)
    ):
        raise UserError(
            "no_rope_layers: a list with 0 or 1 for each layer is needed", where=settings.where, value=listed
        )
    values["positions"]["no_rope_layers"] = None if all(listed[:layers]) else tuple(listed[:layers])
    return values


def hunyuan(settings: Settings) -> dict[str, Any]:
    """Queries and keys are normalised after they are rotated; the base of positions may be stretched."""
    settings.require("use_qk_norm", True)
    settings.require("use_cla", False)
    settings.require("num_experts", 1)
    table, alpha = rotary_table(settings), None
    if table.get("rope_type") == "dynamic" and table.get("alpha"):  # the base follows no text's length
        alpha = table.number("alpha")
        values = dict(settings.values) | {"rope_scaling": {"rope_theta": table.number("rope_theta")}}
        settings = Settings(values, settings.where, settings.defaults)
    values = decoder(settings)
    values["attention"] |= {"qk_norm": True, "qk_norm_after_rope": True}
    if alpha is not None:
        width = values["attention"]["head_dim"]
        if not 0 < alpha < 1e9:
            raise UserError("alpha: no factor of a base of positions", where=table.where, value=alpha)
        values["positions"]["rope_theta"] *= alpha ** (width / max(1, width - 2))
    return values


def glm(settings: Settings) -> dict[str, Any]:
    """Rotary positions on neighbouring channels of a part of each head, no bias on attention's output."""
    values = decoder(settings)
    values["attention"]["attention_output_bias"] = False if values["attention"]["attention_bias"] else None
    return values


def glm4(settings: Settings) -> dict[str, Any]:
    """The same with norms behind the sublayers, too."""
    return glm(settings) | {"norm_placement": "sandwich", "initial": {"kind": "scaled-normal"}}


def gemma3(settings: Settings) -> dict[str, Any]:
    """Sliding windows with a rotary base of their own, GeGLU, norms before and behind, scaled embeddings."""
    settings.require("hidden_activation", "gelu_pytorch_tanh")
    settings.require("hidden_act", "silu", "gelu_pytorch_tanh")  # it says nothing; older files have it
    settings.require("use_bidirectional_attention", False)
    for key in ("final_logit_softcapping", "attn_logit_softcapping"):
        settings.require(key)
    whole, local = _by_layer_type(settings)
    values = decoder(whole)
    layers, listed = values["num_hidden_layers"], settings.get("layer_types")
    if listed is None:
        step = settings.integer("sliding_window_pattern")
        listed = ["sliding_attention" if (i + 1) % step else "full_attention" for i in range(layers)]
    if not isinstance(listed, list) or len(listed) != layers:
        raise UserError(
            "layer_types: a list with a type for each layer is needed", where=settings.where, value=listed
        )
    values["attention"] |= {
        "qk_norm": True,
        "sliding_window": settings.integer("sliding_window"),
        "layer_types": tuple(listed),
    }
    values["positions"]["rope_local_base_freq"] = local
    if (values["positions"]["rope_scaling"] or {}).get("truncate") is False:
        values["positions"]["rope_scaling"]["truncate"] = True  # transformers looks for it in another table
    values["mlp"]["hidden_act"] = "gelu_pytorch_tanh"
    return values | {
        "norm_placement": "sandwich",
        "embedding_multiplier": values["hidden_size"] ** 0.5,
        "initial": {"kind": "scaled-normal"},
    }


def _by_layer_type(settings: Settings) -> tuple[Settings, float]:
    """Settings with the rotary positions of whole attention alone, and the base of those in windows."""
    given, local = settings.get("rope_parameters"), settings.number("rope_local_base_freq")
    changed = dict(settings.values) | {"hidden_act": None, "sliding_window": None}
    if isinstance(given, dict) and isinstance(given.get("full_attention"), dict):
        changed["rope_parameters"] = given["full_attention"]
        table = Settings(given.get("sliding_attention") or {}, settings.where, {"rope_theta": local})
        table.require("rope_type", "default")
        local = table.number("rope_theta")
    return Settings(changed, settings.where, settings.defaults), local


def ernie(settings: Settings) -> dict[str, Any]:
    """A Llama that rotates neighbouring channels, which is an order of rows; all its matrices or none have
    biases."""
    values = decoder(settings)
    values["attention"]["attention_bias"] = values["mlp"]["mlp_bias"] = settings.flag("use_bias")
    return values


def internlm2(settings: Settings) -> dict[str, Any]:
    """A Llama with its queries, keys and values in one matrix, group after group."""
    values = decoder(settings)
    values["attention"]["attention_bias"] = settings.flag("bias")
    return values


def minimind(settings: Settings) -> dict[str, Any]:
    """MiniMind 3 is a Qwen3 or a mixture of experts like its; MiniMind 2, told by its keys, had no norms of
    queries and keys, and shared experts.
    """
    second = settings.get("n_routed_experts") is not None
    values = decoder(settings)
    values["attention"]["qk_norm"] = not second
    values["dropout"] = settings.number("dropout")
    if not settings.flag("use_moe"):
        return values
    active = settings.integer("num_experts_per_tok")
    mlp = {
        "kind": "moe",
        "num_experts_per_tok": active,
        "moe_intermediate_size": settings.integer("intermediate_size"),
    }
    router = {"kind": "softmax", "norm_topk_prob": settings.flag("norm_topk_prob")}
    if not second:
        mlp |= {
            "num_experts": settings.integer("num_experts"),
            "moe_intermediate_size": settings.integer("moe_intermediate_size", "intermediate_size"),
        }
        router["router_aux_loss_coef"] = settings.number("router_aux_loss_coef")
    else:
        settings.require("scoring_func", "softmax")
        settings.require("n_shared_experts", 0, 1)
        mlp |= {
            "num_experts": settings.integer("n_routed_experts"),
            "n_shared_experts": settings.count("n_shared_experts"),
        }
        router["router_aux_loss_coef"] = settings.number("aux_loss_alpha")
        router["norm_topk_prob"] = router["norm_topk_prob"] and active > 1
    return values | {"mlp": mlp | {"router": router}}
