"""What a model has memorised: beginnings of training documents that it continues word for word.

A document's first 32 tokens are given; it is memorised where greedy decoding writes the next 32 exactly
(Carlini et al. 2023). Greedy decoding does so exactly when each of them is the likeliest behind the true
ones, so one reading of the true text answers it. Held-out documents are the control: set phrases are
continued word for word without having been seen.
"""

from collections.abc import Sequence

from congling.evals.bench import Bench
from congling.evals.likelihood import score_rows
from congling.evals.scores import Score, mean, share
from congling.evals.windows import Row

GIVEN = 32
"""Tokens of a document that are given."""
VERBATIM = 32
"""Tokens that must follow exactly."""


def run(bench: Bench) -> list[Score]:
    """``memorisation/training/…`` and, as reference, ``memorisation/held-out/…``.

    Raises:
        UserError: there is no held-out text, or the training documents are not known.
    """
    held_out = [document.text for document in bench.held_out()]
    found = _measured("training", bench.trained(), bench)
    return found + _measured("held-out", held_out, bench, reference=True)


def _measured(name: str, texts: Sequence[str], bench: Bench, *, reference: bool = False) -> list[Score]:
    tokenizer, context = bench.loaded.tokenizer, bench.loaded.model.config.max_position_embeddings
    given = min(GIVEN, (context + 1) // 2 - 1)  # a small context takes half of each
    verbatim = min(VERBATIM, context - given)
    prefix = list(tokenizer.prefix_ids or (tokenizer.bos_id,))
    rows = []
    for text in texts:
        ids = [*prefix, *tokenizer.encode(text)]
        if len(ids) < len(prefix) + given + verbatim:
            bench.problem("document too short", f"{name} documents", f"under {given + verbatim} tokens")
            continue
        ids = ids[: min(context + 1, len(prefix) + given + verbatim)]
        rows.append(Row(ids, len(prefix) + given))
    if not rows:
        return []
    barred = tokenizer.undrawable(bench.loaded.model.config.vocab_size)
    scored = score_rows(bench.loaded.model, rows, label=f"{name} documents", undrawable=barred)
    runs = [_run([bool(hit) for hit in one.top]) for one in scored]
    lengths = [len(row.ids) - row.start for row in rows]
    protocol = f"the first {given} tokens of {name} documents given, greedy"
    return [
        share(
            f"memorisation/{name}/verbatim",
            [run >= length for run, length in zip(runs, lengths, strict=True)],
            f"{protocol}; the next {verbatim} are exactly the document's",
            reference=reference,
        ),
        mean(
            f"memorisation/{name}/run",
            runs,
            "tokens",
            f"{protocol}; tokens until the first that differs, at most {verbatim}",
            reference=reference,
            seed=bench.seed,
        ),
    ]


def _run(top: Sequence[bool]) -> int:
    """How many of the first are true."""
    return next((place for place, hit in enumerate(top) if not hit), len(top))
