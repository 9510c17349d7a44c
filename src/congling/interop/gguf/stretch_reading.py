"""From what a file tells llama.cpp of stretched rotary positions to our kinds. Without torch.

What llama.cpp computes is what the file means, whatever its writer had in mind: keys that it passes over are
named in a warning and passed over here.
"""

# D channels of a head that turn

import numpy as np
from pydantic import ValidationError

from congling.core.config import build
from congling.core.errors import UserError
from congling.core.output import warn
from congling.interop.gguf.file import GGUFFile
from congling.interop.gguf.stretch import (
    FACTORED,
    FACTORS,
    LONG,
    OURS,
    SHORT,
    Stretch,
    Told,
    in_32_bits,
    llama3_divisors,
    own_growth,
    yarn_divisors,
)
from congling.interop.gguf.stretch_writing import stretch
from congling.interop.obstacles import Unrepresentable
from congling.model.config import RotaryConfig
from congling.model.rope_scaling import (
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    RotaryScaling,
    YarnScaling,
)

_KINDS = ("none", "linear", "yarn", "longrope")
_PASSED_OVER = {
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "ext_factor": 1.0,
    "attn_factor": 1.0,
    "log_multiplier": 0.0,
}
"""Keys ``rope.scaling.yarn_…`` that llama.cpp does not read, and what it computes with."""
_ORIGINAL_CONTEXTS = tuple(1 << power for power in range(9, 18))
"""Of models with Llama 3's scaling, whose table does not say it."""


def tables(file: GGUFFile, architecture: str) -> set[str]:
    """Tensors of a file that say how positions are stretched."""
    if architecture not in FACTORED:
        return set()
    named = {LONG, SHORT} if _kind(file, architecture) == "longrope" else {FACTORS}
    return named & file.tensors.keys()


def told_by(file: GGUFFile, architecture: str, turned: int, context: int) -> Told:
    """Base and scaling of a model whose heads turn ``turned`` channels and that reads ``context`` tokens.

    Raises:
        UserError: a type that llama.cpp ends at, or numbers that no model has.
    """
    theta, kind = file.real(f"{architecture}.rope.freq_base", 10_000.0), _kind(file, architecture)
    if theta <= (1 if kind == "yarn" else 0):
        raise UserError("no base of rotary positions: rope.freq_base", where=file.path, value=theta)
    found = _seen(file, architecture, turned, context)
    _warn(file, architecture, found.kind)
    if (ours := _ours(file, architecture, theta, turned, found)) is not None:
        return ours
    if kind == "longrope" and (by_length := _longrope(file, found, turned)) is not None:
        return Told(rope_theta=theta, rope_scaling=by_length)
    where = f"{file.path}: rope.scaling"
    return Told(rope_theta=theta, rope_scaling=understood(found, theta, turned, context, where))


