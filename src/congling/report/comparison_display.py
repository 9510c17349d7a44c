"""A comparison of runs on a terminal."""

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from congling.core.console import Console
from congling.report.comparison import Comparison


def show(found: Comparison, console: Console) -> None:
    """Print tables and texts."""
    for one in found.tables:
        table = Table(
            title=escape(one.title),
            caption=escape(one.note) or None,
            title_justify="left",
            caption_justify="left",
        )
        for index, head in enumerate(one.head):
            table.add_column(
                escape(head), justify="right" if index in one.numeric else "left", overflow="fold"
            )
        for row in one.rows:
            table.add_row(*map(escape, row))
        console.print(table)
    for prompt, texts in found.samples:
        console.print(Text(prompt.strip() or "(no prompt)", style="bold"))
        for name, text in texts:
            if text is not None:
                console.print(Text(f"  {name}: ", style="cyan") + Text(text.strip()))
