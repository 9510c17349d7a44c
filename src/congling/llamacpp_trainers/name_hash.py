"""The hash of a string in GNU's C++ library, by which the former trainers know their training text again.

It is MurmurHash64A (Austin Appleby, public domain) with the library's fixed seed and its own last step.
"""

_SEED, _FACTOR, _MASK = 0xC70F6907, 0xC6A4A7935BD1E995, 2**64 - 1


def libstdcxx_hash(data: bytes) -> int:
    """``std::hash<std::string>`` of a 64-bit program, an unsigned number."""
    value = _SEED ^ (len(data) * _FACTOR & _MASK)
    whole = len(data) - len(data) % 8
    for start in range(0, whole, 8):
        word = int.from_bytes(data[start : start + 8], "little") * _FACTOR & _MASK
        value = (value ^ (_folded(word) * _FACTOR & _MASK)) * _FACTOR & _MASK
    if data[whole:]:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _FACTOR & _MASK
    return _folded(_folded(value) * _FACTOR & _MASK)


def _folded(value: int) -> int:
    return value ^ (value >> 47)
