"""Every flag of ``finetune`` and ``export-lora``, with its default; see ``options.py``."""

from dataclasses import dataclass
from typing import Any, Literal

from congling.llamacpp_trainers.arguments import Switch, choices, flag, toggle
from congling.llamacpp_trainers.options import TrainerOptions

NORM_RANKS = ("att_norm", "ffn_norm", "out_norm")
"""LoRA ranks of norm gains: 1 by default, where those of matrices are ``--lora-r``."""


def rank(*names: str, what: str) -> Any:
    """A LoRA rank; 0 leaves the tensor as it is."""
    return flag(*names, value=int, shown="N", default=None, least=0, help=f"LoRA rank of {what}")


@dataclass(frozen=True)
class FinetuneOptions(TrainerOptions):
    """``finetune``."""

    model_base: str = flag(
        "--model-base", value=str, shown="FNAME", default="", help="GGUF model the adapter is trained on"
    )
    lora_out: str = flag(
        "--lora-out",
        value=str,
        shown="FNAME",
        default="ggml-lora-ITERATION-f32.gguf",
        help="adapter to write; '' for none. *.gguf: for today's llama.cpp; else the former format",
    )
    only_write_lora: bool = toggle(
        "--only-write-lora", default=False, help="write the adapter of a checkpoint, and do not train"
    )
    norm_rms_eps: float | None = flag(
        "--norm-rms-eps", value=float, shown="X", default=None, least=0, help="instead of the base's"
    )
    rope_freq_base: float | None = flag(
        "--rope-freq-base", value=float, shown="X", default=None, least=1, help="instead of the base's"
    )
    rope_freq_scale: float | None = flag(
        "--rope-freq-scale", value=float, shown="X", default=None, least=0, help="instead of the base's"
    )
    lora_r: int = flag("--lora-r", value=int, shown="N", default=4, least=1, help="rank where none is given")
    lora_alpha: int | None = flag(
        "--lora-alpha",
        value=int,
        shown="N",
        default=None,
        least=1,
        help="strength of the written adapter is alpha / r; by default --lora-r",
    )
    att_norm: int | None = rank("--rank-att-norm", what="attention norms (default 1)")
    ffn_norm: int | None = rank("--rank-ffn-norm", what="feed-forward norms (default 1)")
    out_norm: int | None = rank("--rank-out-norm", what="the output norm (default 1)")
    tok_embd: int | None = rank("--rank-tok-embd", what="the token embedding")
    out: int | None = rank("--rank-out", what="the output matrix")
    wq: int | None = rank("--rank-wq", what="queries")
    wk: int | None = rank("--rank-wk", what="keys")
    wv: int | None = rank("--rank-wv", what="values")
    wo: int | None = rank("--rank-wo", what="the attention's output")
    w1: int | None = rank("--rank-w1", "--rank-ffn-gate", what="feed-forward gates")
    w2: int | None = rank("--rank-w2", "--rank-ffn-down", what="feed-forward outputs")
    w3: int | None = rank("--rank-w3", "--rank-ffn-up", what="feed-forward inputs")
    lora_format: Literal["", "ggla", "gguf"] = flag(
        "--lora-format",
        value=lambda text: {"ggla": "ggla", "gguf": "gguf"}.get(text) or _refuse(),
        shown="ggla|gguf",
        default="",
        help="NEW: format of --lora-out, whatever its name",
    )
    lora_scale_in_training: bool = toggle(
        "--lora-scale-in-training", default=False, help="NEW: train with the strength alpha / r it will have"
    )

    @property
    def adapter_format(self) -> Literal["ggla", "gguf"]:
        """Format of the adapter file, by its name unless it was given."""
        return self.lora_format or ("gguf" if self.lora_out.endswith(".gguf") else "ggla")

    @property
    def alpha(self) -> int:
        """What the adapter's header says."""
        return self.lora_r if self.lora_alpha is None else self.lora_alpha

    def rank_of(self, name: str) -> int:
        """Rank by the name of a field above; a GGUF adapter cannot hold norm gains, which then have none."""
        chosen = getattr(self, name)
        if chosen is not None:
            return chosen
        if name in NORM_RANKS:
            return 1 if self.adapter_format == "ggla" else 0
        return self.lora_r


@dataclass(frozen=True)
class ExportOptions:
    """``export-lora``."""

    model_base: str = flag("-m", "--model-base", value=str, shown="FNAME", default="", help="GGUF model")
    model_out: str = flag("-o", "--model-out", value=str, shown="FNAME", default="", help="model to write")
    adapters: tuple[tuple[str, float], ...] = choices(
        Switch(("-l", "--lora"), lambda name: (name, 1.0), ("FNAME",), "adapter, at strength 1", added=True),
        Switch(
            ("-s", "--lora-scaled"),
            lambda name, strength: (name, _finite(strength)),
            ("FNAME", "S"),
            "adapter, at strength S",
            added=True,
        ),
        default=(),
    )
    threads: int | None = flag("-t", "--threads", value=int, shown="N", default=None, least=1, help="threads")
    type: str = flag(
        "--type",
        value=str,
        shown="TYPE",
        default="",
        help="NEW: type of the merged tensors, such as F16; by default each keeps its own",
    )


def _refuse() -> Literal[""]:
    raise ValueError("neither")


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise ValueError("not finite")
    return value
