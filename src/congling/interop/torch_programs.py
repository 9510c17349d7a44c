"""Which training script a state dict comes from, and its configuration in our terms."""

# V vocabulary, W width, F hidden width

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.interop.gguf.arrangement import to_half_split
from congling.interop.names import ARCHITECTURES, Entry
from congling.interop.torch_state import State, named

_META = (
    Entry("tok_embeddings.weight", ("embedding.weight",)),
    Entry("norm.weight", ("norm.weight",)),
    Entry("output.weight", ("head.weight",)),
    Entry("layers.{}.attention_norm.weight", ("blocks.{}.attention_norm.weight",)),
    Entry("layers.{}.ffn_norm.weight", ("blocks.{}.mlp_norm.weight",)),
    Entry("layers.{}.attention.wq.weight", ("blocks.{}.attention.query.weight",)),
    Entry("layers.{}.attention.wk.weight", ("blocks.{}.attention.key.weight",)),
    Entry("layers.{}.attention.wv.weight", ("blocks.{}.attention.value.weight",)),
    Entry("layers.{}.attention.wo.weight", ("blocks.{}.attention.output.weight",)),
    Entry("layers.{}.feed_forward.w1.weight", ("blocks.{}.mlp.gate.weight",)),
    Entry("layers.{}.feed_forward.w2.weight", ("blocks.{}.mlp.down.weight",)),
    Entry("layers.{}.feed_forward.w3.weight", ("blocks.{}.mlp.up.weight",)),
)


Plan = tuple[dict[str, Any], tuple[Entry, ...], dict[str, Callable[[Tensor], Tensor]], list[str]]
"""Configuration, names, what happens to tensors by our names, and what to tell the person."""


def program_of(state: State) -> tuple[str, Callable[[State], Plan]]:
    """Which program wrote a state dict, and what makes a configuration of it.

    Raises:
        UserError: none that is known, or one whose models have parts that are not known here.
    """
    names, where = state.tensors, state.archive.path
    if "transformer.h.0.attn.c_q.weight" in names:
        raise UserError(
            "a model of nanochat, which has parts that are not known here",
            where=where,
            value="squared ReLU, norms without weights, capped logits",
            hint="run it with nanochat",
        )
    if any(".experts." in name for name in names):
        raise UserError(
            "a mixture of experts, of which a state dict does not say how it routes",
            where=state.archive.path,
            hint="name the folder with its config.json",
        )
    for sign, found in _PROGRAMS.items():
        if sign in names:
            return found
    hint = f"{named(names)}; known are nanoGPT, llama2.c, baby-llama2-chinese and MiniMind"
    raise UserError("no model that is known here", where=where, hint=hint)


def _nanogpt(state: State) -> Plan:
    """GPT-2 with ``nn.Linear``, so that nothing is transposed, and with or without biases."""
    (vocabulary, width), (context, _) = (
        state.matrix(f"transformer.{name}.weight") for name in ("wte", "wpe")
    )
    values = {
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "hidden_size": width,
        "num_hidden_layers": state.layers("transformer.h.{}.attn.c_attn.weight"),
        "attention": _attention(width, state.heads("n_head"), None, state) | {"attention_bias": True},
        "mlp": {
            "kind": "plain",
            "intermediate_size": state.matrix("transformer.h.0.mlp.c_fc.weight")[0],
            "hidden_act": state.given.activation or "gelu",
        },
        "norm": {"kind": "layer"},
        "positions": {"kind": "learned"},
        "tie_word_embeddings": _tied(state, "transformer.wte.weight", "lm_head.weight"),
    }
    entries = tuple(entry._replace(transposed=False) for entry in ARCHITECTURES["GPT2LMHeadModel"])
    notes = []
    if state.given.activation is None:
        notes.append(
            "GELU is the exact one, as nanoGPT has it since May 2023; of older checkpoints, "
            "--activation gelu_new takes its tanh form"
        )
    if "transformer.ln_f.bias" not in state.tensors:
        notes.append("the model has no biases: they are zero here")
    return values, entries, {}, notes


