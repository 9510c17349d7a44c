"""Conversations as calibration text: through the model's own chat template, packed into rows as in training.

::

    rows of questions and answers ─ as sft reads them ─ examples ─ drawn, packed ─ (B, T) without padding
"""

# B rows, T time

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from congling.core.config import build, read_toml
from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.problems import ReadingLog
from congling.data.tuning import conversations
from congling.data.tuning.conversations import ConversationEncoder, read_items
from congling.data.tuning.examples import Example, packed
from congling.data.tuning.row_kinds import Sort, sorts_of
from congling.evals.bench import draw
from congling.plan.planning import PLAN_FILE
from congling.plan.quantisation import AT_ONCE
from congling.quant.walk import Rows
from congling.report.record_files import json_of
from congling.tokenizer.base import Tokenizer

_MOST = 4096
"""Conversations of files that are drawn from."""


def conversation_examples(
    files: Sequence[str], tokenizer: Tokenizer, context: int, *, seed: int = 0
) -> tuple[list[Example], ReadingLog] | None:
    """Conversations of files with exactly the ids that ``sft`` would train on, and what was left out; None
    where the files hold no rows of questions and answers.

    Raises:
        UserError: a file cannot be read, or the template renders none of its rows.
    """
    config, findings = DataConfig(sources=tuple(files)), ReadingLog()
    if next(iter(sorts_of(config)), None) is not Sort.CONVERSATIONS:
        return None
    encode = ConversationEncoder(tokenizer, context, findings)
    found = [one for item in draw(read_items(config, findings), _MOST, seed) for one in encode(item)]
    if not found:
        first = next(iter(findings.examples), None)
        what = "no conversation of these rows can be read through the model's chat template"
        raise UserError(what, value=" ".join(files), hint=None if first is None else first.reason)
    return found, findings


def trained_rows(checkpoint: Path, tokenizer: Tokenizer, context: int) -> tuple[list[Example], str] | None:
    """What the ``sft`` run that a checkpoint lies in was trained on, without what it held out, and its files;
    None where it lies in no such run, or the files are gone.

    Raises:
        UserError: a file cannot be read.
    """
    run = checkpoint.parent.parent
    if json_of(run / PLAN_FILE, []).get("method") != "sft":
        return None
    config = build(DataConfig, read_toml(run / "config.toml").get("data", {}), where=run, recorded=True)
    if not all(Path(source).exists() for source in config.sources):
        return None
    return list(conversations.read(config, tokenizer, context).train), " ".join(config.sources)


def packed_rows(examples: Sequence[Example], context: int, tokens: int, seed: int) -> list[Rows]:
    """Some of the examples, about so many tokens, several to a row with positions and sight of their own."""
    places = packed([example.length for example in examples], context)
    by_length, count = dict[int, list[list[Example]]](), 0
    for place in np.random.default_rng(seed).permutation(len(places)).tolist():
        row = [examples[i] for i in places[place]]
        length = sum(example.length for example in row)
        by_length.setdefault(length, []).append(row)
        count += length
        if count >= tokens:
            break
    return [
        _stacked(rows[start : start + many])
        for length, rows in sorted(by_length.items(), reverse=True)
        for many in (max(1, AT_ONCE // length),)
        for start in range(0, len(rows), many)
    ]


def _stacked(rows: Sequence[Sequence[Example]]) -> Rows:
    ids = [np.concatenate([example.input_ids[:-1] for example in row]) for row in rows]
    positions = [np.concatenate([np.arange(example.length) for example in row]) for row in rows]
    documents = [np.repeat(np.arange(len(row)), [example.length for example in row]) for row in rows]
    found = (torch.from_numpy(np.stack(part).astype(np.int64)) for part in (ids, positions, documents))
    return next(found), next(found), next(found)
