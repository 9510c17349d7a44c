"""What is typed about data on a command line, as configuration."""

from collections.abc import Mapping, Sequence
from typing import Any

from congling.core.config import build, toml_value, with_overrides
from congling.core.errors import UserError
from congling.core.text import readable
from congling.core.words import joined_words
from congling.data.config import DataConfig
from congling.data.smallworld.rows import RowsConfig


def configured(arguments: Sequence[str]) -> DataConfig:
    """Sources and ``data.…=…`` settings, as they stand on a command line.

    Raises:
        UserError: an unknown setting, or a wrong value.
    """
    words = joined_words(arguments)
    settings = [text for text in words if text.startswith("data.") and "=" in text]
    sources = [readable(text) for text in words if text not in settings]
    values = with_overrides({"data": {"sources": sources}}, settings)["data"]
    if not values["sources"]:
        raise UserError("no source is given", hint="name files or folders, or 'smallworld'")
    return build(DataConfig, values, where="data settings", under="data")


def rows_configured(options: Mapping[str, Any]) -> RowsConfig:
    """The options of ``rows`` as they stand on a command line; ``mix`` is one text, the defaults where empty.

    Raises:
        UserError: a wrong value.
    """
    values = {key: value for key, value in options.items() if key in RowsConfig.model_fields}
    mix = values.pop("mix", "")
    return build(RowsConfig, values | ({"mix": _shares(mix)} if mix else {}), where="data rows")


def _shares(text: str) -> dict[str, Any]:
    """``questions=1,arithmetic=2`` as a mapping; its values are checked with the rest."""
    parts = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and sign for name, sign, _ in parts):
        raise UserError(
            "a mix names kinds and their shares", value=text, hint="such as questions=1,arithmetic=2"
        )
    return {name.strip(): toml_value(share.strip()) for name, _, share in parts}
