"""Protocol buffers as far as sentencepiece's files need them: numbered fields of numbers and bytes."""

from collections.abc import Iterator

_SHORT = [bytes([value]) for value in range(0x80)]


def part(value: int | memoryview) -> memoryview:
    """A field's value as bytes; ValueError where it is a number."""
    if isinstance(value, int):
        raise ValueError("a number stands where text was expected")
    return value


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of the fields of a message; ValueError where it is cut short or no message."""
    place = 0
    while place < len(data):
        key, place = _varint_at(data, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint_at(data, place)
            yield number, value
            continue
        if wire == 2:
            size, place = _varint_at(data, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of unknown type {wire} at byte {place}")
        if not number or size > len(data) - place:
            raise ValueError(f"a field of {size} bytes at byte {place} of {len(data)}")
        yield number, data[place : place + size]
        place += size


def _varint_at(data: memoryview, place: int) -> tuple[int, int]:
    if place < len(data) and data[place] < 0x80:  # nearly all of them
        return data[place], place + 1
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("the file is cut short")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), place
    raise ValueError(f"a number without end at byte {place}")


def _field(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def number_field(number: int, value: int) -> bytes:
    """A field that holds a number; negative ones take 64 bits."""
    return _field(number, 0) + varint(int(value) & (2**64 - 1))


def bytes_field(number: int, value: bytes) -> bytes:
    """A field that holds bytes, or another message."""
    return _field(number, 2) + varint(len(value)) + value


def text_field(number: int, value: str) -> bytes:
    """A field that holds text."""
    return bytes_field(number, value.encode())


def varint(value: int) -> bytes:
    """A number, seven bits per byte, the lowest first; all bytes but the last have the high bit."""
    if value < 0x80:
        return _SHORT[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
