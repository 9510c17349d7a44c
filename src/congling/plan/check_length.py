"""Mistakes about length: rows beyond what texts hold, beyond what a base was trained on, or short of it; and
what attention costs there. Pretraining and tuning look at the same numbers."""

from collections.abc import Iterator
from dataclasses import dataclass

from congling.core.diagnosis import Diagnosis
from congling.model.config import ModelConfig
from congling.model.counts import attention_share, flops_per_token
from congling.model.rope_scaling import LongRopeScaling, YarnScaling
from congling.plan.activations import turned_keys
from congling.plan.text_lengths import UNKNOWN, TextLengths

LITTLE = 0.1
"""Share of tokens with a long text before them below which a long context is hardly learnt."""
MUCH = 0.3
"""Share of attention in the arithmetic that is worth a word of its own."""
SMALL_SAVING = 0.25
"""Share of the arithmetic that S²-Attn has to save for a step to get noticeably shorter."""


@dataclass(frozen=True)
class Lengths:
    """A model, the rows it is trained on, and the texts in them."""

    model: ModelConfig
    rows: int
    """``train.max_length``."""
    trained: int | None = None
    """Tokens of the longest texts it was trained on, where its context was extended."""
    texts: TextLengths = UNKNOWN
    noun: str = "documents"
    chosen: bool = False
    """Whether the plan chose the length of rows."""
    longest: int = 0
    """Tokens that positions are drawn up to (``train.position_sampling``), where that is beyond a row."""
    groups: int | None = None
    """Of S²-Attn (``[longlora]``), where training uses it."""

    @property
    def old(self) -> int | None:
        """The trained length of an extended model; None where it reads no more than that."""
        context = self.model.max_position_embeddings
        return self.trained if self.trained is not None and self.trained < context else None

    @property
    def beyond(self) -> bool:
        """Whether rows reach beyond what an extended model was trained on."""
        return self.old is not None and self.rows > self.old


def check_lengths(s: Lengths) -> Iterator[Diagnosis]:
    """Every finding."""
    yield from _texts(s)
    if s.old is not None:
        yield from _rows_too_short(s, s.old)
        yield from _factor(s, s.old)
    yield from _attention(s)
    yield from _turned_again(s)
    yield from _shifted_groups(s)


def _texts(s: Lengths) -> Iterator[Diagnosis]:
    """Tokens with little before them teach nothing about what stands far back."""
    if not s.texts.known or (s.chosen and not s.beyond):
        return
    behind = s.old if s.beyond and s.old is not None else s.rows // 2
    share = s.texts.share_beyond(behind)
    numbers = (
        f"{share:.0%} of the tokens have {behind:,} or more before them in their text, and "
        f"{s.texts.share_of(s.rows):.0%} of the {s.noun} fill a row of {s.rows:,}"
    )
    why = "only such tokens teach a model to look that far back"
    if share >= LITTLE:
        if s.beyond:
            yield Diagnosis("note", "long-documents", numbers, why, "nothing: that is enough to learn from")
        return
    shorter = "" if s.chosen else f", or set train.max_length to about {max(32, behind // 2)}"
    yield Diagnosis(
        "warning",
        "short-documents",
        numbers,
        f"{why}: a context of {s.rows:,} can learn little here",
        f"add longer {s.noun}" + ("" if s.beyond else shorter),
    )


def _rows_too_short(s: Lengths, old: int) -> Iterator[Diagnosis]:
    """Positions that occur in no row are not learnt."""
    if s.beyond or s.longest > old:
        return
    context = s.model.max_position_embeddings
    yield Diagnosis(
        "note" if s.chosen else "warning",
        "rows-within-old-context",
        f"rows of {s.rows:,} tokens for a model extended from {old:,} to {context:,}",
        "positions beyond the old context occur in no row: nothing of the new length is learnt",
        f"add longer {s.noun}, if it is to be learnt" if s.chosen else f"set train.max_length={context}",
    )


