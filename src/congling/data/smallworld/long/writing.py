"""A whole long document: drawn line by line until it is long enough, or read back with its information."""

from collections.abc import Callable

from congling.data.smallworld.lexicon import categories
from congling.data.smallworld.long.choosing import Drawn, Given, ImpossibleError, grammar
from congling.data.smallworld.long.lines import Line, read, write
from congling.data.smallworld.long.state import State
from congling.data.smallworld.reading import grammar_information


def document(characters: int, random: Callable[[], float]) -> tuple[str, float]:
    """Write a document in Simplified characters that ends with the line reaching ``characters``.

    Returns it and its information in bits.
    """
    state, choose = State(), Drawn(random)
    pieces: list[str] = []
    while state.position < characters:
        line = state.next(choose)
        text = write(line)
        pieces.append(text)
        state.tell(line, len(text))
    return "".join(pieces), choose.bits


def information(text: str, characters: int) -> float | None:
    """Bits of the choices that write ``text``, in Simplified characters, as a document of ``characters``.

    None where no choices do.
    """
    state, bits = State(), 0.0
    while state.position < characters:
        found = line_at(text, state.position)
        if found is None:
            return None
        line, end = found
        choose = Given(line)
        try:
            if state.next(choose) != line:
                return None
        except ImpossibleError:
            return None
        bits += choose.bits
        state.tell(line, end - state.position)
    return bits if state.position == len(text) else None


def line_at(text: str, position: int) -> tuple[Line, int] | None:
    """The line at ``position``, a scene or a story as well, and where it ends; None where none is whole."""
    found = read(text, position)
    if found is not None:
        return found
    end = text.find("\n", position) + 1
    told = text[position : end - 1]
    for kind in ("scene", "story"):
        if end and grammar_information(told, grammar(kind), categories("hans")["number"]) is not None:
            return Line(kind, (told,)), end
    return None
