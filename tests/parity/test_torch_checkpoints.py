"""Checkpoints of training scripts against plain re-implementations of their models."""

# B rows, T context, W width, H heads, D head width

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, silu

from congling.core.errors import UserError
from congling.interop.assembly import transformer
from congling.interop.formats import read_model
from congling.interop.torch_state import Missing
from congling.methods import importing
from congling.tokenizer.character import CharacterTokenizer
from congling.tokenizer.store import write

V, W, H, KV, F, LAYERS, CONTEXT = 290, 32, 4, 2, 48, 2, 16
IDS = torch.tensor([[3, 17, 42, 5, 200, 9, 9, 31, 256, 0]])


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, H, T, D) each, keys repeated to the heads; (B, T, W)."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    mask = torch.full(scores.shape[-2:], float("-inf")).triu(1)
    return ((scores + mask).softmax(-1) @ v).transpose(1, 2).flatten(2)


def heads(x: Tensor, count: int) -> Tensor:
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def rms(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weight


def nanogpt(bias: bool) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (V, W),
        "transformer.wpe.weight": (CONTEXT, W),
    }
    for layer in range(LAYERS):
        stem = f"transformer.h.{layer}."
        shapes |= {
            stem + "ln_1.weight": (W,),
            stem + "ln_2.weight": (W,),
            stem + "attn.c_attn.weight": (3 * W, W),
            stem + "attn.c_proj.weight": (W, W),
            stem + "mlp.c_fc.weight": (F, W),
            stem + "mlp.c_proj.weight": (W, F),
        }
    shapes["transformer.ln_f.weight"] = (W,)
    if bias:
        shapes |= {
            name.replace(".weight", ".bias"): shape[:1]
            for name, shape in shapes.items()
            if not name.endswith((".wte.weight", ".wpe.weight"))
        }
    found = drawn(shapes)
    return found | {"lm_head.weight": found["transformer.wte.weight"]}


def nanogpt_logits(w: dict[str, Tensor], ids: Tensor, form: str = "none") -> Tensor:
    """With GELU exact (``none``), or in the ``tanh`` form of GPT-2."""
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][: ids.shape[1]]

    def normed(x: Tensor, name: str) -> Tensor:
        return layer_norm(x, (W,), w[name + ".weight"], w.get(name + ".bias"), 1e-5)

    def through(x: Tensor, name: str) -> Tensor:
        return linear(x, w[name + ".weight"], w.get(name + ".bias"))

    for layer in range(LAYERS):
        stem = f"transformer.h.{layer}."
        q, k, v = (
            heads(part, H) for part in through(normed(x, stem + "ln_1"), stem + "attn.c_attn").chunk(3, -1)
        )
        x = x + through(attended(q, k, v), stem + "attn.c_proj")
        hidden = gelu(through(normed(x, stem + "ln_2"), stem + "mlp.c_fc"), approximate=form)
        x = x + through(hidden, stem + "mlp.c_proj")
    return normed(x, "transformer.ln_f") @ w["lm_head.weight"].T


