"""What a terminal is given: own colours, and of everything else only what it cannot obey.

:class:`Console` takes the place of rich's, :func:`say` that of :func:`print`; both let foreign text through
:func:`~congling.core.text.printable`.
"""

import sys
from collections.abc import Iterable
from typing import TextIO

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


def say(text: str = "", *, end: str = "\n", file: TextIO | None = None) -> None:
    """Print plain text, which may come from anywhere; at once, so that a stream shows while it is made."""
    print(printable(text), end=end, file=sys.stdout if file is None else file, flush=True)
