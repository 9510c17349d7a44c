"""Low-rank adapters in the formats of other programs, each read into and written from ``Adapter``."""

from congling.interop.adapters.any import read_any, write

__all__ = ["read_any", "write"]
