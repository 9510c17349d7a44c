"""The text that a model reads while it is put in fewer bits, and what can be said of it beforehand.

By default what the run was trained on, in the same form: rows of the training part of the shards beside it,
or the conversations of an ``sft`` run through its chat template. Texts, conversations or other shards where
they are named. What is held out is never read.
"""

# B rows, T time

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from congling.core import artifact
from congling.core.artifact import Artifact
from congling.core.errors import UserError
from congling.data import script
from congling.data.batches import CorpusBatches
from congling.data.counts import codes
from congling.data.packing import restarts
from congling.data.shards import Shards, open_shards
from congling.data.statistics import SYMBOLS
from congling.data.tuning.examples import Example
from congling.evals.bench import Bench, draw
from congling.evals.likelihood import text_ids
from congling.evals.score_tables import problem_lines
from congling.infer.checkpoints import Loaded
from congling.methods.calibration_rows import conversation_examples, packed_rows, trained_rows
from congling.methods.evaluation import beside
from congling.plan.quantisation import AT_ONCE, TOKENS
from congling.quant.walk import Rows

_TEXTS = 4096
"""Texts of files that are drawn from."""
_SAMPLE = 200_000
"""Tokens by which the script of the training text is guessed."""


@dataclass(frozen=True)
class Calibration:
    """Rows to read, and what they are."""

    rows: tuple[Rows, ...]
    source: str
    tokens: int
    longest: int
    """Tokens of the longest row."""
    fingerprint: str
    """Hash of the ids: equal text, equal statistics."""
    script: dict[str, Any]
    """A guess of the script, and the shares of characters it rests on."""
    conversations: int = 0
    """Read through the model's chat template; 0 of plain text."""
    shards: Artifact | None = None
    notes: tuple[str, ...] = ()
    """What may be wrong with it."""

    def facts(self) -> dict[str, Any]:
        """What a quantised checkpoint keeps of it."""
        return {
            "text": self.source,
            "tokens": self.tokens,
            "longest row": self.longest,
            "fingerprint": self.fingerprint,
            "script": self.script["guess"],
            "template": f"its own, {self.conversations:,} conversations" if self.conversations else "none",
            "shares": {name: share for name, share in self.script.items() if name != "guess"},
        }


def calibration(
    loaded: Loaded, data: Sequence[str] = (), *, tokens: int = TOKENS, seed: int = 0
) -> Calibration:
    """Rows of about so many tokens.

    Args:
        loaded: the model, whose tokenizer and context count.
        data: files of texts or of conversations, or one directory of shards; by default what the run was
            trained on.
        tokens: how many are read.
        seed: which rows are drawn.

    Raises:
        UserError: there is no text, it cannot be read, or was made with another tokenizer.
    """
    own = beside(loaded.checkpoint.path, "shards")
    shards = Path(data[0]) if len(data) == 1 and artifact.exists(data[0]) else None
    rows, notes, source, found, talks = list[Rows](), tuple[str, ...](), " ".join(data), None, 0
    chosen = _conversations(loaded, data, seed) if shards is None else None
    if not data and chosen is None:
        shards = own
    if shards is not None:
        opened = open_shards(shards, tokenizer=loaded.tokenizer, verify=True)
        rows = _of_shards(loaded, opened, tokens, seed)
        source, found = f"{shards}, train", opened.artifact
    elif chosen is not None:
        examples, source, notes = chosen
        rows = packed_rows(examples, loaded.reading.context, tokens, seed)
        talks = sum(int(row[2].amax(1).add(1).sum()) for row in rows if row[2] is not None)
    elif not data:
        hint = "name it with --data: texts, conversations, or shards in the model's tokens"
        raise UserError("this method looks at what the model reads, and no text is beside the run", hint=hint)
    else:
        rows, notes = _of_texts(loaded, data, tokens, seed)
    ids = [row[0].numpy() for row in rows]
    count, longest = sum(one.size for one in ids), max(one.shape[1] for one in ids)
    told = _script(loaded, np.concatenate([one.ravel() for one in ids]))
    known = own if data and shards != own else None
    notes = (*notes, *_doubts(loaded, told, longest, count, tokens, known, in_template=bool(talks)))
    mark = sha256(b"".join(np.ascontiguousarray(one, np.int64).tobytes() for one in ids)).hexdigest()
    return Calibration(tuple(rows), source, count, longest, mark, told, talks, found, notes)


