"""A dialogue with a model: its history, and answers that stream.

They follow the tokenizer's chat template, or for a model that only continues, plain text.
"""

from collections.abc import Iterator

from congling.core.errors import UserError
from congling.core.seeds import mixed
from congling.core.units import plural
from congling.infer.checkpoints import Loaded
from congling.infer.generate import stream
from congling.infer.prompts import conversation_ids
from congling.infer.sampler import SamplingConfig
from congling.infer.window import Overflow
from congling.tokenizer.chat.encode import Message, own_words


class Conversation:
    """A dialogue with a model: keeps the history and streams answers.

    A model tuned for chat sees the messages through its template; any other continues the plain text of
    everything said so far, one line a turn. Where that is longer than the context, the oldest exchanges are
    left out (the system message stays), and ``notices`` says so.
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
        self._system: list[Message] = []
        self.messages: list[Message] = []
        self.notices: list[str] = []
        """What the model could not read for the last answer, in sentences; and once, that it is asked to read
        more than it was trained on."""
        self._tries, self._told = 0, False
        self.system = system

    @property
    def system(self) -> str | None:
        """What the model is told before everything else; it can be changed while one talks."""
        return self._system[0]["content"] if self._system else None

    @system.setter
    def system(self, text: str | None) -> None:
        said = self.messages[len(self._system) :]
        self._system = [{"role": "system", "content": text}] if text else []
        self.messages = [*self._system, *said]

    def reset(self) -> None:
        """Forget what was said, except the system message."""
        self.messages = list(self._system)

    def answer(self, text: str) -> Iterator[str]:
        """Say ``text`` and yield the model's answer piece by piece.

        The history keeps what was said, also of an answer that is broken off.

        Raises:
            UserError: the chat template is broken.
        """
        self._tries = 0
        self.messages.append({"role": "user", "content": text})
        yield from self._answer()

    def retry(self) -> Iterator[str]:
        """Answer the last question anew, in place of the answer it had: each time with other random numbers.

        Raises:
            UserError: nothing was asked yet, or the chat template is broken.
        """
        asked = [i for i, message in enumerate(self.messages) if message["role"] == "user"]
        if not asked:
            raise UserError("there is no question to answer anew")
        del self.messages[asked[-1] + 1 :]
        self._tries += 1
        return self._answer()

    def _answer(self) -> Iterator[str]:
        pieces: list[str] = []
        self.notices.clear()
        # Another seed each turn, or a model asked twice would answer in the same words.
        seed = mixed(self.sampling.seed, len(self.messages), self._tries)
        sampling = self.sampling.replace(seed=seed)
        try:
            for piece in self._stream(sampling):
                pieces.append(piece)
                yield piece
        finally:
            said = "".join(pieces)
            if self.loaded.tuned_for_chat:
                said = own_words(self.loaded.tokenizer, said)
            self.messages.append({"role": "assistant", "content": said})

    def _stream(self, sampling: SamplingConfig) -> Iterator[str]:
        stop = () if self.loaded.tuned_for_chat else ("\n\n",)
        left_out, prompt = self._fitting(self.loaded.model.config.max_position_embeddings - 1)

        def refit(written: list[int]) -> list[int] | None:
            """Leave out more of the oldest when the answer fills the context, so that a quarter is free."""
            context = self.loaded.model.config.max_position_embeddings
            more, ids = self._fitting(context * 3 // 4 - len(written), left_out)
            if more == left_out or len(ids) + len(written) >= context:
                return None
            self._say_left_out(more)
            return [*ids, *written]

        self._say_left_out(left_out)
        return stream(
            self.loaded.model,
            self.loaded.tokenizer,
            prompt,
            max_new_tokens=self.max_new_tokens,
            sampling=sampling,
            stop=stop,
            on_overflow=self._say,
            refit=refit,
            trained_length=None if self._told else self.loaded.trained_length,
        )

    def _say(self, found: Overflow) -> None:
        self._told = self._told or found.kind == "beyond"
        self.notices.append(found.told())

    def _fitting(self, room: int, least: int = 0) -> tuple[int, list[int]]:
        """Ids of the conversation without its oldest exchanges, of which ``least`` or more are left out until
        the rest takes no more than ``room`` tokens, or one question is left; and how many are."""
        after = len(self._system)
        starts = [i for i in range(after, len(self.messages)) if self.messages[i]["role"] == "user"]
        count, last = least, len(starts) - 1
        while True:
            ids = conversation_ids(self.loaded, [*self._system, *self.messages[starts[count] :]])
            if len(ids) <= room or count >= last:
                return count, ids
            count += 1

    def _say_left_out(self, count: int) -> None:
        if count:
            what = f"the model's context of {self.loaded.model.config.max_position_embeddings} tokens is full"
            exchanges = f"{count} {plural(count, 'exchange')}"
            self.notices.append(f"{what}: the oldest {exchanges} of this conversation are not read")
