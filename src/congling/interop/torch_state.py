"""A state dict of torch under plain names, and our tensors found in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.interop.names import Entry, pattern
from congling.interop.torch_archive import TorchArchive, tensors_in
from congling.interop.torch_pickle import StoredTensor
from congling.model.checkpoint import expected_shapes
from congling.model.config import ModelConfig

PREFIXES = ("_orig_mod.", "module.")
_STATES = ("model", "state_dict", "model_state_dict", "module")
"""Under which of these keys a checkpoint keeps its state dict."""
_TABLES = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq", "freqs_cos", "freqs_sin", ".mask")
"""Ends of names that hold tables which follow from the configuration."""


@dataclass(frozen=True)
class Missing:
    """What a person says where the file does not."""

    heads: int | None = None
    rope_base: float | None = None
    context: int | None = None
    activation: Literal["gelu", "gelu_new"] | None = None
    """The form of GELU in plain MLPs."""


@dataclass(frozen=True)
class State:
    """A state dict and what stands beside it."""

    archive: TorchArchive
    tensors: Mapping[str, StoredTensor]
    arguments: Mapping[str, Any]
    """``model_args`` of nanoGPT and llama2.c; empty where there are none."""
    given: Missing

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor.

        Raises:
            UserError: there is none of this name.
        """
        if name not in self.tensors:
            raise UserError(
                "a tensor is missing", where=self.archive.path, value=name, hint=named(self.tensors)
            )
        return self.tensors[name].shape

    def matrix(self, name: str) -> tuple[int, int]:
        """Rows and columns of a matrix.

        Raises:
            UserError: it is missing or no matrix.
        """
        shape = self.shape(name)
        if len(shape) != 2 or min(shape) < 1:
            raise UserError(f"{name} is no matrix", where=self.archive.path, value=shape)
        return shape[0], shape[1]

    def layers(self, name: str) -> int:
        """How many blocks there are; ``name`` is one of their tensors with ``{}`` for the number."""
        count = 0
        while name.format(count) in self.tensors:
            count += 1
        return count

    def number(self, *keys: str) -> int | None:
        """The first of the arguments that is there, a positive number."""
        for key in keys:
            value = self.arguments.get(key)
            if type(value) is int and value > 0:
                return value
        return None

    def heads(self, *keys: str) -> int:
        """Heads of attention, by the arguments or the person.

        Raises:
            UserError: neither says, or they contradict each other.
        """
        said, given = self.number(*keys), self.given.heads
        if said and given and said != given:
            raise UserError(
                f"the checkpoint says {said} heads",
                where=self.archive.path,
                value=given,
                hint="leave out --heads",
            )
        if not (heads := said or given):
            what = "this checkpoint does not say how many heads attention has"
            hint = "--heads N gives it, as the training script had it (often 8)"
            raise UserError(what, where=self.archive.path, hint=hint)
        return heads


def stripped(names: list[str]) -> str:
    """What stands before all names without belonging to them: ``_orig_mod.``, ``module.``, both."""
    prefix = ""
    while names and (
        more := next((one for one in PREFIXES if all(name.startswith(prefix + one) for name in names)), None)
    ):
        prefix += more
    return prefix


def named(names: Any) -> str:
    """A hint that shows which tensors there are."""
    first = [str(name)[:60] for name in list(names)[:3]]
    return (
        f"there are {len(names)} tensors, the first {', '.join(first)}" if first else "there are no tensors"
    )


def opened(archive: TorchArchive, given: Missing) -> State:
    """The state dict of an archive, wherever a checkpoint keeps it, without prefixes and tables.

    Raises:
        UserError: there is none.
    """
    value, arguments = archive.value, {}
    if isinstance(value, dict):
        inner = next((value[key] for key in _STATES if isinstance(value.get(key), dict)), None)
        arguments = value.get("model_args") or {}
        value = value if inner is None or not tensors_in(inner) else inner
    tensors = tensors_in(value)
    if not tensors:
        raise UserError(
            "there is no state dict in this checkpoint",
            where=archive.path,
            hint="a file of weights is needed, not one of an optimizer",
        )
    prefix = stripped(list(tensors))
    tensors = {name.removeprefix(prefix): one for name, one in tensors.items()}
    kept = {name: one for name, one in tensors.items() if not name.endswith(_TABLES)}
    return State(archive, kept, arguments if isinstance(arguments, dict) else {}, given)


class StateWeights(Mapping[str, Tensor]):
    """Our tensors by our names, float32, read from the archive at each access.

    Raises:
        UserError: a tensor is missing, of another shape, or has no place.
    """

    def __init__(
        self,
        state: State,
        entries: tuple[Entry, ...],
        changed: Mapping[str, Callable[[Tensor], Tensor]],
        config: ModelConfig,
    ) -> None:
        self._state, self._changed = state, changed
        shapes = expected_shapes(config, len(state.tensors) * 3 + 8, state.archive.path)
        self._shapes, self._places, used = shapes, dict[str, tuple[str, slice] | None](), set[str]()
        for name in shapes:
            ours, layer = pattern(name)
            entry = next(entry for entry in entries if ours in entry.ours and not entry.one_expert)
            theirs = entry.theirs.format(layer)
            if theirs not in state.tensors and name.endswith(".bias"):
                self._places[name] = None  # a model without biases
                continue
            sizes = [shapes[part.format(layer)] for part in entry.ours]
            whole = (sum(size[0] for size in sizes), *sizes[0][1:])
            if state.shape(theirs) != whole:
                raise UserError(
                    f"{theirs} has the wrong shape, {whole} is needed",
                    where=state.archive.path,
                    value=state.shape(theirs),
                )
            start = sum(size[0] for size in sizes[: entry.ours.index(ours)])
            self._places[name] = theirs, slice(start, start + shapes[name][0])
            used.add(theirs)
        used |= {entry.theirs for entry in entries if entry.ours == ("head.weight",)}
        if unknown := sorted(set(state.tensors) - used):
            raise UserError(
                f"{len(unknown)} tensors no part of this model uses, the first",
                where=state.archive.path,
                value=unknown[0],
            )

    def __getitem__(self, name: str) -> Tensor:
        place = self._places[name]
        if place is None:
            return torch.zeros(self._shapes[name])
        found = self._state.archive.tensor(self._state.tensors[place[0]])[place[1]].contiguous()
        return self._changed[name](found) if name in self._changed else found

    def __iter__(self) -> Any:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
