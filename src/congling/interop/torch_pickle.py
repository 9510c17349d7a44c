"""The index of a torch checkpoint, read without running it.

A pickle is a program that can call anything. This reader follows the few instructions that dictionaries,
lists, numbers, texts and tensors are made of, calls nothing, and makes an inert description of each tensor.
Whatever else a pickle asks for is refused by its name. Instructions: Python's ``pickletools``; what torch
writes: ``torch/serialization.py`` (persistent ids) and ``torch/_utils.py`` (arguments of a tensor).
"""

# N values

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_INSTRUCTIONS = 5_000_000
_MOST_DIMENSIONS = 8
_TYPES = {
    "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64", "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16",
    "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
"""Our names of torch's storages; what a tensor holds."""
_TENSOR = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor")
_PARAMETER = "torch._utils _rebuild_parameter"
_DICTIONARY = "collections OrderedDict"
_ALLOWED = {*_TENSOR, _PARAMETER, _DICTIONARY, *(f"torch {name}" for name in _TYPES)}


class Refused(ValueError):
    """A pickle asks for something that a checkpoint does not need, or is damaged."""


@dataclass(frozen=True)
class Storage:
    """Where a tensor's values lie."""

    key: str
    """Name of the archive's entry."""
    type: str
    """``float32`` and the like."""
    count: int
    """N, as the pickle says."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that was not read yet."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def is_within(self) -> bool:
        """Whether all of its values lie in its storage, each of them once at most."""
        reach = self.offset + sum(
            (size - 1) * step for size, step in zip(self.shape, self.stride, strict=True)
        )
        return math.prod(self.shape) <= self.storage.count and (0 in self.shape or reach < self.storage.count)


@dataclass(frozen=True)
class _Name:
    """Something a pickle would import."""

    text: str


class _Mark:
    """Where an instruction's operands begin on the stack."""


def parsed(data: bytes) -> Any:
    """The value a pickle describes: dictionaries, lists, tuples, plain values and ``StoredTensor``.

    Raises:
        Refused: another instruction, name or call, or nonsense.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MOST_INSTRUCTIONS:
                raise Refused(f"more than {MOST_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                return machine.stack.pop()
            step = _STEPS.get(opcode.name)
            if step is None:
                raise Refused(f"the instruction {opcode.name}")
            step(machine, argument)
    except Refused:
        raise
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise Refused(f"damaged ({type(error).__name__})") from None
    raise Refused("it does not end")


class _Machine:
    """The stack and the memory of what a pickle does."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def above_mark(self) -> list[Any]:
        """Take everything above the last mark, and the mark."""
        marks = (i for i in range(len(self.stack) - 1, -1, -1) if isinstance(self.stack[i], _Mark))
        if (place := next(marks, None)) is None:
            raise Refused("operands without a beginning")
        found = self.stack[place + 1 :]
        del self.stack[place:]
        return found

    def name(self, text: str) -> None:
        """Push a name that is known; whatever it stands for is not imported."""
        if text not in _ALLOWED:
            raise Refused(text.replace(" ", "."))
        self.stack.append(_Name(text))

    def call(self) -> None:
        """What a known name makes of its arguments."""
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise Refused("a call of something without a name")
        if called.text == _DICTIONARY and not arguments:
            self.stack.append({})
        elif called.text in _TENSOR:
            self.stack.append(_tensor(*arguments[:4]))
        elif called.text == _PARAMETER and isinstance(arguments[0], StoredTensor):
            self.stack.append(arguments[0])
        else:
            raise Refused(f"a call of {called.text.replace(' ', '.')}")

    def build(self) -> None:
        """Attributes of what is below: of a dictionary they are dropped (``_metadata`` of a state dict)."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise Refused("attributes of something that has none")

    def storage(self) -> None:
        """A persistent id is where values lie."""
        kind, storage, key, _, count = self.stack.pop()
        if kind != "storage" or not isinstance(storage, _Name) or not isinstance(key, str):
            raise Refused("a reference to something outside")
        if not isinstance(count, int) or count < 0:
            raise Refused("a storage of no size")
        self.stack.append(Storage(key, _TYPES[storage.text.removeprefix("torch ")], count))

    def fill(self, pairs: list[Any]) -> None:
        """Put keys and values into the dictionary below."""
        target = self.stack[-1]
        if not isinstance(target, dict) or len(pairs) % 2:
            raise Refused("items of something that holds none")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | int | float | bool | None):
                raise Refused("a key that is no plain value")
            target[key] = value

    def extend(self, values: list[Any]) -> None:
        """Append to the list below."""
        if not isinstance(self.stack[-1], list):
            raise Refused("elements of something that is no list")
        self.stack[-1] += values


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> StoredTensor:
    numbers = [offset, *shape, *stride]
    if not isinstance(storage, Storage) or not all(type(one) is int and one >= 0 for one in numbers):
        raise Refused("a tensor that is none")
    if len(shape) != len(stride) or len(shape) > _MOST_DIMENSIONS:
        raise Refused("a tensor of odd dimensions")
    found = StoredTensor(storage, offset, tuple(shape), tuple(stride))
    if not found.is_within():
        raise Refused(f"a tensor of {math.prod(shape)} values beyond its storage of {storage.count}")
    return found


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _pushes(make: Callable[[], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(make())


def _remember(machine: _Machine, index: Any) -> None:
    machine.memo[len(machine.memo) if index is None else index] = machine.stack[-1]


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, _: Any) -> None:
        if len(machine.stack) < count:
            raise IndexError
        found = tuple(machine.stack[len(machine.stack) - count :])
        del machine.stack[len(machine.stack) - count :]
        machine.stack.append(found)

    return step


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.name(f"{module} {name}")


def _pair(machine: _Machine, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.fill([key, value])


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(
        ("BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), _push
    ),
    "NONE": _pushes(lambda: None), "NEWTRUE": _pushes(lambda: True), "NEWFALSE": _pushes(lambda: False),
    "MARK": _pushes(_Mark), "EMPTY_DICT": _pushes(dict), "EMPTY_LIST": _pushes(list),
    "EMPTY_TUPLE": _pushes(tuple), "TUPLE": lambda machine, _: _push(machine, tuple(machine.above_mark())),
    "TUPLE1": _tuple_of(1), "TUPLE2": _tuple_of(2), "TUPLE3": _tuple_of(3),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _remember),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, at: _push(machine, machine.memo[at])),
    "GLOBAL": _Machine.name, "STACK_GLOBAL": _stack_global,
    "REDUCE": lambda machine, _: machine.call(), "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.storage(),
    "SETITEM": _pair, "SETITEMS": lambda machine, _: machine.fill(machine.above_mark()),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.above_mark()),
}  # fmt: skip
"""What each instruction does; there are no others."""
