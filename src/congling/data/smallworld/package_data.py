"""The tables of the small world that stand beside the code: its words and its stories."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def table(name: str) -> dict[str, Any]:
    """The content of ``name.toml`` in this folder, in the order in which it is written."""
    return tomllib.loads(files("congling.data.smallworld").joinpath(f"{name}.toml").read_text("utf-8"))
