"""rich's console for texts from anywhere: own colours, and of all else only what a terminal cannot obey.

Plain lines are written by ``core/terminal.py``; both let foreign text through
:func:`~congling.core.text.printable`.
"""

from collections.abc import Iterable

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from congling.core.text import printable


class Console(RichConsole):
    """rich's console, whose texts cannot carry control characters of their own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See :meth:`rich.console.Console.render`."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
