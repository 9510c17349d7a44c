"""Results as a table for people, Markdown for the log and JSON for programs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable


@dataclass
class Table:
    """Rows under headings, with the sentences a reader needs to judge them."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Format as a Markdown section."""
        lines = [f"### {self.title}", "", _line(self.columns), _line("---" for _ in self.columns)]
        lines += [_line(row) for row in self.rows]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])

    def show(self, console: Console) -> None:
        """Print for a terminal."""
        table = RichTable(*self.columns, title=self.title, title_justify="left")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(f"  {note}", highlight=False, markup=False)


@dataclass
class Report:
    """What one benchmark found: tables for people and the raw numbers behind them."""

    tables: list[Table]
    data: dict[str, Any] = field(default_factory=dict)


class Skipped(Exception):
    """A benchmark cannot run here; the message says why and what it needs."""


def write(path: Path, reports: Mapping[str, Report | str], facts: Mapping[str, str]) -> None:
    """Write ``path`` (JSON) and a Markdown page beside it; a string for a report says why it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"circumstances": dict(facts)}
    page = [*(f"- {name}: {value}" for name, value in facts.items()), ""]
    for name, report in reports.items():
        page += [f"## {name}", ""]
        if isinstance(report, str):
            content[name] = {"skipped": report}
            page += [f"Not measured: {report}", ""]
        else:
            content[name] = report.data
            page += [table.markdown() for table in report.tables]
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text("\n".join(page), encoding="utf-8")


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"
