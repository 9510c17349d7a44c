"""Low-rank adapters around the layers of a model, which itself knows nothing of them.

::

    x ─┬─ base (frozen, dense or packed) ─────────────────┬─ +  y
       └─ a₁ ─ b₁·(strength₁·scale₁) ─ a₂ ─ b₂·(…) ─ … ───┘

``attach`` wraps the chosen layers for training, ``apply`` adds finished adapters with strengths, ``detach``
takes all wrappers off again, ``merge`` adds the products to dense base weights.
"""

# N rows (batch times time), I inputs, O outputs, r rank, V vocabulary, W width

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from congling.core.errors import UserError
from congling.model.norm import RMSNorm
from congling.quant.frozen import FrozenLinear
from congling.quant.packed import PackedEmbedding
from congling.transform.adapted import AdaptedEmbedding, AdaptedLayer, AdaptedLinear, AdaptedNorm
from congling.transform.adapter import Adapter, Factors
from congling.transform.config import AdapterConfig

TRAINED = "trained"
"""Name of the adapter that ``attach`` makes."""
_WRAPPERS: tuple[tuple[tuple[type[nn.Module], ...], type[AdaptedLayer]], ...] = (
    ((nn.Linear, FrozenLinear), AdaptedLinear),
    ((nn.Embedding, PackedEmbedding), AdaptedEmbedding),
    ((RMSNorm, nn.LayerNorm), AdaptedNorm),
)


def attach(model: nn.Module, config: AdapterConfig, seed: int = 0, name: str = TRAINED) -> None:
    """Freeze the model and give the layers that ``config`` chooses factors to train: ``a`` random, ``b`` 0.

    Of layers learnt whole ``a`` is the identity and not trained; magnitudes begin at the lengths of the rows.

    Raises:
        UserError: a target fits no layer of this model.
    """
    places = [place for place in _adaptable(model) if config.chooses(place)]
    for target in (*config.target_modules, *config.modules_to_save):
        if not any(AdapterConfig(target_modules=(target,)).chooses(place) for place in places):
            kinds = sorted({place.rpartition(".")[2] for place in _adaptable(model)})
            what, hint = "the model has no layer of this kind to adapt", f"it has {', '.join(kinds)}"
            raise UserError(what, where="adapter.target_modules", value=target, hint=hint)
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for place in places:
        layer = _wrapped(model, place)
        if config.learns_whole(place):
            outputs, inputs = layer.matrix
            layer.add(name, Factors(torch.eye(inputs), torch.zeros(outputs, inputs)), train=True, whole=True)
        else:
            layer.add(name, _fresh(layer, place, config, generator), train=True)
            layer.dropout = config.lora_dropout


def apply(model: nn.Module, adapters: Sequence[tuple[Adapter, float]]) -> None:
    """Add finished adapters, each at a strength; effects add up. They are named ``"0"``, ``"1"``, …

    Raises:
        UserError: an adapter was made for another base.
    """
    taken = strengths(model)
    for adapter, strength in adapters:
        name = next(str(i) for i in range(len(taken) + 1) if str(i) not in taken)
        add(model, name, adapter, strength=strength)
        taken[name] = strength


def add(model: nn.Module, name: str, adapter: Adapter, *, strength: float = 1.0, train: bool = False) -> None:
    """Add one adapter under a name; with ``train`` the base is frozen and its factors are parameters.

    Raises:
        UserError: the adapter was made for another base; the strength is not finite; the name is taken.
    """
    if not abs(strength) < float("inf"):
        raise UserError("the strength of an adapter is a finite number", value=strength)
    if name in strengths(model):
        raise UserError("the model has an adapter of this name", value=name)
    _check_base(model, adapter)
    if train:
        model.requires_grad_(False)
    for parameter, factors in adapter.factors.items():
        layer = _wrapped(model, parameter.removesuffix(".weight"))
        layer.add(name, factors, train=train)
        layer.strengths[name] = strength


def layers(model: nn.Module) -> dict[str, AdaptedLayer]:
    """The wrapped layers by the name of the parameter they adapt (``blocks.0.attention.query.weight``)."""
    return {
        f"{place}.weight": module
        for place, module in model.named_modules()
        if isinstance(module, AdaptedLayer)
    }


def adapter_of(model: nn.Module, name: str = TRAINED, facts: Mapping[str, Any] | None = None) -> Adapter:
    """The factors of one adapter as values, copied to the CPU as float32.

    Raises:
        UserError: the model has no adapter of that name.
    """
    found = {place: layer.factors(name) for place, layer in layers(model).items() if name in layer.strengths}
    if not found:
        raise UserError("the model has no adapter of this name", value=name)
    return Adapter(found, dict(facts or {}))


