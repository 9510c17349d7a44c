"""A look at whatever sources hold: texts to learn from whole, rows to tune on, or both."""

from collections.abc import Sequence
from dataclasses import dataclass

from congling.core.errors import UserError
from congling.data import inspection
from congling.data.config import DataConfig
from congling.data.inspection import Inspection
from congling.data.tuning import row_inspection, row_kinds
from congling.data.tuning.row_inspection import RowInspection, RowLook
from congling.tokenizer.base import Tokenizer


@dataclass(frozen=True)
class Look:
    """What is seen without a tokenizer."""

    texts: Inspection | None
    rows: Sequence[RowLook]
    """One for each sort of rows."""


@dataclass(frozen=True)
class InspectedRows:
    """Rows as they would be learnt."""

    rows: Sequence[RowInspection]
    """One for each sort of rows."""
    refused: Sequence[UserError]
    """Why others cannot be."""


def look(config: DataConfig) -> Look:
    """Look at sources without a tokenizer.

    Raises:
        UserError: there is neither a text nor a row.
    """
    rows = [look for part in row_kinds.by_sort(config) if (look := row_inspection.look(part))]
    try:
        return Look(inspection.inspect(config), rows)
    except UserError:
        if not any(look.first for look in rows):
            raise
        return Look(None, rows)


def inspected(config: DataConfig, tokenizer: Tokenizer, context: int | None) -> InspectedRows:
    """Rows of each sort as they would be learnt, and the errors of those that cannot be.

    Raises:
        UserError: none can.
    """
    rows: list[RowInspection] = []
    refused: list[UserError] = []
    for part in row_kinds.by_sort(config):
        try:
            rows.append(row_inspection.inspect(part, tokenizer, context))
        except UserError as error:
            refused.append(error)
    if not rows:
        raise refused[0]
    return InspectedRows(rows, refused)
