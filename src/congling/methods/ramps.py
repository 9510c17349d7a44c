"""Ways to stretch positions, compared on the same held-out tokens without training: ``extend --search``.

::

    held-out texts ─ windows of context + 1 ids ─ the last quarter of the trained length is scored
        sliding    the model as it was, only the last trained length read: costs nothing, and must be beaten
        plain      the model as it was at the new context: what happens without any stretching
        linear, ntk
        yarn       ramps (32k, k) for powers of two k with 2πk < L, each with scores grown and not

Ramps of this family are what ``original_context_length = L/k`` says in a GGUF file of Qwen3, which knows no
other turns than 32 and 1.
"""

# N windows

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from congling.core.errors import UserError
from congling.evals.length import tail_losses
from congling.evals.paired import Difference, paired
from congling.model.build_positions import build_positions
from congling.model.config import ModelConfig, RotaryConfig
from congling.model.rope_scaling import ClexScaling, YarnScaling
from congling.model.sliding import build_sliding
from congling.model.transformer import Transformer
from congling.transform.extend import extended

TURNS = tuple(2.0**power for power in range(-3, 8))
"""Turns k within the trained length up to which a pair is divided by the whole factor."""
STAYS = 32
"""Times as many turns from which on it stays."""
TOKENS, FEWEST = 2**15, 8
"""Tokens read for one line of the table, about; windows at least."""
Windows = Sequence[NDArray[np.integer]]


@dataclass(frozen=True)
class Line:
    """One way to read the windows, and what it cost."""

    name: str
    nats: float
    """Of a token, with the new context before it."""
    within: float
    """The same tokens with the trained length before them: what short texts cost."""
    over_sliding: Difference
    """``nats`` less those of the sliding window; below zero is better."""
    beta: tuple[float, float] | None = None
    attention_factor: float | None = None
    """What cosines and sines are multiplied by, of yarn."""


def cut(texts: Sequence[Sequence[int] | NDArray[np.integer]], context: int) -> list[NDArray[np.integer]]:
    """Windows of ``context + 1`` ids that do not overlap and cross no text, spread over all texts.

    Raises:
        UserError: no text is that long.
    """
    size = context + 1
    places = [
        (index, start) for index, ids in enumerate(texts) for start in range(0, len(ids) - size + 1, size)
    ]
    if not places:
        longest = max(map(len, texts), default=0)
        what = f"no held-out text has {size:,} tokens, which a context of {context:,} needs to be measured"
        raise UserError(what, value=longest, hint="name longer texts with --data, or leave out --search")
    most = max(FEWEST, TOKENS // context)
    chosen = np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int)
    return [np.asarray(texts[index][start : start + size]) for index, start in (places[i] for i in chosen)]


def candidates(
    plain: ModelConfig,
    context: int,
    holds: Callable[[ModelConfig], bool],
    *,
    factor: float | None = None,
    attention_factor: float | None = None,
) -> dict[str, ModelConfig]:
    """Stretched models by name: linear, ntk, and the ramps of yarn; only those that ``holds`` is true of."""
    trained, found = plain.max_position_embeddings, dict[str, ModelConfig]()
    for method in ("linear", "ntk"):
        found[method] = extended(plain, method, context, factor=factor)
    for turns in TURNS:
        if 2 * math.pi * turns >= trained:
            break
        for grown in (None, 1.0) if attention_factor is None else (attention_factor,):
            beta = (STAYS * turns, turns)
            made = extended(plain, "yarn", context, factor=factor, beta=beta, attention_factor=grown)
            found[_name(made)] = made
    return {name: config for name, config in found.items() if holds(config)}