def strengths(model: nn.Module) -> dict[str, float]:
    """Strength of every adapter on the model, by name."""
    found: dict[str, float] = {}
    for layer in layers(model).values():
        found.update(layer.strengths)
    return found


def set_strengths(model: nn.Module, values: Mapping[str, float]) -> None:
    """Change how strongly adapters act; 0 switches one off.

    Raises:
        UserError: there is no adapter of that name.
    """
    known = strengths(model)
    for name, value in values.items():
        if name not in known:
            raise UserError(
                "the model has no adapter of this name", value=name, hint=f"it has {', '.join(known)}"
            )
        for layer in layers(model).values():
            if name in layer.strengths:
                layer.strengths[name] = value


def detach(model: nn.Module) -> None:
    """Take all adapters off: the model is the base again."""
    for place, layer in list(layers(model).items()):
        _put(model, place.removesuffix(".weight"), layer.base)


def _fresh(layer: AdaptedLayer, place: str, config: AdapterConfig, generator: torch.Generator) -> Factors:
    """Factors that change nothing yet."""
    rank, (outputs, inputs) = config.rank_of(place), layer.matrix
    bound = inputs**-0.5  # uniform in ±1/√inputs, as nn.Linear draws its weight
    a = (torch.rand(rank, inputs, generator=generator) * 2 - 1) * bound
    magnitude = layer.lengths() if config.use_dora and isinstance(layer, AdaptedLinear) else None
    return Factors(a, torch.zeros(outputs, rank), config.scale_of(place), magnitude)


def _adaptable(model: nn.Module) -> Iterator[str]:
    """Names of the layers that have a wrapper, wrapped or not, in the model's order."""
    inside = {id(layer.base) for layer in layers(model).values()}
    for place, module in model.named_modules():
        plain = _wrapper(module) is not None and id(module) not in inside and place != "positions"
        if plain or isinstance(module, AdaptedLayer):
            yield place


def _wrapper(module: nn.Module) -> type[AdaptedLayer] | None:
    return next((wrapper for kinds, wrapper in _WRAPPERS if isinstance(module, kinds)), None)


def _wrapped(model: nn.Module, place: str) -> AdaptedLayer:
    """The wrapper at a place, put there if need be."""
    module = model.get_submodule(place)
    if isinstance(module, AdaptedLayer):
        return module
    wrapper = _wrapper(module)
    assert wrapper is not None, place
    layer = wrapper(module)
    layer.train(module.training)
    _put(model, place, layer)
    return layer


def _put(model: nn.Module, place: str, module: nn.Module) -> None:
    parent, _, name = place.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _check_base(model: nn.Module, adapter: Adapter) -> None:
    """Compare names and shapes of an adapter with the layers of the model.

    Raises:
        UserError: they do not fit, or the factors are not finite.
    """
    if not adapter.factors:
        raise UserError("the adapter is empty", where=adapter.facts.get("name"))
    places, where = set(_adaptable(model)), adapter.facts.get("name")
    hint = "it was made for another base"
    for parameter, factors in adapter.factors.items():
        place = parameter.removesuffix(".weight")
        if place not in places or place == parameter:
            raise UserError(
                "the adapter changes a layer that the model lacks", where=where, value=parameter, hint=hint
            )
        module = model.get_submodule(place)
        layer = module if isinstance(module, AdaptedLayer) else None
        wanted = layer.matrix if layer is not None else _matrix(module)
        if (factors.b.shape[0], factors.a.shape[1]) != wanted or factors.a.shape[0] != factors.b.shape[1]:
            shapes = f"{parameter}: a {tuple(factors.a.shape)}, b {tuple(factors.b.shape)}, matrix {wanted}"
            what = "the adapter's factors have other shapes than the layer"
            raise UserError(what, where=where, value=shapes, hint=hint)
        if factors.magnitude is not None:
            _check_magnitude(module, factors.magnitude, parameter, where)
        if not factors.is_finite():
            raise UserError("the adapter holds values that are not finite", where=where, value=parameter)


def _check_magnitude(module: nn.Module, magnitude: Tensor, parameter: str, where: object) -> None:
    linear = isinstance(module, AdaptedLinear) or _wrapper(module) is AdaptedLinear
    outputs = module.matrix[0] if isinstance(module, AdaptedLayer) else _matrix(module)[0]
    if not linear or tuple(magnitude.shape) != (outputs,):
        value = f"{parameter}: magnitude {tuple(magnitude.shape)}"
        what = "a magnitude has one value for each output of a linear layer"
        raise UserError(what, where=where, value=value, hint="it was made for another base")


def _matrix(module: nn.Module) -> tuple[int, int]:
    wrapper = _wrapper(module)
    assert wrapper is not None
    return wrapper.shape_of(module)
