"""llama.cpp as a shared library: the extension module of the ``xllamacpp`` wheel exports its C interface.

Only stable parts are used: functions by name, and structures passed as they came from the library.
"""

import ctypes
import importlib.metadata
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from congling.core.errors import UserError
from congling.core.machine import cores

HINT = "pip install 'congling[gguf]'"
CALIBRATE = "give a text, shards or an importance matrix: --calibrate FILE"
_NEEDED = ("ggml_quantize_chunk", "ggml_quantize_requires_imatrix", "llama_decode")
_PART = 1 << 18
"""Values encoded by one call: small enough that all cores are busy, large enough to be worth the call."""


def available() -> bool:
    """Whether the library is installed; does not load it."""
    return importlib.util.find_spec("xllamacpp") is not None


def version() -> str:
    """Version of the installed wheel, whose last part is llama.cpp's build number.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.metadata.version("xllamacpp")
    except importlib.metadata.PackageNotFoundError:
        raise UserError("this needs llama.cpp, which is not installed", hint=HINT) from None


@cache
def ggml() -> ctypes.CDLL:
    """The loaded library, with ggml's and llama.cpp's functions as attributes.

    Raises:
        UserError: it is not installed, cannot be loaded, or exports something else.
    """
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        raise UserError("this needs llama.cpp, which is not installed", hint=HINT)
    found = sorted(Path(spec.origin).parent.glob("xllamacpp*.so"))
    if not found:
        raise UserError("the installed xllamacpp holds no library", where=Path(spec.origin).parent, hint=HINT)
    try:
        library = ctypes.CDLL(str(found[0]))
    except OSError as error:
        raise UserError(f"llama.cpp cannot be loaded: {error}", where=found[0], hint=HINT) from None
    missing = [name for name in _NEEDED if not hasattr(library, name)]
    if missing:
        raise UserError("this build of xllamacpp does not export a function", value=missing[0], hint=HINT)
    library.ggml_quantize_init.restype = None
    library.ggml_quantize_init.argtypes = (ctypes.c_int32,)
    library.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    library.ggml_quantize_requires_imatrix.argtypes = (ctypes.c_int32,)
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = (
        ctypes.c_int32,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    )
    return library


def quantize(
    values: np.ndarray, number: int, row_bytes: int, importance: np.ndarray | None = None
) -> np.ndarray:
    """Blocks from ggml's own kernel: float32 (..., n) contiguous -> uint8 (rows, row_bytes).

    Args:
        values: the rows.
        number: ggml's number of the type.
        row_bytes: of an encoded row.
        importance: (n,), how much the error of each value of a row counts: the mean square of the inputs that
            it is multiplied with. Without it, ggml weighs errors by the values themselves.

    Raises:
        UserError: the library is not installed, the type cannot be encoded without an importance, or one that
            is of another length, not finite, negative or zero throughout.
    """
    library = ggml()
    width = values.shape[-1]
    rows = values.size // width
    pointer = None
    if importance is not None:
        importance = _checked(importance, width)
        pointer = importance.ctypes.data
    elif library.ggml_quantize_requires_imatrix(number):
        raise UserError("this type cannot be encoded without an importance matrix", hint=CALIBRATE)
    out = np.zeros((rows, row_bytes), np.uint8)
    library.ggml_quantize_init(number)

    def some(start: int) -> None:
        count = min(step, rows - start)
        library.ggml_quantize_chunk(
            number, values.ctypes.data, out.ctypes.data, start * width, count, width, pointer
        )

    step = max(1, _PART // width)
    with ThreadPoolExecutor(cores()) as pool:  # the library runs outside Python's lock
        list(pool.map(some, range(0, rows, step)))
    return out


def _checked(importance: np.ndarray, width: int) -> np.ndarray:
    importance = np.ascontiguousarray(importance, np.float32)
    if importance.shape != (width,):
        what = f"an importance matrix of another width than its tensor, which has rows of {width}"
        raise UserError(what, value=importance.shape)
    if not np.isfinite(importance).all() or importance.min() < 0 or not importance.any():
        raise UserError("importances must be finite, not negative, and not all zero")
    return importance