def understood(
    seen: Stretch, theta: float, turned: int, context: int, where: object = None
) -> RotaryScaling | None:
    """The kind of scaling that computes what ``seen`` says, for a model that reads ``context`` tokens.

    Raises:
        UserError: there is none.
    """
    yarn = None
    if seen.kind == "yarn":
        magnitude = None if seen.growth == 1 else _short(seen.growth * own_growth(max(seen.factor, 1.0)))
        values = {"factor": seen.factor, "original_max_position_embeddings": seen.trained or context}
        yarn = build(YarnScaling, values | {"attention_factor": magnitude}, where=where)
    if seen.divisors is None and (yarn is not None or seen.growth == 1):
        return yarn or (None if seen.factor == 1 else LinearScaling(factor=seen.factor))
    divisors = np.array(seen.divisors or (1.0,) * (turned // 2))
    if seen.factor == 1 and seen.growth == 1 and (llama3 := _llama3(divisors, theta, turned)) is not None:
        return llama3
    divisors *= seen.factor if yarn is None else yarn_divisors(yarn, theta, turned)
    return _spectrum(divisors, divisors, seen, context, yarn.magnitude if yarn else seen.growth, where)


def _kind(file: GGUFFile, architecture: str) -> str:
    """The type of scaling; one that is not named is linear."""
    key = f"{architecture}.rope.scaling.type"
    kind = file.text(key, None) or ("linear" if key not in file.fields else "")
    if kind not in _KINDS:
        raise UserError(
            f"no type of rotary scaling that llama.cpp knows: it would end at this file ({key})",
            where=file.path,
            value=kind,
            hint=f"types are {', '.join(_KINDS)}; take the model in the format it was made in",
        )
    return kind


def _seen(file: GGUFFile, architecture: str, turned: int, context: int) -> Stretch:
    """Keys and table; of two tables that of the longer texts."""
    prefix, kind = f"{architecture}.rope.", _kind(file, architecture)
    factor = file.real(f"{prefix}scaling.factor", None)
    if factor is None:
        factor = file.real(f"{prefix}scale_linear", 0.0)
    growth = file.real(f"{prefix}scaling.attn_factor", 1.0)
    for key, value in (("factor", factor or 1.0), ("attn_factor", growth)):
        if value <= 0:
            raise UserError(f"rope.scaling.{key} must be above 0", where=file.path, value=value)
    named = tables(file, architecture)
    table = next((name for name in (FACTORS, LONG, SHORT) if name in named), None)
    divisors = None if table is None else tuple(map(float, _table(file, table, turned)))
    if kind == "none" or not factor:
        return Stretch(growth=growth, divisors=divisors)
    if kind == "yarn":
        trained = file.integer(f"{prefix}scaling.original_context_length", 0) or context
        return Stretch("yarn", factor, trained, growth, divisors)
    return Stretch("linear" if factor != 1 else None, factor, None, growth, divisors)


def _table(file: GGUFFile, name: str, turned: int) -> np.ndarray:
    """A table of factors: (D/2,) float32, each written in as few digits as tell it.

    Raises:
        UserError: it has another size, or a factor is none.
    """
    shape = file.info(name).shape
    if shape != (turned // 2,):
        what = f"{name} has shape {shape} where {turned // 2} pairs of channels turn"
        raise UserError(f"factors of rotary positions that do not fit: {what}", where=file.path)
    factors = file.array(name)
    if not (np.isfinite(factors) & (factors > 0)).all():
        raise UserError("factors of rotary positions must be above 0", where=file.path, value=name)
    return np.array([float(str(factor)) for factor in factors.astype(np.float32)])


def _ours(file: GGUFFile, architecture: str, theta: float, turned: int, seen: Stretch) -> Told | None:
    """What our own key says, if the rest of the file is what we would write for it."""
    field = file.fields.get(OURS)
    if field is None or field.type != "string":
        return None
    try:
        found = Told.model_validate_json(field.value)
        if in_32_bits(found.rope_theta) != theta:
            return None
        # Windows have a base of their own, so that those of Gemma 3 are no obstacle.
        positions = RotaryConfig(**dict(found), rope_local_base_freq=theta)
        return found if stretch(positions, turned, architecture).near(seen) else None
    except (ValidationError, Unrepresentable):
        return None


def _longrope(file: GGUFFile, seen: Stretch, turned: int) -> RotaryScaling | None:
    """Scaling by the text's length, where a file has different tables."""
    architecture = file.text("general.architecture")
    context = file.integer(f"{architecture}.context_length")
    trained = file.integer(f"{architecture}.rope.scaling.original_context_length", 0) or context
    named = tables(file, architecture)
    ones = np.ones(turned // 2)
    long, short = (_table(file, name, turned) if name in named else ones for name in (LONG, SHORT))
    if np.array_equal(long, short):
        return None
    warn(
        f"{file.path}: llama.cpp takes the factors for long texts in every context of more than {trained} "
        "tokens; here tokens within the original context are read with those for short ones"
    )
    known = seen._replace(trained=trained)
    return _spectrum(short * seen.factor, long * seen.factor, known, context, seen.growth, file.path)


def _spectrum(
    short: np.ndarray, long: np.ndarray, seen: Stretch, context: int, growth: float, where: object
) -> LongRopeScaling:
    trained = seen.trained or context
    values = {
        "factor": max(1.0, context / trained),
        "original_max_position_embeddings": trained,
        "short_factor": short.tolist(),
        "long_factor": long.tolist(),
        "attention_factor": _short(growth),
    }
    return build(LongRopeScaling, values, where=where)


def _llama3(divisors: np.ndarray, theta: float, turned: int) -> Llama3Scaling | None:
    """The parameters behind a table of factors, found by trying the few that models have used."""
    if divisors.max() < 1:
        return None
    for context in _ORIGINAL_CONTEXTS:
        scaling = Llama3Scaling(factor=float(divisors.max()), original_max_position_embeddings=context)
        if np.allclose(llama3_divisors(scaling, theta, turned), divisors, rtol=1e-4):
            return scaling
    return None


def _warn(file: GGUFFile, architecture: str, kind: str | None) -> None:
    """Name the keys of YaRN that llama.cpp passes over, where they say anything else than it computes."""
    for name, computed in _PASSED_OVER.items() if kind == "yarn" else ():
        key = f"{architecture}.rope.scaling.yarn_{name}"
        if (value := file.real(key, None)) is not None and value != computed:
            warn(f"{file.path}: {key} is {value:g}; llama.cpp passes over it and computes with {computed:g}")


def _short(value: float) -> float:
    """A product of numbers of 32 bits without digits that mean nothing."""
    return float(f"{value:.6g}")
