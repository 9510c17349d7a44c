"""小世界: an original, endless corpus of small documents that knows its facts, its form and its entropy.

Its parts load when one is used: whoever only reads a configuration, or a help text, needs none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from congling.data.smallworld.checking import Verdict, check
    from congling.data.smallworld.entropy import entropy_floor
    from congling.data.smallworld.generator import generate
    from congling.data.smallworld.questions import Problem, problems

__all__ = ["Problem", "Verdict", "check", "entropy_floor", "generate", "problems"]
_HOMES = {
    "Problem": "questions", "Verdict": "checking", "check": "checking", "entropy_floor": "entropy",
    "generate": "generator", "problems": "questions",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
