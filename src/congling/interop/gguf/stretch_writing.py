"""From our kinds of stretched positions to what llama.cpp can be told. Without torch."""

from collections.abc import Iterable

from congling.interop.gguf.stretch import (
    FACTORED,
    Stretch,
    llama3_divisors,
    own_growth,
    yarn_context,
    yarn_divisors,
)
from congling.interop.obstacles import Obstacle, Unrepresentable
from congling.model.config import ModelConfig, RotaryConfig
from congling.model.rope_scaling import (
    ClexScaling,
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    YarnScaling,
    depends_on_length,
)

_ELSE = "use positions.rope_scaling = linear or yarn, or a larger positions.rope_theta"
_FREEZE = "freeze the positions at one length: congling convert RUN --to gguf --freeze LENGTH"


def stretch(positions: RotaryConfig, turned: int, architecture: str) -> Stretch:
    """What a file of ``architecture`` says of these positions, ``turned`` channels of a head turning.

    Raises:
        Unrepresentable: llama.cpp cannot be told of them there.
    """
    found = _stretch(positions, turned, architecture)
    if architecture == "gemma3":
        _leave_windows_alone(positions, found)
    return found


def within(config: ModelConfig) -> RotaryConfig:
    """Positions of the texts that the model reads: of kinds that depend on the length, those within the
    trained one where the context ends there."""
    assert isinstance(config.positions, RotaryConfig)
    scaling = config.positions.rope_scaling
    if config.depends_on_length:
        return config.positions
    if isinstance(scaling, DynamicScaling):
        return config.positions.replace(rope_scaling=None)
    if isinstance(scaling, LongRopeScaling):
        same = {"short_factor": scaling.short_factor, "long_factor": scaling.short_factor}
        return config.positions.replace(rope_scaling=same)
    return config.positions


def needs_factors(positions: RotaryConfig, turned: int) -> bool:
    """Whether only a table of factors can say it: llama.cpp takes one in few architectures."""
    match positions.rope_scaling:
        case Llama3Scaling():
            return True
        case YarnScaling() as scaling:
            return yarn_context(scaling, positions.rope_theta, turned) is None
        case LongRopeScaling(long_factor=factors) as scaling:
            return not depends_on_length(scaling) and len(set(factors)) > 1
        case _:
            return False


def _stretch(positions: RotaryConfig, turned: int, architecture: str) -> Stretch:
    match positions.rope_scaling:
        case None:
            return Stretch()
        case LinearScaling(factor=factor):
            return Stretch("linear", factor)
        case YarnScaling() as scaling:
            return _yarn(scaling, positions.rope_theta, turned, architecture)
        case Llama3Scaling() as scaling:
            _need_table(architecture, "Llama 3's scaling", _ELSE)
            return _table(llama3_divisors(scaling, positions.rope_theta, turned), 1.0)
        case LongRopeScaling() as scaling if not depends_on_length(scaling):
            return _longrope(scaling, architecture)
        case DynamicScaling() | LongRopeScaling() | ClexScaling() as scaling:
            raise _by_length(scaling.rope_type)


def _yarn(scaling: YarnScaling, theta: float, turned: int, architecture: str) -> Stretch:
    length = yarn_context(scaling, theta, turned)
    if length == scaling.original_max_position_embeddings or (length and architecture not in FACTORED):
        growth = scaling.magnitude / own_growth(scaling.factor)
        return Stretch("yarn", scaling.factor, length, growth)
    fast = 32 * scaling.beta_slow
    nearest = f"use beta_fast = {fast:g}, beta_slow = {scaling.beta_slow:g} and truncate = true"
    _need_table(architecture, "this ramp of YaRN", nearest)
    return _table(yarn_divisors(scaling, theta, turned), scaling.magnitude)


def _longrope(scaling: LongRopeScaling, architecture: str) -> Stretch:
    factors = scaling.long_factor
    if len(set(factors)) == 1:
        return Stretch(None if factors[0] == 1 else "linear", factors[0], growth=scaling.magnitude)
    _need_table(architecture, "LongRoPE", _ELSE)
    return _table(factors, scaling.magnitude)


def _table(divisors: Iterable[float], growth: float) -> Stretch:
    return Stretch(growth=growth, divisors=tuple(float(divisor) for divisor in divisors))


def _need_table(architecture: str, what: str, nearest: str) -> None:
    if architecture not in FACTORED:
        raise Unrepresentable(
            Obstacle(
                f"{what} needs a table of rotary factors, which llama.cpp takes in the architectures llama "
                f"and granite alone; this model is written as {architecture}",
                f"{nearest}, or the family llama",
            )
        )


def _by_length(kind: str) -> Unrepresentable:
    what = {
        "dynamic": "llama.cpp has no dynamic scaling of rotary positions: it would end at such a file",
        "longrope": "llama.cpp chooses LongRoPE's factors by the size of its context, not by the text",
    }.get(kind, "llama.cpp has no scaling of rotary positions that follows a learnt curve (CLEX)")
    return Unrepresentable(Obstacle(what, _ELSE, _FREEZE))


def _leave_windows_alone(positions: RotaryConfig, found: Stretch) -> None:
    """In Gemma 3 llama.cpp stretches nothing in blocks with a window, but multiplies there too.

    Raises:
        Unrepresentable: the model does otherwise.
    """
    if positions.rope_scaling is not None and positions.rope_local_base_freq is None:
        raise Unrepresentable(
            Obstacle(
                "llama.cpp does not stretch positions in Gemma 3's blocks with a window",
                "set positions.rope_local_base_freq",
            )
        )
    if "rope.scaling.attn_factor" in found.fields():
        raise Unrepresentable(
            Obstacle(
                "llama.cpp multiplies attention scores in Gemma 3's blocks with a window too",
                "use yarn without attention_factor",
            )
        )
