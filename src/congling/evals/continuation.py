"""Continuing held-out entries: the first 50, 100 or 200 tokens are given, the next ones are compared.

::

    操觚\\nㄘㄠ　ㄍㄨ　cāo gū\\n觚，木簡，古人在木簡上寫字。│操觚指執筆作文。《文選．陸機．文賦》……
    ■■■■■■■■■■■■■■■■ given ■■■■■■■■■■■■■■■■■■■■■■│···· the next 50 tokens: truth ····

Four things are told apart: whether the model hits the truth (exact), how near it comes (overlap), what the
truth costs it (bits/character), and how much of what it writes is recited from its training text (copied).
"""

# A prefix may end within a character where tokens are bytes: it then takes the rest of it.

import math
from collections.abc import Sequence
from dataclasses import dataclass

from congling.data.document import Document
from congling.evals.bench import Bench
from congling.evals.copying import SPAN, coverage
from congling.evals.likelihood import score_rows
from congling.evals.overlap import overlap
from congling.evals.scores import Score, mean, ratio, share
from congling.evals.windows import Row
from congling.evals.writing import written
from congling.tokenizer.base import Tokenizer

NEXT = 50
"""Tokens compared."""
EXACT = 10
"""Characters that must agree for the shorter exact match; an entry needs as many behind its prefix."""


@dataclass(frozen=True)
class Case:
    """An entry, divided."""

    given: list[int]
    """Ids of the prefix, with what a text begins with."""
    next: list[int]
    truth: str
    """Text of ``next``."""


def run(bench: Bench) -> list[Score]:
    """``continuation/PREFIX/…``: exact, exact-10, overlap, bits, copied (and the truth's own, to compare).

    Raises:
        UserError: there is no text to measure with.
    """
    documents = bench.held_out()
    found: list[Score] = []
    for length in bench.prefixes:
        cases = _cases(documents, length, bench)
        if cases:
            found += _measured(cases, length, bench)
    return found


def divide(tokenizer: Tokenizer, text: str, length: int, count: int = NEXT) -> Case | None:
    """An entry as ``length`` tokens and the ``count`` tokens behind them, both of whole characters.

    ``None`` where fewer than ``EXACT`` characters stand behind the prefix.
    """
    ids = tokenizer.encode(text)
    middle = _border(tokenizer, ids, length)
    end = _border(tokenizer, ids, min(len(ids), middle + count))
    truth = tokenizer.decode(ids[middle:end])
    if len(truth) < EXACT:
        return None
    return Case([*(tokenizer.prefix_ids or (tokenizer.bos_id,)), *ids[:middle]], ids[middle:end], truth)


def _border(tokenizer: Tokenizer, ids: Sequence[int], place: int) -> int:
    """``place``, or the next one where no character is divided."""
    while place < len(ids) and tokenizer.token_bytes(ids[place])[:1] >= b"\x80":
        if tokenizer.token_bytes(ids[place])[0] & 0xC0 != 0x80:
            break  # the first byte of a character
        place += 1
    return place


def _cases(documents: Sequence[Document], length: int, bench: Bench) -> list[Case]:
    context, tokenizer = bench.loaded.model.config.max_position_embeddings, bench.loaded.tokenizer
    cases = []
    for document in documents:
        case = divide(tokenizer, document.text, length)
        if case is None:
            reason = f"fewer than {EXACT} characters stand behind its first {length} tokens"
            bench.problem(f"entry too short for a prefix of {length}", document.id, reason)
        elif len(case.given) >= context:
            bench.problem("prefix longer than the context", document.id, f"{length} tokens in {context}")
        else:
            cases.append(case)
    return cases


def _measured(cases: list[Case], length: int, bench: Bench) -> list[Score]:
    name, seed, context = (
        f"continuation/{length}",
        bench.seed,
        bench.loaded.model.config.max_position_embeddings,
    )
    rows = [Row([*case.given, *case.next][: context + 1], len(case.given)) for case in cases]
    scored = score_rows(bench.loaded.model, rows, label=f"truth behind {length} tokens")
    bits = [part.total / math.log(2) for part in scored]
    characters = [
        len(case.truth) * len(part.nats) / len(case.next) for case, part in zip(cases, scored, strict=True)
    ]
    texts = written(
        bench.loaded, [case.given for case in cases], tokens=NEXT, label=f"behind {length} tokens"
    )
    texts = [text[: len(case.truth)] for text, case in zip(texts, cases, strict=True)]
    truths = [case.truth for case in cases]
    pairs = list(zip(texts, truths, strict=True))
    given = f"{length} tokens of a held-out text given, greedy"
    found = [
        share(f"{name}/exact", [a == b for a, b in pairs], f"{given}; all of the next {NEXT} tokens agree"),
        share(
            f"{name}/exact-{EXACT}",
            [a[:EXACT] == b[:EXACT] for a, b in pairs],
            f"{given}; the next {EXACT} characters agree",
        ),
        mean(
            f"{name}/overlap",
            [overlap(a, b) for a, b in pairs],
            "share",
            f"{given}; longest common subsequence with the next {NEXT} tokens, in characters",
            chance=_shuffled(texts, truths),
            seed=seed,
        ),
        ratio(
            f"{name}/bits",
            bits,
            characters,
            "bits/character",
            f"{length} tokens of a held-out text given; what the true next {NEXT} tokens cost",
            seed=seed,
        ),
    ]
    return found + _copied(name, texts, truths, bench)


def _shuffled(texts: Sequence[str], truths: Sequence[str]) -> float | None:
    """Overlap with the truth of the next case: what any text of this sort has in common with another."""
    if len(texts) < 2:
        return None
    moved = [*truths[1:], truths[0]]
    return sum(overlap(a, b) for a, b in zip(texts, moved, strict=True)) / len(texts)


def _copied(name: str, texts: list[str], truths: list[str], bench: Bench) -> list[Score]:
    """Copied shares of what was written and of the truth; nothing where the training text is not known."""
    if bench.documents is None:
        return []
    covered, _ = coverage([*texts, *truths], bench.training(), span=SPAN)
    counts = [int(mask.sum()) for mask in covered]
    protocol = f"characters inside spans of {SPAN} or more that stand verbatim in the training text"
    parts = (("copied", texts, counts[: len(texts)]), ("copied-truth", truths, counts[len(texts) :]))
    return [
        ratio(
            f"{name}/{what}",
            copied,
            list(map(len, part)),
            "share",
            protocol,
            reference=what != "copied",
            seed=bench.seed,
        )
        for what, part, copied in parts
        if any(part)
    ]
