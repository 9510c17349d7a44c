"""Text compressors as language models: what a text costs behind the training text, in bits.

    bits = 8 · (size(training + text) - size(training))

General programs that know nothing of language; how far a model is below them is what it has learnt. Each
sees as much of the end of the training text as its window holds: 32 KB for zlib, 8 MB for the others.
"""

import lzma
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import zstandard

WINDOW = 8 << 20
"""Bytes of the end of the training text that are used."""
_BETWEEN = b"\0"  # between documents, as a model has its end of text


def _zlib(data: bytes) -> int:
    return len(zlib.compress(data, 9))


def _lzma(data: bytes) -> int:
    return len(lzma.compress(data, preset=6))  # a dictionary of 8 MB


def _zstd(data: bytes) -> int:
    parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=24)
    return len(zstandard.ZstdCompressor(compression_params=parameters).compress(data))


COMPRESSORS: dict[str, Callable[[bytes], int]] = {"zlib": _zlib, "lzma": _lzma, "zstd": _zstd}
"""Size in bytes of some data, compressed, by name."""


def compressed_bits(name: str, training: bytes, texts: Sequence[str]) -> float:
    """What texts cost behind the training text, in bits; see :func:`tail` for the latter."""
    size = COMPRESSORS[name]
    data = b"".join(text.encode("utf-8", "replace") + _BETWEEN for text in texts)
    return 8.0 * max(0, size(training + data) - size(training))


def tail(texts: Iterable[str], window: int = WINDOW) -> bytes:
    """The last ``window`` bytes of the texts together, streamed."""
    kept, held = deque[bytes](), 0
    for text in texts:
        part = text.encode("utf-8", "replace") + _BETWEEN
        kept.append(part)
        held += len(part)
        while kept and held - len(kept[0]) >= window:
            held -= len(kept.popleft())
    return b"".join(kept)[-window:]
