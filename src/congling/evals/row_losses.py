"""What a model thinks of the given answers of rows: nats of each last answer, without its end.

A model tuned for chat sees the question through its template, any other as plain text that the answer goes
on with, as in ``congling chat``. Whoever divides by characters takes those of the answer in the row: they are
the same for every tokenizer and template. The end of a turn is not scored: a model that only continues would
go on, rightly, and pay for it.
"""

import itertools
from collections.abc import Sequence

from congling.core.errors import UserError
from congling.data.chats import read_items
from congling.data.config import DataConfig
from congling.data.findings import Findings
from congling.data.sources.chat_rows import Talk
from congling.evals.likelihood import Row, score_rows
from congling.infer.checkpoints import Loaded
from congling.tokenizer.chat import Message, chat_ids, render


def read_rows(files: Sequence[str], limit: int) -> list[Talk]:
    """The first ``limit`` conversations of files of rows, cleaned as for training, each once.

    Raises:
        UserError: a file cannot be read, or holds no questions with answers.
    """
    found = read_items(DataConfig(sources=tuple(files)), Findings())
    talks = list(itertools.islice((item for item in found if isinstance(item, Talk)), limit))
    if not talks:
        raise UserError("there are no questions with answers in these rows", value=" ".join(files),
                        hint="each row needs a prompt and a response, or messages")  # fmt: skip
    return talks


def row_losses(loaded: Loaded, talks: Sequence[Talk]) -> list[float | None]:
    """Nats of each last answer; None where a row does not fit into the model's context.

    Raises:
        UserError: the chat template is broken.
    """
    rows, most = [_row(loaded, talk) for talk in talks], loaded.model.config.context + 1
    fitting = [row for row in rows if len(row.ids) <= most]
    scored = iter(score_rows(loaded.model, fitting, label="answers"))
    return [next(scored).total if len(row.ids) <= most else None for row in rows]


def asked(loaded: Loaded, messages: Sequence[Message]) -> list[int]:
    """Ids of a conversation up to where the answer begins, as this model knows conversations.

    Raises:
        UserError: the chat template is broken.
    """
    if loaded.tuned_for_chat:
        return chat_ids(loaded.tokenizer, messages)
    tokenizer = loaded.tokenizer
    said = "".join(message["content"] + ("" if message["role"] == "user" else "\n") for message in messages)
    return [*(tokenizer.prefix_ids or (tokenizer.bos_id,)), *tokenizer.encode(said)]


def _row(loaded: Loaded, talk: Talk) -> Row:
    """The conversation as ids, its last answer to be scored."""
    before = asked(loaded, talk.messages[:-1])
    if loaded.tuned_for_chat:  # the template may put something before the answer that is not the answer's
        rendered = render(loaded.tokenizer, talk.messages)
        start = next(i for i in range(len(before), len(rendered.ids)) if rendered.answered[i])
        return Row(rendered.ids[:-1], start)
    return Row([*before, *loaded.tokenizer.encode_rest(talk.messages[-1]["content"])], len(before))
