"""Settings then and now: which keys differ, and how, in words a person can act on."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from congling.core.config import Config
from congling.core.errors import UserError
from congling.core.text import valid

_MOST, _LONGEST = 12, 60  # keys that a message shows, and characters of a value


class Difference(NamedTuple):
    """One key that has another value now; ``None`` where it is not given."""

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key} {_shown(self.before)} → {_shown(self.now)}"


def differences(before: Config, now: Config) -> list[Difference]:
    """Keys, dotted, whose values differ, in their order."""
    return list(differing(before.model_dump(mode="json"), now.model_dump(mode="json")))


def require_same(
    before: Config,
    now: Config,
    *,
    where: Path,
    harmless: Collection[str] = (),
    advice: Mapping[str, str] | None = None,
) -> None:
    """Compare the settings a directory was made with and those asked for now.

    Args:
        before: the settings then.
        now: the settings now.
        where: the directory.
        harmless: dotted keys that may differ.
        advice: what else to do where one of these keys differs.

    Raises:
        UserError: other keys differ; the message names them with their values then and now.
    """
    found = [one for one in differences(before, now) if one.key not in harmless]
    if found:
        more = next((advice[one.key] for one in found if one.key in advice), None) if advice else None
        raise UserError(
            "this directory was made with other settings",
            where=where,
            value=", ".join(one.key for one in found),
            hint=f"{listed(found)}; keep the old values, choose another --out, or begin anew with --fresh"
            + (f"; {more}" if more else ""),
        )


def listed(found: Collection[Difference]) -> str:
    """Each key with its old and its new value, in one line."""
    parts = [str(one) for one in list(found)[:_MOST]]
    return ", ".join(parts) + (f" and {len(found) - _MOST} more" if len(found) > _MOST else "")


def differing(before: Any, now: Any, path: str = "") -> Iterator[Difference]:
    """The same for plain values; ``path`` stands before the keys."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        if before not in (now, _written(now)):
            yield Difference(path, before, now)
        return
    old, new = cast(dict[Any, Any], before), cast(dict[Any, Any], now)
    for key in [*old, *(key for key in new if key not in old)]:
        yield from differing(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))


def _written(value: Any) -> Any:
    """A value as a TOML file holds it: U+FFFD for each byte of a name that is not in UTF-8 (core/text.py)."""
    if isinstance(value, list):
        return [_written(one) for one in cast(list[Any], value)]
    return valid(value) if isinstance(value, str) else value


def _shown(value: Any) -> str:
    if value is None:
        return "(not given)"
    text = str(value) if not isinstance(value, bool) else str(value).lower()
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
