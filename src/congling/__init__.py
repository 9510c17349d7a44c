"""congling 从零: from a text file to a small language model, and anywhere.

What this package offers is loaded when it is first asked for, so that ``import congling`` is quick and needs
no torch::

    congling.train("book.txt", out="runs/book", budget="15m")
    print(congling.generate("runs/book", "却说"))
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from congling import methods
    from congling.api import chat, convert, damage, evaluate, generate, load, quantize, tokenizer, train

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "chat",
    "convert",
    "damage",
    "evaluate",
    "generate",
    "load",
    "methods",
    "quantize",
    "tokenizer",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "methods":
        return import_module("congling.methods")
    return getattr(import_module("congling.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Callable(ModuleType):
    """A package with the name of a function: calling it calls the function."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        return getattr(import_module("congling.api"), self.__name__.rpartition(".")[2])(
            *arguments, **settings
        )


class _Package(ModuleType):
    """This package. A subpackage becomes an attribute once anything in it is imported; ``congling.train`` and
    ``congling.tokenizer`` must not hide the functions of these names."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in __all__ and name != "methods" and isinstance(value, ModuleType):
            value.__class__ = _Callable
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
