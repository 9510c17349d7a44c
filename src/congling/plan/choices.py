"""Values that were chosen, and why; one that the recipe gives wins over the advised one."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """One value and where it comes from."""

    key: str
    value: str
    why: str


class Choices:
    """Collects choices about one table of a recipe; what the recipe gives of it is reported as given."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given, self.made = given, list[Choice]()

    def pick(self, key: str, advised: Any, why: str) -> Any:
        """The recipe's value, else the advised one."""
        value = self.given.get(key, advised)
        self.made.append(Choice(key, shown(value), "given in the recipe" if key in self.given else why))
        return value

    def complete(self, key: str, advised: dict[str, Any], why: str) -> Any:
        """A table: the recipe's values laid over the advised ones."""
        given = self.given.get(key, {})
        value = advised | given if isinstance(given, dict) else given
        self.made.append(Choice(key, shown(value), "given in the recipe, completed" if given else why))
        return value

    def take(self, values: dict[str, Any]) -> None:
        """Note values that the recipe gives and nothing is advised for."""
        self.made += [Choice(key, shown(value), "given in the recipe") for key, value in values.items()]


def shown(value: Any) -> str:
    """A value in one line; of a table its kind first.

    >>> shown({"kind": "adamw", "learning_rate": 0.002})
    'adamw learning_rate 0.002'
    """
    if isinstance(value, dict):
        kind = value.get("kind", "")
        return f"{kind} " + ", ".join(f"{key} {shown(item)}" for key, item in value.items() if key != "kind")
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