def llama2c() -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {"tok_embeddings.weight": (V, W)}
    for layer in range(LAYERS):
        stem = f"layers.{layer}."
        shapes |= {
            stem + "attention.wq.weight": (W, W),
            stem + "attention.wo.weight": (W, W),
            stem + "attention.wk.weight": (W // H * KV, W),
            stem + "attention.wv.weight": (W // H * KV, W),
            stem + "feed_forward.w1.weight": (F, W),
            stem + "feed_forward.w3.weight": (F, W),
            stem + "feed_forward.w2.weight": (W, F),
            stem + "attention_norm.weight": (W,),
            stem + "ffn_norm.weight": (W,),
        }
    found = drawn(shapes | {"norm.weight": (W,)})
    return found | {"output.weight": found["tok_embeddings.weight"]}


def llama2c_logits(w: dict[str, Tensor], ids: Tensor, base: float = 10_000.0) -> Tensor:
    """Neighbouring channels are one complex number."""
    width = W // H
    angles = torch.outer(
        torch.arange(ids.shape[1]).float(), base ** (-torch.arange(0, width, 2).float() / width)
    )
    turn = torch.polar(torch.ones_like(angles), angles)

    def turned(x: Tensor) -> Tensor:
        return torch.view_as_real(
            torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn
        ).flatten(-2)

    x = w["tok_embeddings.weight"][ids]
    for layer in range(LAYERS):
        stem = f"layers.{layer}."
        y = rms(x, w[stem + "attention_norm.weight"], 1e-5)
        q, k, v = (
            heads(y @ w[f"{stem}attention.w{part}.weight"].T, count)
            for part, count in (("q", H), ("k", KV), ("v", KV))
        )
        x = x + attended(turned(q), turned(k), v) @ w[stem + "attention.wo.weight"].T
        y, forward = rms(x, w[stem + "ffn_norm.weight"], 1e-5), stem + "feed_forward.w"
        x = (
            x
            + (silu(y @ w[forward + "1.weight"].T) * (y @ w[forward + "3.weight"].T))
            @ w[forward + "2.weight"].T
        )
    return rms(x, w["norm.weight"], 1e-5) @ w["output.weight"].T


def minimind(normed: bool, head_width: int) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (V, W), "model.norm.weight": (W,)}
    for layer in range(LAYERS):
        stem, at = f"model.layers.{layer}.", f"model.layers.{layer}.self_attn."
        shapes |= {
            at + "q_proj.weight": (H * head_width, W),
            at + "k_proj.weight": (KV * head_width, W),
            at + "v_proj.weight": (KV * head_width, W),
            at + "o_proj.weight": (W, H * head_width),
            stem + "mlp.gate_proj.weight": (F, W),
            stem + "mlp.up_proj.weight": (F, W),
            stem + "mlp.down_proj.weight": (W, F),
            stem + "input_layernorm.weight": (W,),
            stem + "post_attention_layernorm.weight": (W,),
        }
        shapes |= {at + "q_norm.weight": (head_width,), at + "k_norm.weight": (head_width,)} if normed else {}
    found = drawn(shapes)
    return found | {"lm_head.weight": found["model.embed_tokens.weight"]}


def minimind_logits(w: dict[str, Tensor], ids: Tensor, head_width: int, epsilon: float) -> Tensor:
    """Channel i turns with i + D/2."""
    angles = torch.outer(
        torch.arange(ids.shape[1]).float(), 1e6 ** (-torch.arange(0, head_width, 2).float() / head_width)
    )
    cos, sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()

    def turned(x: Tensor) -> Tensor:
        half = head_width // 2
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

    x = w["model.embed_tokens.weight"][ids]
    for layer in range(LAYERS):
        stem, at = f"model.layers.{layer}.", f"model.layers.{layer}.self_attn."
        y = rms(x, w[stem + "input_layernorm.weight"], epsilon)
        q, k, v = (
            heads(y @ w[f"{at}{part}_proj.weight"].T, n) for part, n in (("q", H), ("k", KV), ("v", KV))
        )
        if at + "q_norm.weight" in w:
            q, k = rms(q, w[at + "q_norm.weight"], epsilon), rms(k, w[at + "k_norm.weight"], epsilon)
        x = x + attended(turned(q), turned(k), v) @ w[at + "o_proj.weight"].T
        y, mlp = rms(x, w[stem + "post_attention_layernorm.weight"], epsilon), stem + "mlp."
        hidden = silu(y @ w[mlp + "gate_proj.weight"].T) * (y @ w[mlp + "up_proj.weight"].T)
        x = x + hidden @ w[mlp + "down_proj.weight"].T
    return rms(x, w["model.norm.weight"], epsilon) @ w["lm_head.weight"].T


NANO_ARGS = {"n_layer": LAYERS, "n_head": H, "n_embd": W, "block_size": CONTEXT, "bias": True, "dropout": 0.0}
LLAMA_ARGS = {
    "dim": W,
    "n_layers": LAYERS,
    "n_heads": H,
    "n_kv_heads": KV,
    "max_seq_len": CONTEXT,
    "vocab_size": V,
}


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def optimizer(state: dict[str, Tensor]) -> dict[str, object]:
    """As AdamW keeps it: numbers, lists and more tensors."""
    adam = torch.optim.AdamW([torch.nn.Parameter(next(iter(state.values())).clone())], lr=1e-3)
    adam.param_groups[0]["params"][0].grad = torch.ones_like(adam.param_groups[0]["params"][0])
    adam.step()
    return adam.state_dict()


CASES = {
    "nanoGPT": lambda: ({"model": prefixed("_orig_mod.", nanogpt(True)),
                         "optimizer": optimizer(nanogpt(True)), "model_args": NANO_ARGS,
                         "iter_num": 7, "best_val_loss": torch.tensor(2.5),
                         "config": {"dtype": "bfloat16", "beta1": 0.9, "compile": True, "none": None}},
                        Missing(), nanogpt_logits(nanogpt(True), IDS)),
    "nanoGPT without biases": lambda: (nanogpt(False), Missing(heads=H), nanogpt_logits(nanogpt(False), IDS)),
    "nanoGPT before May 2023": lambda: (nanogpt(False), Missing(heads=H, activation="gelu_new"),
                                        nanogpt_logits(nanogpt(False), IDS, "tanh")),
    "llama2.c": lambda: ({"model": prefixed("_orig_mod.", llama2c()), "optimizer": optimizer(llama2c()),
                          "model_args": LLAMA_ARGS, "iter_num": 3, "best_val_loss": torch.tensor(1e9)},
                         Missing(), llama2c_logits(llama2c(), IDS)),
    "baby-llama2-chinese": lambda: (prefixed("module._orig_mod.", llama2c()),
                                    Missing(heads=H, context=CONTEXT), llama2c_logits(llama2c(), IDS)),
    "MiniMind 3": lambda: (minimind(True, 16), Missing(), minimind_logits(minimind(True, 16), IDS, 16, 1e-6)),
    "MiniMind 2": lambda: (minimind(False, 8), Missing(heads=H),
                           minimind_logits(minimind(False, 8), IDS, 8, 1e-5)),
    "MiniMind 1": lambda: (llama2c(), Missing(heads=H, context=CONTEXT, rope_base=1e6),
                           llama2c_logits(llama2c(), IDS, 1e6)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_the_script(tmp_path: Path, case: str):
    saved, given, expected = CASES[case]()
    torch.save(saved, tmp_path / "model.pth")
    model = read_model(tmp_path / "model.pth", None, given)
    with torch.inference_mode():
        built = transformer(model)
        assert torch.allclose(built.logits(built(IDS)), expected, atol=2e-5, rtol=1e-5)
    assert model.config.tie_word_embeddings


def test_an_untied_head_is_kept(tmp_path: Path):
    state = llama2c() | {"output.weight": torch.randn(V, W)}
    torch.save(state, tmp_path / "model.pth")
    model = read_model(tmp_path / "model.pth", None, Missing(heads=H, context=CONTEXT))
    assert not model.config.tie_word_embeddings
    with torch.inference_mode():
        built = transformer(model)
        assert torch.allclose(built.logits(built(IDS)), llama2c_logits(state, IDS), atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_views_and_parameters(tmp_path: Path, dtype: torch.dtype):
    state = {name: tensor.to(dtype) for name, tensor in minimind(True, 16).items()}
    name = "model.layers.0.mlp.gate_proj.weight"
    turned: dict[str, Tensor] = {**state, name: state[name].T.contiguous().T}  # not in rows
    turned["model.norm.weight"] = torch.nn.Parameter(state["model.norm.weight"])
    torch.save(turned, tmp_path / "model.pth")
    weights = read_model(tmp_path / "model.pth").weights
    assert torch.equal(weights["blocks.0.mlp.gate.weight"], state[name].float())
    assert torch.equal(weights["norm.weight"], state["model.norm.weight"].float())


def test_what_the_file_does_not_say_is_asked_for(tmp_path: Path):
    torch.save(llama2c(), tmp_path / "bare.pth")
    with pytest.raises(UserError, match="how many heads.*\n.*--heads"):
        read_model(tmp_path / "bare.pth")
    with pytest.raises(UserError, match="how long.*\n.*--context"):
        read_model(tmp_path / "bare.pth", None, Missing(heads=H))
    with pytest.raises(UserError, match="do not divide"):
        read_model(tmp_path / "bare.pth", None, Missing(heads=5, context=8))
    torch.save({"model": llama2c(), "model_args": LLAMA_ARGS}, tmp_path / "whole.pt")
    with pytest.raises(UserError, match="says 4 heads"):
        read_model(tmp_path / "whole.pt", None, Missing(heads=8))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"transformer.wte.weight": (V, W), "transformer.h.0.attn.c_q.weight": (W, W)},
            "nanochat.*squared ReLU",
        ),
        (
            {
                "model.embed_tokens.weight": (V, W),
                "model.layers.0.mlp.experts.0.up_proj.weight": (F, W),
            },
            "mixture",
        ),
        ({"encoder.weight": (W, W)}, "no model that is known.*\n.*encoder.weight.*nanoGPT"),
        ({"transformer.wte.weight": (V, W)}, "tensor is missing.*transformer.wpe.weight"),
    ],
)
def test_other_models_are_refused_by_name(tmp_path: Path, state: dict[str, tuple[int, int]], message: str):
    torch.save(drawn(state), tmp_path / "model.pt")
    with pytest.raises(UserError, match=message):
        read_model(tmp_path / "model.pt")


