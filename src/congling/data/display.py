"""Corpora and what is wrong with them on a terminal, as a person reads them."""

from typing import Any

from rich.table import Table

from congling.core.console import Console
from congling.core.units import plural, show_bytes
from congling.data import corpus
from congling.data.inspection import Inspection
from congling.data.looking import InspectedRows, Look
from congling.data.tuning import row_display

FILES = 12  # files listed one by one
EXCERPT = 60  # characters


def show_look(found: Look, console: Console) -> None:
    """Print what an inspection without a tokenizer finds."""
    if found.texts is not None:
        show(found.texts, console)
    else:
        for look in found.rows:
            show_files(look.findings.as_json(), console)  # rows that are no texts to learn from whole
    for look in found.rows:
        row_display.show_roles(look, console)
    row_display.show_sorts([look.sort for look in found.rows], console)


def show_inspected(found: InspectedRows, console: Console) -> None:
    """Print rows as they would be learnt, sort by sort; why others cannot be is said behind them."""
    for one in found.rows:
        show_files(one.findings.as_json(), console)
        row_display.show(one, console)
    row_display.show_sorts([one.sort for one in found.rows], console)
    for error in found.refused:  # files of another sort are to be seen all the same
        say(console, f"\n{error}", "yellow")


def show(found: Inspection, console: Console) -> None:
    """Print an inspection for a person."""
    show_files(found.summary, console)
    show_result(found.summary, console)
    say(console, "first documents:")
    for document in found.first:
        length = f"{len(document.text):,} {plural(len(document.text), 'character')}"
        say(console, f"  {document.id} ({length})  {_excerpt(document.text)}")
    show_problems(found, console)


def show_files(summary: dict[str, Any], console: Console) -> None:
    """Print for every file: size, encoding, what became a document, and why."""
    notes = summary["files"]
    for note in notes[:FILES]:
        encoding = f", {note['encoding']} ({note['encoding_why']})" if note["encoding"] else ""
        say(console, f"{note['file']}: {show_bytes(note['bytes'])} {note['format']}{encoding}")
        if note["choice"]:
            documents = f"{note['documents']:,} {plural(note['documents'], 'document')}"
            say(console, f"  {documents} by {note['choice']}: {note['why']}")
    beyond = len(notes) - FILES + summary["files_beyond"]
    if beyond > 0:
        say(console, f"… and {beyond:,} more files")
    console.print()


def show_result(summary: dict[str, Any], console: Console) -> None:
    """Print the counts of all splits, the reference lines, what was dropped, and every note."""
    headings = ("split", "documents", "characters", "bytes", "distinct", "median", "longest", "script")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("split", "script") else "right", no_wrap=True)
    for name, split in summary["splits"].items():
        keys = ("distinct_characters", "median_characters", "longest_characters")
        counts = (f"{split['documents']:,}", f"{split['characters']:,}", show_bytes(split["bytes"]))
        table.add_row(name, *counts, *(f"{split[key]:,}" for key in keys), split["script"]["guess"])
    console.print(table)
    for split, key in corpus.LINES.items():
        if not (lines := summary.get(key)):
            continue
        values = ", ".join(f"{name} {lines[name]:.2f}" for name in ("uniform", "unigram", "bigram"))
        floor = summary.get("entropy_floor")
        known = f", the generator's own entropy {floor['bits_per_character']:.2f}" if floor else ""
        say(console, f"bits/character of the {split} text: {values}{known}")
    for reason, count in summary["dropped"].items():
        say(console, f"dropped {count:,}: {reason}")
    counts = summary["problems"]["counts"]
    if counts:
        listed = ", ".join(f"{kind} {count:,}" for kind, count in counts.items())
        say(console, f"skipped or repaired: {listed}", "yellow")
    for note in summary["notes"]:
        say(console, f"note: {note}", "yellow")
    console.print()


def show_problems(found: Inspection, console: Console) -> None:
    """Print the first problems with their places, and the first documents left out."""
    problems = found.summary["problems"]
    if problems["examples"]:
        say(console, "\nproblems:")
    for problem in problems["examples"]:
        place = problem["file"] + (f":{problem['line']}" if problem["line"] else "")
        say(console, f"  {place}  {problem['kind']}: {problem['reason']}")
    beyond = sum(problems["counts"].values()) - len(problems["examples"])
    if beyond > 0:
        say(console, f"  … and {beyond:,} more (`congling data make` lists all in problems.jsonl)")
    if found.dropped:
        say(console, "\nfirst documents left out:")
    for row in found.dropped:
        say(console, f"  {row['id']}  {row['reason']}: {_excerpt(str(row['text']))}")


def say(console: Console, text: str, style: str = "") -> None:
    """Print one plain line: no markup in file names or data, no colouring, no breaking at the window."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _excerpt(text: str) -> str:
    line = " ".join(text[: 2 * EXCERPT].split())
    return line if len(text) <= EXCERPT else line[:EXCERPT] + "…"