def compared(
    model: Transformer, plain: ModelConfig, ways: dict[str, ModelConfig], windows: Windows, context: int
) -> list[Line]:
    """The sliding window, plain rotary positions, and each of the ways, on the same tokens.

    The model reads with each, and is afterwards as it was.
    """
    trained = plain.max_position_embeddings
    block = max(1, trained // 4)

    def losses(config: ModelConfig, lengths: Sequence[int], label: str) -> NDArray[np.float64]:
        with reading_as(model, config) as reader:
            return tail_losses(reader, windows, lengths, block, label=label)

    untouched = losses(plain.replace(max_position_embeddings=context), (trained, context), "plain")
    sliding = untouched[:, 0]
    lines = [_line("sliding", sliding, sliding, sliding), _line("plain", untouched[:, 1], sliding, sliding)]
    for name, config in ways.items():
        found = losses(config, (trained, context), name)
        lines.append(_line(name, found[:, 1], found[:, 0], sliding, config))
    return lines


def best(lines: Sequence[Line]) -> Line:
    """The ramp of yarn with the least loss; of equals the first.

    Raises:
        UserError: there is none.
    """
    ramps = [line for line in lines if line.beta is not None]
    if not ramps:
        what = "the target can hold none of the ramps that would be tried"
        raise UserError(what, hint="leave out --to, or choose another method")
    return min(ramps, key=lambda line: line.nats)


def verdict(lines: Sequence[Line], trained: int, windows: int, search: bool) -> str:
    """What the losses say of what was chosen: the best ramp of a search, else the one way that was tried."""
    chosen = best(lines) if search else lines[-1]
    gap, name = chosen.over_sliding, chosen.name
    beaten = f"the sliding window of {trained:,} tokens"
    short = f"within {trained:,} tokens it costs {chosen.within - lines[0].within:+.3f} nats"
    if gap.value >= 0:
        none = "no ramp beats" if search else "this does not beat"
        nearest = f"the nearest, {name}, is" if search else "it is"
        return f"{none} {beaten}, which costs nothing: {nearest} {gap.value:.3f} nats above; {short}"
    sure = "" if gap.certain else f", which {windows} windows are too few to be sure of"
    better = [line for line in lines if line.beta is None and line.nats < chosen.nats]
    others = f"; {better[0].name} is better still" if search and better else ""
    return f"{name} is {-gap.value:.3f} nats below {beaten}{sure}{others}; {short}"


def factor_of(config: ModelConfig, plain: ModelConfig) -> float:
    """By how much the slowest pair, or the longest text, is stretched."""
    if not isinstance(config.positions, RotaryConfig) or not isinstance(plain.positions, RotaryConfig):
        return 1.0
    scaling = config.positions.rope_scaling
    if scaling is None:
        turned = plain.positions.rotary_dim(plain.attention.head_dim)
        return (config.positions.rope_theta / plain.positions.rope_theta) ** ((turned - 2) / turned)
    return float(scaling.max_factor if isinstance(scaling, ClexScaling) else scaling.factor)


@contextmanager
def reading_as(model: Transformer, config: ModelConfig) -> Iterator[Transformer]:
    """The model with the positions of another configuration, for a while; weights are copied only where
    those depend on the length."""
    device = next(model.parameters()).device
    if config.depends_on_length:
        other = Transformer(config)  # a curve that the model does not have is as it was drawn
        other.load_state_dict(other.state_dict() | model.state_dict())
        yield other.to(device).eval()
        return
    before = model.config, model.positions, model.sliding
    sliding = build_sliding(config)
    model.config, model.positions = config, build_positions(config).to(device)
    model.sliding = sliding.to(device) if isinstance(sliding, nn.Module) else sliding
    try:
        yield model
    finally:
        model.config, model.positions, model.sliding = before


def _line(
    name: str,
    nats: NDArray[np.float64],
    within: NDArray[np.float64],
    sliding: NDArray[np.float64],
    config: ModelConfig | None = None,
) -> Line:
    difference = paired(sliding.tolist(), nats.tolist())
    ramp = None if config is None else _yarn(config)
    return Line(
        name,
        float(nats.mean()),
        float(within.mean()),
        difference,
        None if ramp is None else (ramp.beta_fast, ramp.beta_slow),
        None if ramp is None else ramp.magnitude,
    )


def _yarn(config: ModelConfig) -> YarnScaling | None:
    scaling = config.positions.rope_scaling if isinstance(config.positions, RotaryConfig) else None
    return scaling if isinstance(scaling, YarnScaling) else None


def _name(config: ModelConfig) -> str:
    ramp = _yarn(config)
    assert ramp is not None
    return f"yarn {ramp.beta_fast:g}/{ramp.beta_slow:g}, × {ramp.magnitude:.4g}"
