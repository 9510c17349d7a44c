"""Log-likelihood of the answers of rows: nats of each last answer, thoughts and text.

A model tuned for chat sees the question through its template, any other as plain text that the answer goes
on with, as in ``congling chat``. Whoever divides by characters takes those that the row has
(:func:`characters`): they are the same for every tokenizer and template, and they are what is scored. What a
template writes into an answer by itself (``<think>``) is not scored, nor is the end of a turn: a model that
only continues would go on, rightly, and pay for it.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.problems import ReadingLog
from congling.data.tuning.chat_rows import Conversation
from congling.data.tuning.conversations import read_items
from congling.evals.likelihood import score_rows
from congling.evals.windows import Row
from congling.infer.checkpoints import Loaded
from congling.infer.prompts import conversation_ids
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.encode import REASONING, answer_texts, render
from congling.tokenizer.chat.rendering import owned
from congling.tokenizer.chat.traced import plain


def read_rows(files: Sequence[str], limit: int) -> list[Conversation]:
    """The first ``limit`` conversations of files of rows, cleaned as for training, each once.

    Raises:
        UserError: a file cannot be read, or holds no questions with answers.
    """
    found = read_items(DataConfig(sources=tuple(files)), ReadingLog())
    talks = list(itertools.islice((item for item in found if isinstance(item, Conversation)), limit))
    if not talks:
        raise UserError(
            "there are no questions with answers in these rows",
            value=" ".join(files),
            hint="each row needs a prompt and a response, or messages",
        )
    return talks


def row_losses(loaded: Loaded, talks: Sequence[Conversation]) -> list[float | None]:
    """Nats of each last answer with its thoughts; None where a row does not fit into the model's context.

    Raises:
        UserError: the chat template is broken.
    """
    rows, most = [_row(loaded, talk) for talk in talks], loaded.model.config.max_position_embeddings + 1
    fitting = [(row, own) for row, own in rows if len(row.ids) <= most]
    scored = score_rows(loaded.model, [row for row, _ in fitting], label="answers")
    totals = iter(
        float(one.nats[own].sum(dtype=np.float64)) for one, (_, own) in zip(scored, fitting, strict=True)
    )
    return [next(totals) if len(row.ids) <= most else None for row, _ in rows]


def characters(talk: Conversation) -> int:
    """Characters of the last answer and its thoughts: what :func:`row_losses` scores."""
    return len(talk.messages[-1]["content"]) + len(_thoughts(talk))


def _thoughts(talk: Conversation) -> str:
    return talk.messages[-1].get(REASONING) or ""


def _row(loaded: Loaded, talk: Conversation) -> tuple[Row, np.ndarray]:
    """The conversation as ids, its last answer to be scored; and (N,) bool, which ids of that count."""
    before, tokenizer = conversation_ids(loaded, talk.messages[:-1]), loaded.tokenizer
    if loaded.tuned_for_chat:
        messages = [*talk.messages[:-1], {**talk.messages[-1], "loss": True}]  # scored, whatever is learnt
        rendered = render(tokenizer, messages)
        start = next(i for i in range(len(before), len(rendered.input_ids)) if rendered.answer_mask[i])
        ids = rendered.input_ids[:-1]
        said = answer_texts(tokenizer, messages)[len(messages) - 1]
        return Row(ids, start), _own(tokenizer, ids[start:], said, len(talk.messages) - 1)
    texts = [text for text in (_thoughts(talk), talk.messages[-1]["content"]) if text]
    ids = tokenizer.encode_rest("\n".join(texts))
    return Row([*before, *ids], len(before)), np.ones(len(ids), bool)


def _own(tokenizer: Tokenizer, ids: Sequence[int], text: str, place: int) -> np.ndarray:
    """Which ids of an answer hold characters of its message, and not only what the template writes there.

    All do where the ids do not spell the text character by character (a normalised one).
    """
    special = {index: text for text, index in tokenizer.special.items()}
    pieces = [special[i].encode() if i in special else tokenizer.token_bytes(i) for i in ids]
    spelt = b"".join(pieces)
    bytes_ = plain(text).encode()
    lead = 1 if spelt.startswith(b" ") and not bytes_.startswith(b" ") else 0  # written before every text
    if not bytes_.startswith(spelt[lead:]):
        return np.ones(len(ids), bool)
    sizes = [len(character.encode()) for character in plain(text)]
    own = set(owned(text, place))
    mine = np.array([False] * lead + [i in own for i, size in enumerate(sizes) for _ in range(size)])
    ends = np.cumsum([len(piece) for piece in pieces])
    return np.array([mine[end - len(piece) : end].any() for piece, end in zip(pieces, ends, strict=True)])
