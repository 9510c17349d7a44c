"""What an adapter is made of: which layers of the base get low-rank factors, and how large. No torch here."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveFloat, field_validator

from congling.core.config import Config

Kind = Literal[
    "query", "key", "value", "output", "gate", "up", "down", "embedding", "head",
    "attention_norm", "mlp_norm", "query_norm", "key_norm", "norm",
]  # fmt: skip
"""Layers by the last part of their name; ``norm`` is the one after the last block."""

KINDS: tuple[str, ...] = get_args(Kind)
GROUPS: dict[str, tuple[str, ...]] = {
    "attention": ("query", "key", "value", "output"),
    "mlp": ("gate", "up", "down"),
    "linear": ("query", "key", "value", "output", "gate", "up", "down"),
    "norms": ("attention_norm", "mlp_norm", "query_norm", "key_norm", "norm"),
    "all": KINDS,
}
"""Names for several kinds at once."""


Rank = Annotated[int, Field(ge=1, le=2**14)]
"""Inner dimension of factors; no file with more is read."""


class AdapterConfig(Config):
    """Table ``[adapter]``: low-rank adaptation (LoRA, Hu et al. 2021) of chosen layers.

    What is learned is ``strength · scale · b @ a`` beside each frozen matrix; ``b`` starts at zero, so that
    training starts from the base as it is.
    """

    rank: Rank = 8
    """Inner dimension of the factors; 4-16 suffices for a style or a domain, 32-128 for new knowledge."""
    ranks: dict[str, Rank] = Field(default_factory=dict)
    """Other ranks by kind, group or pattern; the narrowest name that fits a layer counts."""
    alpha: PositiveFloat | None = None
    """``scale = alpha / rank``; left out, the scale is 1 whatever the rank: then the learning rate alone sets
    the step, and every file format, also those that know no alpha, holds exactly what was trained."""
    rank_stabilised: bool = False
    """``scale = alpha / √rank`` (rsLoRA, Kalajdzievski 2023), for ranks beyond about 32."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of a layer's inputs that the factors do not see in training."""
    targets: tuple[str, ...] = ("attention", "mlp")
    """Kinds (``query``), groups (``attention``, ``mlp``, ``norms``, ``all``) or patterns
    (``blocks.0.*.query``). All matrices of the blocks by default: at equal size better than attention alone
    (Dettmers et al. 2023)."""

    @field_validator("targets")
    @classmethod
    def _known(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if not targets:
            raise ValueError("an adapter without targets adapts nothing")
        return tuple(_checked(targets))

    @field_validator("ranks")
    @classmethod
    def _known_ranks(cls, ranks: dict[str, int]) -> dict[str, int]:
        return dict(zip(_checked(ranks), ranks.values(), strict=True))

    def chooses(self, layer: str) -> bool:
        """Whether the layer of this name (``blocks.0.attention.query``) gets factors."""
        return any(_fits(target, layer) for target in self.targets)

    def rank_of(self, layer: str) -> int:
        """Rank of the layer of this name."""
        fitting = [name for name in self.ranks if _fits(name, layer)]
        return self.ranks[min(fitting, key=_breadth)] if fitting else self.rank

    def scale_of(self, layer: str) -> float:
        """What ``b @ a`` of the layer of this name is multiplied by."""
        if self.alpha is None:
            return 1.0
        rank = self.rank_of(layer)
        return self.alpha / (rank**0.5 if self.rank_stabilised else rank)


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
