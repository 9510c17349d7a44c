"""Pairs of a better and a worse answer that are kept under other names than ``chosen`` and ``rejected``.

========  =========================================================================================
numbered  ``response_0``, ``response_1``, and ``better_response_id``: 0 or 1 (PKU-SafeRLHF)
listed    ``output``: two answers, the better first (LLaMA-Factory of old), where pairs are asked for
========  =========================================================================================
"""

from collections.abc import Mapping
from typing import Any

from congling.data.sources.fields import Log
from congling.data.sources.names import ASK

_SIDES, _BETTER = ("response_0", "response_1"), "better_response_id"
_NAMES = ("chosen", "rejected")


def named(record: Mapping[str, Any], log: Log, *, listed: bool = False) -> Mapping[str, Any]:
    """The record with its sides as ``chosen`` and ``rejected``, if it is such a pair; else as it is.

    Args:
        record: a row.
        log: is told how the row was read.
        listed: a list of two outputs is a pair, too.
    """
    if any(name in record for name in _NAMES):
        return record
    better = _number(record.get(_BETTER))
    if better is not None and all(isinstance(record.get(side), str) for side in _SIDES):
        log.layout = f"pairs: {_BETTER} says which of {' and '.join(_SIDES)} is the better"
        sides = [record[side] for side in _SIDES]
        rest = {key: value for key, value in record.items() if key not in (*_SIDES, _BETTER)}
        return {**rest, "chosen": sides[better], "rejected": sides[1 - better]}
    output = record.get("output")
    two = output if isinstance(output, list) and len(output) == 2 else []
    if listed and two and all(isinstance(one, str) for one in two) and any(name in record for name in ASK):
        log.layout = "pairs: of the two texts of 'output' the first is the better"
        rest = {key: value for key, value in record.items() if key != "output"}
        return {**rest, "chosen": two[0], "rejected": two[1]}
    return record


def is_pair(record: Any) -> bool:
    """Whether a record has a better and a worse answer, under any of these names."""
    return isinstance(record, Mapping) and {*_NAMES} <= named(record, Log(), listed=True).keys()


def _number(value: Any) -> int | None:
    """0 or 1, in tables perhaps as text."""
    value = int(value) if isinstance(value, str) and value.strip() in ("0", "1") else value
    return int(value) if isinstance(value, int | float) and value in (0, 1) else None