def _meta(state: State) -> Plan:
    """llama2.c and what descends from it: neighbours are rotated, so query and key rows change places."""
    vocabulary, width = state.matrix("tok_embeddings.weight")
    heads = state.heads("n_heads")
    attention = _attention(width, heads, "layers.0.attention.wk.weight", state)
    epsilon = state.arguments.get("norm_eps")
    context = state.number("max_seq_len") or state.given.context
    values = {
        "vocab_size": vocabulary,
        "max_position_embeddings": context or _asked_context(state),
        "hidden_size": width,
        "num_hidden_layers": state.layers("layers.{}.attention.wq.weight"),
        "attention": attention,
        "mlp": {"kind": "gated", "intermediate_size": state.matrix("layers.0.feed_forward.w1.weight")[0]},
        "norm": {"kind": "rms", "eps": epsilon if isinstance(epsilon, float) else 1e-5},
        "positions": {"kind": "rope", "rope_theta": state.given.rope_base or 10_000.0},
        "tie_word_embeddings": _tied(state, "tok_embeddings.weight", "output.weight"),
    }
    turned = {
        f"blocks.{layer}.attention.{part}.weight": _turned(attention[count])
        for layer in range(values["num_hidden_layers"])
        for part, count in (("query", "num_attention_heads"), ("key", "num_key_value_heads"))
    }
    return values, _META, turned, []


def _minimind(state: State) -> Plan:
    """Llama's names; with norms of queries and keys (MiniMind 3) a Qwen3, whose norms tell the heads."""
    vocabulary, width = state.matrix("model.embed_tokens.weight")
    block = "model.layers.0.self_attn."
    normed = f"{block}q_norm.weight" in state.tensors
    rows = state.matrix(f"{block}q_proj.weight")[0]
    head_width = state.shape(f"{block}q_norm.weight")[0] if normed else rows // state.heads()
    heads, others = rows // max(1, head_width), state.matrix(f"{block}k_proj.weight")[0] // max(1, head_width)
    values = {
        "vocab_size": vocabulary,
        "max_position_embeddings": state.given.context or 32_768,
        "hidden_size": width,
        "num_hidden_layers": state.layers("model.layers.{}.self_attn.q_proj.weight"),
        "attention": {
            "num_attention_heads": heads,
            "num_key_value_heads": others,
            "head_dim": head_width,
            "qk_norm": normed,
        },
        "mlp": {
            "kind": "gated",
            "intermediate_size": state.matrix("model.layers.0.mlp.gate_proj.weight")[0],
        },
        "norm": {"kind": "rms", "eps": 1e-6 if normed else 1e-5},
        "positions": {"kind": "rope", "rope_theta": state.given.rope_base or 1e6},
        "tie_word_embeddings": _tied(state, "model.embed_tokens.weight", "lm_head.weight"),
    }
    notes = [
        f"taken as in MiniMind, since the file is silent: rotary base {values['positions']['rope_theta']:g}, "
        f"norm epsilon {values['norm']['eps']:g}, {values['max_position_embeddings']:,} positions "
        "(--rope-base, "
        "--context)"
    ]
    return values, ARCHITECTURES["Qwen3ForCausalLM"], {}, notes


_PROGRAMS: dict[str, tuple[str, Callable[[State], Plan]]] = {
    "transformer.wte.weight": ("nanoGPT", _nanogpt),
    "tok_embeddings.weight": ("llama2.c", _meta),
    "model.embed_tokens.weight": ("MiniMind", _minimind),
}
TOKENIZERS = {
    "nanoGPT": "nanoGPT trains with GPT-2's vocabulary (a folder with its tokenizer.json), or with one of "
    "characters, which it keeps as a pickle",
    "llama2.c": "the tokenizer.model it was pretokenised with (Llama 2's, data/tok*.model, or ChatGLM2's of "
    "baby-llama2-chinese)",
    "MiniMind": "the folder of MiniMind's tokenizer (tokenizer.json, tokenizer_config.json)",
}


def _attention(width: int, heads: int, key: str | None, state: State) -> dict[str, Any]:
    """Heads of a model whose heads together are as wide as it is."""
    if width % heads:
        raise UserError(f"{heads} heads do not divide the width", where=state.archive.path, value=width)
    rows = width if key is None else state.matrix(key)[0]
    return {
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, rows // (width // heads)),
        "head_dim": width // heads,
    }


def _asked_context(state: State) -> int:
    raise UserError(
        "this checkpoint does not say how long its texts may be",
        where=state.archive.path,
        hint="--context N gives it: max_seq_len of the training script",
    )


def _turned(heads: int) -> Callable[[Tensor], Tensor]:
    return lambda rows: to_half_split(rows, heads)


def _tied(state: State, embedding: str, head: str) -> bool:
    """Whether the output matrix is the embedding: left out, one storage, or the same values."""
    if head not in state.tensors or state.tensors[head] == state.tensors[embedding]:
        return True
    first, second = (state.archive.tensor(state.tensors[name]) for name in (embedding, head))
    return first.shape == second.shape and torch.equal(first, second)
