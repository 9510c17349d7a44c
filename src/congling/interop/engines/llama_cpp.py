"""The real llama.cpp as an engine: tokens, logits and greedy text of a GGUF file, with adapters or without.

Keys and values, tokens and adapters are the program's own; ``llama_cpp_library`` declares its functions.
"""

# T tokens, V vocabulary

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from congling.core.errors import UserError
from congling.interop.engines import llama_cpp_library as binding
from congling.quant import library

_MOST_TOKENS = 2**24  # the program's own sign of failure is the smallest number there is


class LlamaCpp:
    """A GGUF file opened by llama.cpp; free its memory with ``close`` or by using it in ``with``.

    By default llama.cpp computes attention in 16 bits: that alone moves logits by 0.4 % of their spread, as
    much as an error in a small tensor would. ``exact`` makes it use 32 bits, and 1e-5 is left.
    """

    def __init__(
        self,
        path: Path | str,
        context: int = 512,
        adapters: Sequence[tuple[Path | str, float]] = (),
        threads: int = 1,
        *,
        exact: bool = True,
    ) -> None:
        """Load a model.

        Args:
            path: the GGUF file.
            context: longest sequence, in tokens.
            adapters: LoRA files in GGUF and their strengths.
            threads: cores to use.
            exact: compute attention in 32 bits, without the fused kernel, which always rounds to 16.

        Raises:
            UserError: llama.cpp is not installed, or refuses a file (its last words are quoted).
        """
        self._model = self._context = None
        self._adapters: list[int] = []
        self._library = binding.load()
        self.path, self.context = Path(path), context
        if not self.path.is_file():
            raise UserError("no such file", value=str(path))
        binding.said.clear()
        defaults = self._library.llama_model_default_params()
        self._model = self._library.llama_model_load_from_file(os.fsencode(path), defaults)
        if not self._model:
            raise UserError("llama.cpp refuses the model", where=path, value=binding.last_words())
        try:
            self._open(threads, exact=exact)
            self.set_adapters(adapters)
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """Program and version."""
        return f"llama.cpp (xllamacpp {library.version()})"

    @property
    def cache_bytes(self) -> int:
        """Size of the stored keys and values of the text read last."""
        return int(self._library.llama_state_seq_get_size(self._context, 0))

    def _open(self, threads: int, *, exact: bool) -> None:
        parameters = self._library.llama_context_default_params()
        if exact:
            binding.in_32_bits(parameters)
        sizes = ctypes.cast(ctypes.byref(parameters), ctypes.POINTER(binding.INT))
        sizes[0] = sizes[1] = sizes[2] = self.context  # context, and both batch sizes: whole texts at once
        self._context = self._library.llama_init_from_model(self._model, parameters)
        if not self._context:
            raise UserError("llama.cpp cannot run the model", where=self.path, value=binding.last_words())
        self._library.llama_set_n_threads(self._context, threads, threads)
        self._vocabulary = self._library.llama_model_get_vocab(self._model)
        self.vocab_size = int(self._library.llama_vocab_n_tokens(self._vocabulary))

    def tokenize(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
        """Ids of a text; ``bos`` adds what the file begins texts with, ``special`` sees special tokens in it.

        Raises:
            UserError: llama.cpp cannot tokenise it.
        """
        raw = text.encode()
        needed = len(raw) + 16
        for _ in range(2):  # a normaliser can make 18 characters of one: minus the count, then
            room = (binding.INT * needed)()
            count = self._library.llama_tokenize(
                self._vocabulary, raw, len(raw), ctypes.cast(room, binding.POINTER), len(room), bos, special
            )
            if count >= 0:
                return list(room[:count])
            needed = min(-count, _MOST_TOKENS)
        raise UserError("llama.cpp cannot tokenise this text", value=text)

    def ends(self, index: int) -> bool:
        """Whether the program stops writing at this token."""
        return bool(self._library.llama_vocab_is_eog(self._vocabulary, index))

    def piece(self, index: int) -> bytes:
        """Bytes of one token, a special one giving its text."""
        room = ctypes.create_string_buffer(4096)
        count = self._library.llama_token_to_piece(self._vocabulary, index, room, len(room), 0, True)
        return room.raw[: max(0, count)]

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Scores of the next token at each place of one text: (T, V) float32.

        Raises:
            UserError: the text is empty or longer than the context, an id is unknown, or llama.cpp fails.
        """
        self._forget()
        self._decode(ids, 0)
        return np.stack([self._row(place) for place in range(len(ids))])

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """The ``count`` likeliest next tokens, one after another.

        Raises:
            UserError: as ``logits``; the context must hold ``ids`` and what follows.
        """
        if len(ids) + count > self.context:
            raise UserError("the context is too short", where=self.path, value=self.context)
        self._forget()
        self._decode(ids, 0)
        found = [int(self._row(len(ids) - 1).argmax())]
        while len(found) < count:
            self._decode(found[-1:], len(ids) + len(found) - 1)
            found.append(int(self._row(0).argmax()))
        return found[:count]

    def set_adapters(self, adapters: Sequence[tuple[Path | str, float]]) -> None:
        """Put on adapters with strengths, instead of those there were; none takes them off.

        Raises:
            UserError: llama.cpp refuses a file, for instance one made for another base.
        """
        binding.said.clear()
        fresh: list[int] = []
        for path, _ in adapters:
            adapter = self._library.llama_adapter_lora_init(self._model, os.fsencode(path))
            if not adapter:
                for done in fresh:
                    self._library.llama_adapter_lora_free(done)
                raise UserError("llama.cpp refuses the adapter", where=path, value=binding.last_words())
            fresh.append(adapter)
        strengths = (ctypes.c_float * len(fresh))(*(strength for _, strength in adapters))
        self._library.llama_set_adapters_lora(
            self._context, (binding.POINTER * len(fresh))(*fresh), len(fresh), strengths
        )
        for old in self._adapters:
            self._library.llama_adapter_lora_free(old)
        self._adapters = fresh

    def close(self) -> None:
        """Free the memory; nothing else may be called afterwards."""
        if self._context:
            self._library.llama_free(self._context)
        if self._model:
            self._library.llama_model_free(self._model)  # and with it the adapters
        self._context = self._model = None
        self._adapters = []

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _forget(self) -> None:
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)

    def _decode(self, ids: Sequence[int], start: int) -> None:
        if not 0 < len(ids) <= self.context - start:
            raise UserError(
                "a text must have between 1 and so many tokens", where=self.path, value=self.context
            )
        batch = self._library.llama_batch_init(len(ids), 0, 1)
        try:
            batch.count = len(ids)
            for place, index in enumerate(ids):
                batch.token[place], batch.position[place] = index, start + place
                batch.sequences[place], batch.sequence[place][0], batch.wanted[place] = 1, 0, 1
            code = self._library.llama_decode(self._context, batch)
        finally:
            self._library.llama_batch_free(batch)
        if code:
            raise UserError(f"llama.cpp failed with code {code}", where=self.path, value=binding.last_words())

    def _row(self, place: int) -> np.ndarray:
        pointer = self._library.llama_get_logits_ith(self._context, place)
        return np.ctypeslib.as_array(pointer, (self.vocab_size,)).copy()
