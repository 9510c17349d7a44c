"""What a model thinks of the given answers of rows: nats of each last answer, without its end.

A model tuned for chat sees the question through its template, any other as plain text that the answer goes
on with, as in ``congling chat``. Whoever divides by characters takes those of the answer in the row: they are
the same for every tokenizer and template. The end of a turn is not scored: a model that only continues would
go on, rightly, and pay for it.
"""

# N ids of one row, V vocabulary

import itertools
from collections.abc import Sequence

import torch

from congling.core.errors import UserError
from congling.core.progress import track
from congling.data.config import DataConfig
from congling.data.findings import Findings
from congling.data.sources import chat_rows, reading
from congling.data.sources.chat_rows import Talk
from congling.infer.checkpoints import Loaded
from congling.tokenizer.chat import Message, chat_ids, render


def read_rows(files: Sequence[str], limit: int) -> list[Talk]:
    """The first ``limit`` conversations of files of rows.

    Raises:
        UserError: a file cannot be read, or holds no questions with answers.
    """
    findings = Findings()
    found = reading.read(files, DataConfig(sources=tuple(files)), findings, chat_rows.take)
    talks = list(itertools.islice((item for item in found if isinstance(item, Talk)), limit))
    if not talks:
        raise UserError("there are no questions with answers in these rows", value=" ".join(files),
                        hint="each row needs a prompt and a response, or messages")  # fmt: skip
    return talks


@torch.inference_mode()
def row_losses(loaded: Loaded, talks: Sequence[Talk]) -> list[float | None]:
    """Nats of each last answer; None where a row does not fit into the model's context.

    Raises:
        UserError: the chat template is broken.
    """
    model, device = loaded.model, next(loaded.model.parameters()).device
    model.eval()
    found: list[float | None] = []
    for talk in track(talks, "answers", total=len(talks)):
        ids, start = _ids(loaded, talk)
        if len(ids) > model.config.context + 1:
            found.append(None)
            continue
        row = torch.tensor([ids], device=device)  # (1, N)
        logits = model.logits(model(row[:, :-1])[0, start - 1 :]).float()  # (answer, V)
        found.append(float(torch.nn.functional.cross_entropy(logits, row[0, start:], reduction="sum")))
    return found


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


def _ids(loaded: Loaded, talk: Talk) -> tuple[list[int], int]:
    """The conversation as N ids, and where its last answer begins."""
    before = asked(loaded, talk.messages[:-1])
    if loaded.tuned_for_chat:  # the template may put something before the answer that is not the answer's
        rendered = render(loaded.tokenizer, talk.messages)
        start = next(i for i in range(len(before), len(rendered.ids)) if rendered.answered[i])
        return rendered.ids[:-1], start
    return [*before, *loaded.tokenizer.encode_rest(talk.messages[-1]["content"])], len(before)