def test_import_asks_for_the_tokenizer_and_makes_a_checkpoint(tmp_path: Path):
    torch.save({"model": llama2c(), "model_args": LLAMA_ARGS}, tmp_path / "ckpt.pt")
    with pytest.raises(UserError, match="no tokenizer.*\n.*pretokenised"):
        importing.run(tmp_path / "ckpt.pt", tmp_path / "base")
    write(CharacterTokenizer("从零开始"), tmp_path / "tokenizer")
    done = importing.run(tmp_path / "ckpt.pt", tmp_path / "base", tokenizer=tmp_path / "tokenizer")
    assert done.checkpoint.facts["source"] == {"format": "torch", "file": "ckpt.pt"}
    with pytest.raises(UserError, match="--heads.*are for checkpoints"):
        read_model(done.checkpoint.path, None, Missing(heads=4))


def test_a_hugging_face_folder_with_pytorch_model_bin_is_read(tmp_path: Path):
    """One file, or parts behind an index."""
    state = minimind(True, 16)
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["Qwen3ForCausalLM"],
                "vocab_size": V,
                "hidden_size": W,
                "head_dim": 16,
                "num_hidden_layers": LAYERS,
                "num_attention_heads": H,
                "num_key_value_heads": KV,
                "intermediate_size": F,
                "rms_norm_eps": 1e-6,
                "rope_theta": 1e6,
                "max_position_embeddings": 64,
                "tie_word_embeddings": True,
            }
        ),
        encoding="utf-8",
    )
    torch.save(state, tmp_path / "pytorch_model.bin")
    whole = read_model(tmp_path)
    with torch.inference_mode():
        built = transformer(whole)
        assert torch.allclose(built.logits(built(IDS)), minimind_logits(state, IDS, 16, 1e-6), atol=2e-5)
    (tmp_path / "pytorch_model.bin").unlink()
    names = {name: f"part{place % 2}.bin" for place, name in enumerate(state)}
    for part in ("part0.bin", "part1.bin"):
        torch.save({name: state[name] for name, file in names.items() if file == part}, tmp_path / part)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
    parts = read_model(tmp_path)
    assert all(torch.equal(parts.weights[name], whole.weights[name]) for name in whole.weights)
