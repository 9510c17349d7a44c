"""llama.cpp's C interface: the functions we call, declared, and its log, caught.

Its parameter structures are taken as the library fills them in; nothing in them is known here but their first
integers (sizes of the context), unchanged for years, and what ``in_32_bits`` finds by its default value.
"""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np

from congling.core.errors import UserError
from congling.quant import library

POINTER, INT = ctypes.c_void_p, ctypes.c_int32


class Parameters(ctypes.Structure):
    """Any of the library's parameter structures, larger than all of them."""

    _fields_ = (("bytes", ctypes.c_uint8 * 1024),)


class Batch(ctypes.Structure):
    """``llama_batch``: tokens, their places, their sequences, and which of them want logits."""

    _fields_ = (
        ("count", INT), ("token", ctypes.POINTER(INT)), ("embedding", POINTER),
        ("position", ctypes.POINTER(INT)), ("sequences", ctypes.POINTER(INT)),
        ("sequence", ctypes.POINTER(ctypes.POINTER(INT))), ("wanted", ctypes.POINTER(ctypes.c_int8)),
    )  # fmt: skip


_Log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, POINTER)
_SIGNATURES: dict[str, tuple[object, ...]] = {
    "llama_backend_init": (None,),
    "llama_log_set": (None, _Log, POINTER),
    "llama_model_default_params": (Parameters,),
    "llama_context_default_params": (Parameters,),
    "llama_model_load_from_file": (POINTER, ctypes.c_char_p, Parameters),
    "llama_model_free": (None, POINTER),
    "llama_init_from_model": (POINTER, POINTER, Parameters),
    "llama_free": (None, POINTER),
    "llama_set_n_threads": (None, POINTER, INT, INT),
    "llama_model_get_vocab": (POINTER, POINTER),
    "llama_vocab_n_tokens": (INT, POINTER),
    "llama_vocab_is_eog": (ctypes.c_bool, POINTER, INT),
    "llama_tokenize": (INT, POINTER, ctypes.c_char_p, INT, POINTER, INT, ctypes.c_bool, ctypes.c_bool),
    "llama_token_to_piece": (INT, POINTER, INT, ctypes.c_char_p, INT, INT, ctypes.c_bool),
    "llama_batch_init": (Batch, INT, INT, INT),
    "llama_batch_free": (None, Batch),
    "llama_decode": (INT, POINTER, Batch),
    "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), POINTER, INT),
    "llama_get_memory": (POINTER, POINTER),
    "llama_memory_clear": (None, POINTER, ctypes.c_bool),
    "llama_state_seq_get_size": (ctypes.c_size_t, POINTER, INT),
    "llama_adapter_lora_init": (POINTER, POINTER, ctypes.c_char_p),
    "llama_adapter_lora_free": (None, POINTER),
    "llama_set_adapters_lora": (INT, POINTER, ctypes.POINTER(POINTER), ctypes.c_size_t,
                                ctypes.POINTER(ctypes.c_float)),
}  # fmt: skip


def in_32_bits(parameters: Parameters) -> None:
    """Set an F32 cache and no fused attention, where the defaults show these settings; else leave all as is.

    ``type_k`` and ``type_v`` are the only neighbours that are both 1 (F16); ``flash_attn_type`` is the last
    of four neighbours that are -1 (to be decided). A test holds this against the installed library.
    """
    values = np.ctypeslib.as_array(parameters.bytes).view(np.int32)
    pairs = [at for at in range(4, len(values) - 1) if values[at] == values[at + 1] == 1]
    undecided = [at for at in range(3, len(values)) if (values[at - 3 : at + 1] == -1).all()]
    if len(pairs) == 1 and len(undecided) == 1:
        values[pairs[0] : pairs[0] + 2] = 0
        values[undecided[0]] = 0


said: list[str] = []
"""What the library logged since the last load: it explains refusals only there."""


def last_words() -> str:
    """The library's reason for the refusal that just happened: its first line that speaks of an error."""
    told = [line.strip() for line in "".join(said).splitlines() if "error" in line.lower() or "fail" in line]
    return told[0] if told else "no reason given"


@_Log
def _listen(level: int, text: bytes, data: int | None) -> None:
    said.append(text.decode("utf-8", "replace"))
    del said[:-400]


@cache
def load() -> ctypes.CDLL:
    """The library with its signatures declared and its log caught.

    Raises:
        UserError: it is not installed, or lacks a function.
    """
    found = library.ggml()
    for name, (result, *arguments) in _SIGNATURES.items():
        function = getattr(found, name, None)
        if function is None:
            raise UserError(
                "this build of llama.cpp does not export a function", value=name, hint=library.HINT
            )
        function.restype, function.argtypes = result, arguments
    found.llama_log_set(_listen, None)
    found.llama_backend_init()
    return found
