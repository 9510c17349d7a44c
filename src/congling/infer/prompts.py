"""What a model reads before it writes: a text's beginning, or a conversation as this model knows them."""

from collections.abc import Sequence

from congling.infer.checkpoints import Loaded
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.encode import Message, chat_ids


def prompt_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of the beginning of a text; one at least."""
    return [*tokenizer.prefix_ids, *tokenizer.encode(text)] or [tokenizer.bos_id]


def conversation_ids(loaded: Loaded, messages: Sequence[Message]) -> list[int]:
    """Ids of a conversation up to where the next answer begins.

    A model tuned for chat sees it through its template; any other as one plain text, in which an answer goes
    on in the line of what it answers.

    Raises:
        UserError: the chat template is broken.
    """
    if loaded.tuned_for_chat:
        return chat_ids(loaded.tokenizer, messages)
    said = (message["content"] + ("" if message["role"] == "user" else "\n") for message in messages)
    return prompt_ids(loaded.tokenizer, "".join(said))