def _conversations(
    loaded: Loaded, data: Sequence[str], seed: int
) -> tuple[list[Example], str, tuple[str, ...]] | None:
    """Conversations of the files named, or those the run was tuned on; and what is to be said of them."""
    context = loaded.reading.context
    if not data:
        own = trained_rows(loaded.checkpoint.path, loaded.tokenizer, context)
        return None if own is None else (*own, ())
    found = conversation_examples(data, loaded.tokenizer, context, seed=seed)
    return None if found is None else (found[0], " ".join(data), tuple(problem_lines(found[1])))


def _of_shards(loaded: Loaded, shards: Shards, tokens: int, seed: int) -> list[Rows]:
    reading = loaded.reading
    split = shards["train"]
    context = max(1, min(reading.context, len(split.tokens) - 1))
    batches = CorpusBatches(
        split,
        context=context,
        rows=max(1, AT_ONCE // context),
        seed=seed,
        document_mask=reading.document_mask,
    )
    wanted = max(1, min(batches.windows, tokens // context))
    rows: list[Rows] = []
    while wanted > 0:
        batch = batches(len(rows))[0]
        keep = slice(0, wanted)
        rows.append(
            (torch.from_numpy(batch.tokens[keep]), _kept(batch.positions, keep), _kept(batch.documents, keep))
        )
        wanted -= len(batch.tokens)
    return rows


def _kept(array: np.ndarray | None, keep: slice) -> torch.Tensor | None:
    return None if array is None else torch.from_numpy(array[keep])


def _of_texts(
    loaded: Loaded, data: Sequence[str], tokens: int, seed: int
) -> tuple[list[Rows], tuple[str, ...]]:
    """Texts one behind the other, cut into rows; the last, shorter one is read if there is no other."""
    bench = Bench(loaded, files=tuple(data), limit=_TEXTS, seed=seed)
    ids, begins = list[int](), list[int]()
    for document in draw(bench.unseen(), bench.limit, seed):
        found = text_ids(loaded.tokenizer, document.text)[: tokens - len(ids)]
        begins += [len(ids)] * len(found)
        ids += found
        if len(ids) >= tokens:
            break
    if not ids:
        raise UserError("there is no text in it to calibrate on", value=" ".join(data))
    reading = loaded.reading
    context = min(reading.context, len(ids))
    many = max(1, AT_ONCE // context)
    rows: list[Rows] = []
    whole = len(ids) // context * context
    text = torch.tensor(ids[:whole]).view(-1, context)
    starts = np.array(begins[:whole]).reshape(-1, context)
    positions, documents = restarts(starts) if reading.document_mask else (None, None)
    for start in range(0, len(text), many):
        part = slice(start, start + many)
        rows.append((text[part], _kept(positions, part), _kept(documents, part)))
    return rows, tuple(problem_lines(bench.findings))


def _script(loaded: Loaded, ids: np.ndarray) -> dict[str, Any]:
    text = loaded.tokenizer.decode(ids.tolist(), skip_special=True)  # marks are Latin letters
    return dict(script.describe(np.bincount(codes(text), minlength=SYMBOLS)))


def _doubts(
    loaded: Loaded,
    told: dict[str, Any],
    longest: int,
    count: int,
    wanted: int,
    trained_on: Path | None,
    *,
    in_template: bool,
) -> list[str]:
    """What may be wrong with a calibration text."""
    notes = []
    context = loaded.reading.context
    if loaded.tuned_for_chat and not in_template:
        what = (
            "the calibration text has no chat template, and the model was tuned on conversations in its own"
        )
        notes.append(f"{what}: name rows of them, --data FILE.jsonl")
    if in_template and not loaded.tuned_for_chat:
        notes.append("the model was not tuned on conversations: their chat template is new to it")
    if longest < context and not in_template:  # conversations are as long as they are
        notes.append(
            f"the calibration text is shorter than the {context:,} tokens of a row in training: "
            f"{longest:,}; later positions were not looked at"
        )
    if count < wanted // 2:
        notes.append(f"the calibration text has {count:,} tokens, where {wanted:,} were asked for")
    if trained_on is not None:
        try:
            split = open_shards(trained_on, tokenizer=loaded.tokenizer)["train"]
        except UserError as error:
            return [*notes, f"not compared with the shards beside the run: {error.what} ({trained_on})"]
        known = _script(loaded, np.asarray(split.tokens[:_SAMPLE]))["guess"]
        if known != told["guess"]:
            what = f"the calibration text is {told['guess']}, the training text was {known}"
            notes.append(f"{what}: what matters to the one may not matter to the other")
    return notes
