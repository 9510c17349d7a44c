"""What a module's docstring says to whoever reads its help: sentences, and commands to copy.

::

    '''Learn a vocabulary from documents.          ← sentences(…)[0]

    Reads a documents directory::                  ← sentences(…)[1], with a full stop

        congling tokenizer documents --out tok     ← examples(…)
            tokenizer.vocab_size=4096                a line that is indented further goes on with it
    '''
"""

import textwrap

PROGRAM = "congling"


def sentences(docstring: str | None) -> list[str]:
    """Paragraphs of plain text, each as one line, without the marks of code; what is indented is left out."""
    found: list[str] = []
    for paragraph in _paragraphs(docstring):
        text = " ".join(line.strip() for line in paragraph if not line.startswith(" "))
        text = text.removesuffix("::").rstrip().replace("``", "")
        if text:
            found.append(text if text.endswith((".", ":", ";", "?")) else f"{text}.")
    return found


def examples(docstring: str | None) -> list[str]:
    """Commands of the indented parts, each as one line."""
    found: list[str] = []
    depth = 0
    for line in (line for paragraph in _paragraphs(docstring) for line in paragraph):
        indent = len(line) - len(line.lstrip())
        if indent and line.split()[0] == PROGRAM:
            found.append(line.strip())
            depth = indent
        elif found and depth and indent > depth:
            found[-1] += " " + line.strip()
        else:
            depth = 0
    return found


def _paragraphs(docstring: str | None) -> list[list[str]]:
    first, _, rest = (docstring or "").partition("\n")
    text = f"{first}\n{textwrap.dedent(rest)}"
    return [
        lines for part in text.split("\n\n") if (lines := [line for line in part.split("\n") if line.strip()])
    ]
