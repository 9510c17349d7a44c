"""What an adapter is made of: which layers of the base get low-rank factors, and how large; how long rows are
trained on. No torch here."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveFloat, field_validator

from congling.core.config import Config

Kind = Literal[
    "query", "key", "value", "output", "gate", "up", "down", "embedding", "head",
    "attention_norm", "post_attention_norm", "mlp_norm", "post_mlp_norm", "query_norm", "key_norm", "norm",
]  # fmt: skip
"""Layers by the last part of their name; ``norm`` is the one after the last block."""

KINDS: tuple[str, ...] = get_args(Kind)
GROUPS: dict[str, tuple[str, ...]] = {
    "attention": ("query", "key", "value", "output"),
    "mlp": ("gate", "up", "down"),
    "linear": ("query", "key", "value", "output", "gate", "up", "down"),
    "norms": (
        "attention_norm",
        "post_attention_norm",
        "mlp_norm",
        "post_mlp_norm",
        "query_norm",
        "key_norm",
        "norm",
    ),
    "all": KINDS,
}
"""Names for several kinds at once."""


Blocks = Literal["Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_0", "IQ4_NL", "Q3_K_M", "Q2_K"]
"""Types of GGUF files that a base can be packed as, 8 bits a weight to 2."""
_SHORT = {kind: f"{kind}_M" for kind in ("Q3_K", "Q4_K", "Q5_K")}
Rank = Annotated[int, Field(ge=1, le=2**14)]
"""Inner dimension of factors; no file with more is read."""


class AdapterConfig(Config):
    """Table ``[adapter]``: low-rank adaptation (LoRA, Hu et al. 2021) of chosen layers.

    What is learned is ``strength · scale · b @ a`` beside each frozen matrix; ``b`` starts at zero, so that
    training starts from the base as it is.
    """

    r: Rank = 8
    """Inner dimension of the factors; 4-16 suffices for a style or a domain, 32-128 for new knowledge."""
    rank_pattern: dict[str, Rank] = Field(default_factory=dict)
    """Other ranks by kind, group or pattern; the narrowest name that fits a layer counts."""
    lora_alpha: PositiveFloat | None = None
    """``scale = lora_alpha / r``; left out, the scale is 1 whatever the rank: then the learning rate alone
    sets the step, and every file format, also those that know no alpha, holds exactly what was trained."""
    use_rslora: bool = False
    """``scale = lora_alpha / √r`` (rsLoRA, Kalajdzievski 2023), for ranks beyond about 32."""
    use_dora: bool = False
    """Lengths of rows learnt apart from their directions (DoRA, Liu et al. 2024), in linear layers: one value
    more for each output. Embeddings and norms keep plain factors."""
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of a layer's inputs that the factors do not see in training."""
    target_modules: tuple[str, ...] = ("attention", "mlp")
    """Kinds (``query``), groups (``attention``, ``mlp``, ``norms``, ``all``) or patterns
    (``blocks.0.*.query``). All matrices of the blocks by default: at equal size better than attention alone
    (Dettmers et al. 2023)."""
    modules_to_save: tuple[str, ...] = ()
    """Kinds, groups or patterns of layers that are learnt entirely, beside
    ``target_modules``: ``a`` is then the identity and stays it, so that ``b`` is the change itself, and
    every adapter format can hold it."""
    base_quantization: Blocks | None = None
    """Type of blocks that a dense base's matrices are put in before training (QLoRA, Dettmers et al.
    2023), as in a GGUF file of that type; the adapter then belongs to the rounded base. Left out: as is."""

    @field_validator("target_modules")
    @classmethod
    def _known(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if not targets:
            raise ValueError("an adapter without targets adapts nothing")
        return tuple(_checked(targets))

    @field_validator("base_quantization", mode="before")
    @classmethod
    def _named(cls, base: object) -> object:
        return _SHORT.get(base.upper(), base.upper()) if isinstance(base, str) else base

    @field_validator("modules_to_save")
    @classmethod
    def _known_whole(cls, whole: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_checked(whole))

    @field_validator("rank_pattern")
    @classmethod
    def _known_ranks(cls, ranks: dict[str, int]) -> dict[str, int]:
        return dict(zip(_checked(ranks), ranks.values(), strict=True))

    def chooses(self, layer: str) -> bool:
        """Whether the layer of this name (``blocks.0.attention.query``) gets factors."""
        return any(_fits(target, layer) for target in (*self.target_modules, *self.modules_to_save))

    def learns_whole(self, layer: str) -> bool:
        """Whether the layer of this name is learnt entirely."""
        return any(_fits(name, layer) for name in self.modules_to_save)

    def rank_of(self, layer: str) -> int:
        """Rank of the layer of this name."""
        fitting = [name for name in self.rank_pattern if _fits(name, layer)]
        return self.rank_pattern[min(fitting, key=_breadth)] if fitting else self.r

    def scale_of(self, layer: str) -> float:
        """What ``b @ a`` of the layer of this name is multiplied by."""
        if self.lora_alpha is None:
            return 1.0
        rank = self.rank_of(layer)
        return self.lora_alpha / (rank**0.5 if self.use_rslora else rank)


class LongLoRAConfig(Config):
    """Table ``[longlora]``: attention inside shifted groups while training (LongLoRA, Chen et al. 2023)."""

    groups: int = Field(default=4, ge=2, le=256)
    """Groups that a row of ``train.max_length`` tokens falls into; the cost of attention falls by about as
    much. More than 8 lose quality (table 6 of the paper)."""


def _fits(name: str, layer: str) -> bool:
    kind = layer.rpartition(".")[2]
    return kind in GROUPS.get(name, (name,)) or fnmatchcase(layer, name)


def _breadth(name: str) -> int:
    """Kinds a name covers; a pattern is narrower than any kind."""
    return len(GROUPS.get(name, (name,))) if name in GROUPS or name in KINDS else 0


def _checked(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        if name not in GROUPS and name not in KINDS and not set(name) & set(".*?["):
            known = ", ".join((*GROUPS, *KINDS))
            raise ValueError(f"there is no layer kind {name!r}; kinds and groups: {known}")
        yield name
