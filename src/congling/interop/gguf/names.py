"""Tensor names of GGUF and ours: one table, read in both directions, for every architecture.

Adapters use the same names with ``.lora_a`` and ``.lora_b`` behind them.
"""

import re

GLOBAL = {
    "embedding": "token_embd",
    "positions": "position_embd",
    "norm": "output_norm",
    "head": "output",
}
BLOCK = {
    "attention_norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "attention.query_norm": "attn_q_norm",
    "attention.key_norm": "attn_k_norm",
    "mlp_norm": "ffn_norm",
    "mlp.gate": "ffn_gate",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
    "mlp.router": "ffn_gate_inp",
    "mlp.experts.gate": "ffn_gate_exps",
    "mlp.experts.up": "ffn_up_exps",
    "mlp.experts.down": "ffn_down_exps",
    "mlp.shared.gate": "ffn_gate_shexp",
    "mlp.shared.up": "ffn_up_shexp",
    "mlp.shared.down": "ffn_down_shexp",
}
_POST_NORMS = {"post_attention_norm": "post_attention_norm", "post_mlp_norm": "post_ffw_norm"}
_OTHERWISE = {
    "glm4moe": {"mlp_norm": "post_attention_norm"}, "olmo2": _POST_NORMS, "glm4": _POST_NORMS,
    "gemma3": _POST_NORMS,
}  # fmt: skip
"""What an architecture calls differently."""
_BALANCE = ("mlp.router.bias", "exp_probs_b.bias")
_BARE = "mlp.experts."
"""Stacked experts are parameters of their own here, without a suffix."""
FUSED = "attn_qkv"
"""Queries, keys and values in one matrix, rows in this order."""
_GATE_UP = {"ffn_up": ("mlp.gate", "mlp.up")}
WRITTEN_FUSED: dict[str, dict[str, tuple[str, ...]]] = {
    "gpt2": {FUSED: ("attention.query", "attention.key", "attention.value")},
    "chatglm": _GATE_UP,
    "glm4": _GATE_UP,
}
"""Tensors that an architecture wants to hold several of ours, rows in this order."""


def fused_name(name: str, architecture: str) -> tuple[str, list[str]] | None:
    """GGUF's tensor that holds our parameter among others, and all of these; None: it has its own."""
    block = re.fullmatch(r"(blocks\.(\d+)\.)(.+)\.(weight|bias)", name)
    if block is None:
        return None
    prefix, layer, stem, suffix = block.groups()
    for theirs, parts in WRITTEN_FUSED.get(architecture, {}).items():
        if stem in parts:
            return f"blk.{layer}.{theirs}.{suffix}", [f"{prefix}{part}.{suffix}" for part in parts]
    return None


def our_names(name: str, architecture: str) -> list[str]:
    """Our parameters in one of GGUF's tensors: several of a fused one, none where there is no such part."""
    block = re.fullmatch(r"blk\.(\d+)\.(.+)\.(weight|bias)", name)
    if block is not None:
        layer, stem, suffix = block.groups()
        fused = WRITTEN_FUSED["gpt2"] | WRITTEN_FUSED.get(architecture, {})  # any may have fused queries
        if stem in fused:
            return [f"blocks.{layer}.{part}.{suffix}" for part in fused[stem]]
    ours = our_name(name, architecture)
    return [] if ours is None else [ours]


def gguf_name(name: str, architecture: str) -> str:
    """GGUF's name of one of our parameters.

    Raises:
        KeyError: it has none.
    """
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    if block is None:
        stem, _, suffix = name.rpartition(".")
        return f"{GLOBAL[stem]}.{suffix}"
    layer, rest = block.groups()
    if rest == _BALANCE[0]:
        return f"blk.{layer}.{_BALANCE[1]}"
    stem, suffix = (rest, "weight") if rest.startswith(_BARE) else rest.rsplit(".", 1)
    return f"blk.{layer}.{(BLOCK | _OTHERWISE.get(architecture, {}))[stem]}.{suffix}"


def our_name(name: str, architecture: str) -> str | None:
    """Our name of one of GGUF's tensors; ``None`` when there is none (also for a fused matrix)."""
    stem, _, suffix = name.rpartition(".")
    if suffix not in ("weight", "bias"):
        return None
    block = re.fullmatch(r"blk\.(\d+)\.(.+)", stem)
    if block is None:
        back = {theirs: ours for ours, theirs in GLOBAL.items()}
        return f"{back[stem]}.{suffix}" if stem in back else None
    layer, rest = block.groups()
    if f"{rest}.{suffix}" == _BALANCE[1]:
        return f"blocks.{layer}.{_BALANCE[0]}"
    back = {theirs: ours for ours, theirs in (BLOCK | _OTHERWISE.get(architecture, {})).items()}
    if rest not in back:
        return None
    ours = back[rest]
    return f"blocks.{layer}.{ours}" if ours.startswith(_BARE) else f"blocks.{layer}.{ours}.{suffix}"
