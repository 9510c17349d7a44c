"""A progress bar with an ETA for work whose length is known; silent when it ends within two seconds."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
PATIENCE = 2.0  # seconds a person waits without wondering


def track(
    items: Iterable[T], label: str, *, total: float | None = None, size: float = 1.0, unit: str = ""
) -> Iterator[T]:
    """Pass ``items`` through, showing progress on standard error once two seconds have gone by.

    ``total`` is the sum of all steps and ``size`` the step of one item; without ``total`` there is no ETA.
    ``unit``: what is counted, where the numbers are to be shown besides the share.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        *([TextColumn("{task.completed:.0f} of {task.total:.0f} " + unit)] if unit else []),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(label, total=total)
    started, shown = time.monotonic(), False
    try:
        for item in items:
            yield item
            bar.advance(task, size)
            if not shown and time.monotonic() - started > PATIENCE:
                bar.start()
                shown = True
    finally:
        if shown:
            bar.stop()
