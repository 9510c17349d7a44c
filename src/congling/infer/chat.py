"""A dialogue with a model: its history, and answers that stream.

They follow the tokenizer's chat template, or for a model that only continues, plain text.
"""

from collections.abc import Iterator

from congling.infer.checkpoints import Loaded
from congling.infer.generate import stream
from congling.infer.sampler import SamplingConfig
from congling.tokenizer.chat import Message, chat_ids


class Conversation:
    """A dialogue with a model: keeps the history and streams answers.

    A model tuned for chat sees the messages through its template; any other continues the plain text of
    everything said so far, one line a turn.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        sampling: SamplingConfig,
        max_new_tokens: int = 200,
        system: str | None = None,
    ) -> None:
        self.loaded, self.sampling, self.max_new_tokens = loaded, sampling, max_new_tokens
        self._system = [{"role": "system", "content": system}] if system else []
        self.messages: list[Message] = list(self._system)

    def reset(self) -> None:
        """Forget what was said, except the system message."""
        self.messages = list(self._system)

    def answer(self, text: str) -> Iterator[str]:
        """Say ``text`` and yield the model's answer piece by piece; a broken-off answer stays in the history.

        Raises:
            UserError: the chat template is broken.
        """
        self.messages.append({"role": "user", "content": text})
        pieces: list[str] = []
        # Another seed each turn, or a model asked twice would answer in the same words.
        sampling = self.sampling.replace(seed=self.sampling.seed + len(self.messages))
        try:
            for piece in self._stream(sampling):
                pieces.append(piece)
                yield piece
        finally:
            self.messages.append({"role": "assistant", "content": "".join(pieces)})

    def _stream(self, sampling: SamplingConfig) -> Iterator[str]:
        model, tokenizer = self.loaded.model, self.loaded.tokenizer
        if self.loaded.tuned_for_chat:
            prompt, stop = chat_ids(tokenizer, self.messages), ()
        else:
            prompt, stop = [*tokenizer.prefix_ids, *tokenizer.encode(self._plain())], ("\n\n",)
        return stream(
            model, tokenizer, prompt, max_new_tokens=self.max_new_tokens, sampling=sampling, stop=stop
        )

    def _plain(self) -> str:
        """Everything said so far as one text: an answer goes on in the line of what it answers."""
        ends = {"user": "", "assistant": "\n", "system": "\n"}
        return "".join(message["content"] + ends[message["role"]] for message in self.messages)
