"""What other programs can represent: asked before a model is trained as well as when it is exported.

Needs neither torch nor the other programs.
"""

from collections.abc import Callable
from typing import Literal

from congling.interop.gguf_architecture import gguf_architecture, narrow
from congling.interop.hf.architecture import misfit
from congling.interop.hf.position_writing import obstacle
from congling.interop.obstacles import Obstacle, Unrepresentable
from congling.interop.options import OPTIONS
from congling.model.config import ModelConfig

Target = Literal["gguf", "hf", "llama2c", "ollama"]
TARGETS: tuple[Target, ...] = ("gguf", "hf", "llama2c", "ollama")


def obstacles(config: ModelConfig, tokenizer_kind: str | None, target: Target) -> list[Obstacle]:
    """Why a model with a tokenizer of this kind cannot go to ``target`` exactly; empty when it can."""
    return _CHECKS[target](config, tokenizer_kind)


def _gguf(config: ModelConfig, tokenizer_kind: str | None) -> list[Obstacle]:
    found = []
    try:
        gguf_architecture(config)
    except Unrepresentable as error:
        found.append(error.obstacle)
    if tokenizer_kind == "unigram":
        found.append(
            Obstacle(
                "llama.cpp's unigram tokenizer has no byte fallback: characters that are no piece of the "
                "vocabulary become <unk> there",
                "use tokenizer.kind = bpe",
            )
        )
    return found


def _llama2c(config: ModelConfig, tokenizer_kind: str | None) -> list[Obstacle]:
    attention = config.attention
    rotary = config.positions if config.positions.kind == "rope" else None
    wrong = (
        ("normalised queries and keys", attention.qk_norm, "attention.qk_norm = false"),
        (
            "attention biases",
            attention.attention_bias or attention.has_output_bias,
            "attention.attention_bias = false",
        ),
        (f"MLPs of the kind {config.mlp.kind}", config.mlp.kind != "gated", "mlp.kind = gated"),
        ("norms behind the sublayers", config.norm_placement != "pre", "norm_placement = pre"),
        ("layer norm", config.norm.kind != "rms", "norm.kind = rms"),
        (f"positions of the kind {config.positions.kind}", rotary is None, "positions.kind = rope"),
        (
            "rotary base but 10000",
            rotary is not None and rotary.rope_theta != 10_000,
            "positions.rope_theta = 10000",
        ),
        (
            "scaled rotary positions: run.c turns by the base 10000 alone, frozen ones too",
            rotary is not None and rotary.rope_scaling is not None,
            "no positions.rope_scaling",
        ),
        ("heads of another width", not narrow(config), "attention.head_dim = width / heads"),
        *((option.what, option.used(config), option.off) for option in OPTIONS.values()),
        ("another norm epsilon", config.norm.eps != 1e-5, "norm.eps = 1e-5; the difference is small"),
    )
    found = [Obstacle(f"llama2.c has no {what}", f"use {nearest}") for what, is_so, nearest in wrong if is_so]
    nearest = "use tokenizer.kind = character"
    if tokenizer_kind == "unigram":
        found.append(Obstacle("llama2.c merges pieces by score, which is not how unigram splits", nearest))
    if tokenizer_kind == "bpe":
        what = "llama2.c does not split a text before it merges: some ids of English and code differ"
        found.append(Obstacle(what, nearest))
    return found


def _hf(config: ModelConfig, tokenizer_kind: str | None) -> list[Obstacle]:
    if (found := obstacle(config)) is not None:
        return [found]
    if (lacking := misfit(config)) is None:
        return []
    nearest, needs = lacking
    what = f"no class of transformers computes this model: {nearest}, the nearest, needs {', '.join(needs)}"
    return [Obstacle(what, "take one of the families of `congling plan` as it is, or convert to GGUF")]


_CHECKS: dict[Target, Callable[[ModelConfig, str | None], list[Obstacle]]] = {
    "gguf": _gguf,
    "ollama": _gguf,
    "llama2c": _llama2c,
    "hf": _hf,
}
