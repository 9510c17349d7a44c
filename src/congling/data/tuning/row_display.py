"""Rows on a terminal, as a person reads them: what is learnt stands out, with colour or without.

::

    1  rows.jsonl:1 · 38 tokens, 12 in the loss · couplets
    │ <|im_start|>user⏎
    │ 对下联：白鹭飞青岭<|im_end|>⏎
    │ <|im_start|>assistant⏎
    │ ⟦黄莺入翠溪。<|im_end|>⟧
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from congling.core.console import Console
from congling.core.text import printable
from congling.core.units import plural
from congling.data.problems import ReadingLog
from congling.data.tuning.preference_rows import PairRow, RatedRow
from congling.data.tuning.row_inspection import Lengths, RowInspection, RowLook, ShownRow
from congling.data.tuning.row_kinds import METHODS, Sort

_LEARNT, _SPECIAL, _PLAIN, _DIM = "bold green", "cyan", "", "bright_black"
_SHOWN = 700  # characters of a row that are shown
_KEPT = 120  # of them from its end, where the last answer stands
_BAR = 32
_DOMAINS = 8
_MARKED = {
    Sort.CONVERSATIONS: "what is in the loss is {}",
    Sort.PAIRS: "the answers that are compared are {}",
    Sort.RATED: "the answer that is rated is {}",
    Sort.PROMPTS: "the model goes on from there",
}


def show(found: RowInspection, console: Console) -> None:
    """Print an inspection of rows."""
    plain = console.no_color or not console.is_terminal
    how = "between ⟦ and ⟧" if plain else "green"
    marked = _MARKED[found.sort].format(how)
    _say(console, Text(f"first rows as the template {found.template} writes them; {marked}:\n"))
    number, last = 0, ""
    for row in found.first:
        number, last = number + (row.id != last or not row.side), row.id
        _row(number, row, console, plain=plain)
    _sorts(found.sort, found.sorts, console)
    _totals(found, console)
    if found.rows:  # texts fill rows whatever their length
        _lengths(found.lengths, found.context, console)
    _domains(found, console)
    _findings(found.findings, console)


def show_roles(found: RowLook, console: Console) -> None:
    """Print rows by their roles alone, what is wrong with others, and what to add to see more."""
    _say(console, Text(f"\nas {found.sort}s, for tuning:"))
    for number, row in enumerate(found.first, 1):
        _say(console, _heading(number, str(row.place), [*getattr(row, "meta", {}).values()]))
        for turn in row.prompt:
            _turn(turn["role"], turn, console)
        for name, turn in zip(_sides(row), row.answers, strict=True):
            _turn(name, turn, console)
    more = "" if found.whole else " (the first ones; there are more)"
    _say(console, Text(f"\n{found.rows:,} {plural(found.rows, found.sort)}{more}"))
    _sorts(found.sort, found.sorts, console)
    _findings(found.findings, console)
    _say(
        console,
        Text("\nadd --tokenizer DIR (a tokenizer, a run or a checkpoint) to see tokens and the loss mask"),
    )


def show_sorts(sorts: Sequence[Sort], console: Console) -> None:
    """Say that files hold rows of several sorts, where they do."""
    if len(sorts) > 1:
        listed = ", ".join(f"{one}s ({METHODS[one]})" for one in sorts)
        _say(
            console,
            Text(
                f"\nnote: the files hold different sorts of rows: {listed}; give each method its own",
                "yellow",
            ),
        )


def _sides(row: Any) -> Sequence[str]:
    """What the answers of a row are called."""
    if isinstance(row, PairRow):
        return ("chosen", "rejected")
    if isinstance(row, RatedRow):
        return ("good" if row.good else "bad",)
    return ("assistant",) * len(row.answers)


def _turn(name: str, turn: Mapping[str, Any], console: Console) -> None:
    """One turn on one line, thoughts before it."""
    answer = turn["role"] == "assistant"
    style = (_LEARNT if turn.get("loss") is not False else _PLAIN) if answer else _SPECIAL
    thought = turn.get("reasoning_content")
    texts = ([("thinks", str(thought))] if thought else []) + [(name, str(turn["content"]))]
    for who, text in texts:
        line = Text("│ ", _DIM) + Text(f"{who:<10}", style)
        line += Text(_cut(" ".join(text.split()), 160))
        _say(console, line + Text(" (not in the loss)" if turn.get("loss") is False else "", _DIM))


def _sorts(sort: Sort, sorts: Mapping[Sort, int], console: Console) -> None:
    """Which methods learn from these rows."""
    others = [f"{METHODS[one]} ({one}s)" for one in sorts if one is not sort]
    also = f"; they can also be read by {', '.join(others)}" if others else ""
    _say(console, Text(f"for        {METHODS[sort]}{also}"))


def _row(number: int, row: ShownRow, console: Console, *, plain: bool) -> None:
    counts = f"{row.tokens:,} {plural(row.tokens, 'token')}, {row.targets:,} in the loss"
    side = [row.side] if row.side else []
    _say(console, _heading(number, row.id, [*side, counts, *row.meta.values()]))
    body = Text()
    within = False
    for piece in row.pieces:
        if plain and piece.in_loss != within:
            body.append("⟦" if piece.in_loss else "⟧")
            within = piece.in_loss
        style = _LEARNT if piece.in_loss else _SPECIAL if piece.special else _PLAIN
        body.append(_visible(piece.text), f"{style} underline" if piece.in_loss and piece.special else style)
    if within:
        body.append("⟧")
    for line in _shortened(body).split("\n"):
        # a file keeps lines whole, to be searched; a terminal wraps them behind the gutter
        parts = line.wrap(console, max(20, console.width - 2)) if console.is_terminal and line else [line]
        for part in parts:
            _say(console, Text("│ ", _DIM) + part)
    console.print()


def _heading(number: int, name: str, parts: Sequence[str]) -> Text:
    return (
        Text(f"{number}  ", "bold") + Text(name, "bold") + Text("".join(f" · {part}" for part in parts), _DIM)
    )


def _visible(text: str) -> str:
    """Line feeds with a sign before them, other control characters spelt out."""
    return printable(text.replace("\n", "⏎\n").replace("\t", "⇥"))


def _shortened(body: Text) -> Text:
    if len(body) <= _SHOWN:
        return body
    left_out = len(body) - _SHOWN
    middle = Text(f" … {left_out:,} characters … ", _DIM)
    return body[: _SHOWN - _KEPT] + middle + body[len(body) - _KEPT :]


def _totals(found: RowInspection, console: Console) -> None:
    share = 100 * found.targets / max(1, found.tokens)
    counted = ((found.rows, str(found.sort)), (found.texts, "text"))
    rows = " and ".join(f"{count:,} {plural(count, noun)}" for count, noun in counted if count)
    part = "" if found.whole else " (the first rows; there are more)"
    _say(
        console,
        Text(f"in loss   {found.targets:,} of {found.tokens:,} tokens ({share:.1f} %) in {rows}{part}"),
    )
    end = found.fit.end
    _say(console, Text("ends      an answer ends with ") + Text(end or "the end of text", _SPECIAL))


def _lengths(lengths: Lengths, context: int | None, console: Console) -> None:
    rows = sum(count for _, count in lengths.bins)
    parts = [f"half ≤ {lengths.percentiles[50]:,}"]
    parts += [f"{p} % ≤ {value:,}" for p, value in lengths.percentiles.items() if p != 50]
    _say(console, Text(f"length    {', '.join(parts)}, longest {lengths.longest:,} tokens"))
    if context is not None:
        style = "yellow" if lengths.beyond else "green"
        share = 100 * lengths.beyond / max(1, rows)
        text = f"{lengths.beyond:,} of {rows:,} {plural(rows, 'row')} ({share:.1f} %) longer"
        _say(console, Text(f"context   {context:,} tokens: ") + Text(text, style))
    console.print()
    highest = max(count for _, count in lengths.bins)
    for end, count in lengths.bins:
        bar = "█" * max(round(_BAR * count / max(1, highest)), 1 if count else 0)
        style = "yellow" if context is not None and end > context else "green"
        _say(console, Text(f"  ≤ {end:>7,}  ") + Text(f"{bar:<{_BAR}}", style) + Text(f" {count:>7,}"))
    console.print()


def _domains(found: RowInspection, console: Console) -> None:
    named = [(name, count) for name, count in found.domains.items() if name]
    if named:
        listed = ", ".join(f"{name} {count:,}" for name, count in named[:_DOMAINS])
        more = f" and {len(named) - _DOMAINS:,} more" if len(named) > _DOMAINS else ""
        _say(console, Text(f"about     {listed}{more}\n"))


def _findings(found: ReadingLog, console: Console) -> None:
    for note in found.sentences:
        _say(console, Text(f"note: {note}", "yellow"))
    if found.sound:
        _say(console, Text("every row is sound", "green"))
    for kind, count in found.counts.most_common():
        _say(console, Text(f"{count:,} × {kind}", "yellow"))
        for one in [problem for problem in found.examples if problem.kind == kind][:2]:
            _say(console, Text("    ") + Text(f"{one.place}  ", _DIM) + Text(one.reason))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + "…"


def _say(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True, highlight=False)