def _factor(s: Lengths, old: int) -> Iterator[Diagnosis]:
    """A larger factor makes near positions harder to tell apart, for nothing."""
    longest = max(s.model.max_position_embeddings, _stretched(s.model))
    if not s.beyond or s.model.depends_on_length or longest < 2 * max(s.rows, s.longest):
        return
    yield Diagnosis(
        "warning",
        "factor-too-large",
        f"positions are stretched {longest / old:g} times, to {longest:,} tokens, and rows have {s.rows:,}",
        "a larger factor leaves neighbouring tokens less of their distance, and no row needs it",
        f"{s.rows / old:g} times suffice: congling extend --context {s.rows}, of the model as it was before",
    )


def _stretched(model: ModelConfig) -> int:
    """Tokens that the factor of a static kind would be enough for; 0 where the kind does not tell."""
    scaling = model.positions.rope_scaling if model.positions.kind == "rope" else None
    if not isinstance(scaling, YarnScaling | LongRopeScaling):
        return 0
    return round(scaling.factor * scaling.original_max_position_embeddings)


def _attention(s: Lengths) -> Iterator[Diagnosis]:
    """What grows with the square of the row."""
    share = attention_share(s.model, s.rows)
    if not s.beyond and (share < MUCH or s.chosen):
        return
    before = s.old if s.beyond and s.old is not None else max(1, s.rows // 4)
    times = flops_per_token(s.model, s.rows) / flops_per_token(s.model, before)
    yield Diagnosis(
        "note",
        "attention-cost",
        f"attention is {share:.0%} of the arithmetic at {s.rows:,} tokens, "
        f"{attention_share(s.model, before):.0%} at {before:,}: {times:.3g} times the work for a token",
        "12 · layers · heads · head width · context operations a token: they grow with the row",
        "nothing: the time of a step counts it",
    )


def _turned_again(s: Lengths) -> Iterator[Diagnosis]:
    """Where frequencies follow the length, keys are turned anew for each band of tokens."""
    trained, times = s.model.trained_length, turned_keys(s.model, s.rows, s.longest)
    if times == 1 or s.model.positions.kind != "rope" or s.model.positions.rope_scaling is None:
        return
    kind = s.model.positions.rope_scaling.rope_type
    more = f"{times:,.3g} times as many keys are turned as with positions of a static kind"
    why = "frequencies follow the length of the text, so that all keys are turned anew"
    if kind == "dynamic":
        yield Diagnosis(
            "warning",
            "keys-turned-again",
            f"{kind} positions beyond {trained:,} tokens: {more}",
            f"{why} for each token; time and memory of a step grow with the square of the row",
            "train on a static kind: congling extend --method yarn, of the model as it was before",
        )
    elif times >= 2:
        what = f"{kind} positions beyond {trained:,} tokens: {more}"
        why = f"{why} for each length of {trained:,}"
        yield Diagnosis("note", "keys-turned-again", what, why, "nothing: time and memory count it")


def _shifted_groups(s: Lengths) -> Iterator[Diagnosis]:
    """S²-Attn saves a part of attention, which is a part of the work."""
    if s.groups is None:
        return
    if s.model.depends_on_length:
        yield Diagnosis(
            "error",
            "longlora-by-length",
            "[longlora] with positions whose frequencies follow the length of the text",
            "a group is a text of its own length to them",
            "extend the base by a static kind (congling extend --method yarn), or leave [longlora] out",
        )
    saved = attention_share(s.model, s.rows) * (1 - 1 / s.groups)
    little = saved < SMALL_SAVING
    yield Diagnosis(
        "warning" if saved < LITTLE else "note",
        "longlora-saves",
        f"[longlora] in {s.groups} groups saves {saved:.0%} of the arithmetic at {s.rows:,} tokens",
        "attention is a small part of the work there, and groups cost some time themselves: at 1,000 tokens "
        "and below expect little"
        if little
        else "attention is a large part of the work at such lengths",
        "leave [longlora] out, or train on longer rows" if little else "nothing",
    )
