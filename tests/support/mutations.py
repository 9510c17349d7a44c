"""Mutants of files: cut, flipped, stretched and contradicting themselves, by a seeded generator.

Blind mutators change bytes; those that know a format (JSON, safetensors, GGUF) change one thing it says and
write the rest whole, so that a mutant gets past the first check and into the code behind it.
"""

import gzip
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

Mutator = Callable[[bytes, random.Random], bytes]

NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    255,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
TEXTS = (
    "",
    "\0",
    "a" * 5000,
    "../../etc/passwd",
    "/etc/passwd",
    "gpt2",
    "none",
    "\ud7ff\uffff",
    "▁",
    "<0x41>",
    "{{ 0 }}",
)
PICKLE = b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x07echo hi\x85R."
ZIP = b"PK\x03\x04" + bytes(26) + b"archive/data.pkl" + PICKLE


def blind(content: bytes, draw: random.Random) -> bytes:
    """Change some bytes without knowing what they mean; the head of a file, where lengths are, most often."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        if not changed:
            return draw.randbytes(draw.randrange(40))
        at = draw.randrange(min(len(changed), draw.choice((16, 64, 512, len(changed)))))
        draw.choice(_EDITS)(changed, at, draw)
    return bytes(changed)


def cut(content: bytes, draw: random.Random) -> bytes:
    """Keep the beginning: a download that broke off."""
    near = (0, 1, 3, 4, 7, 8, 9, 12, 16, 20, 24, 28, 32, 255, 256, 257)
    return content[: draw.choice((*near, *(draw.randrange(len(content) + 1) for _ in range(30))))]


def stranger(content: bytes, draw: random.Random) -> bytes:
    """Something else under this name."""
    random_bytes = draw.randbytes(draw.randrange(1, 400))
    return draw.choice(
        (b"", PICKLE, ZIP, b"{}", b"[]", b"null", b"[" * 100_000, b"GGUF" + random_bytes, random_bytes)
    )


def _flip(changed: bytearray, at: int, draw: random.Random) -> None:
    changed[at] ^= 1 << draw.randrange(8)


def _number(changed: bytearray, at: int, draw: random.Random) -> None:
    size = draw.choice((1, 2, 4, 8))
    at -= at % size if draw.random() < 0.7 else 0
    number = draw.choice(NUMBERS) if draw.random() < 0.8 else len(changed) + draw.randrange(-9, 9)
    changed[at : at + size] = (number % 256**size).to_bytes(size, "little")


def _not_finite(changed: bytearray, at: int, draw: random.Random) -> None:
    at -= at % 4
    changed[at : at + 4] = struct.pack("<f", draw.choice((float("nan"), float("inf"), -1e38)))


def _insert(changed: bytearray, at: int, draw: random.Random) -> None:
    changed[at:at] = draw.randbytes(draw.choice((1, 4, 8, 100)))


def _remove(changed: bytearray, at: int, draw: random.Random) -> None:
    del changed[at : at + draw.choice((1, 4, 8, 100))]


def _repeat(changed: bytearray, at: int, draw: random.Random) -> None:
    piece = changed[at : at + draw.choice((4, 32, 300))]
    changed[at:at] = piece * draw.choice((1, 3))


_EDITS = (_flip, _flip, _number, _number, _number, _not_finite, _insert, _remove, _repeat)


def in_json(content: bytes, draw: random.Random) -> bytes:
    """Change, remove or repeat one value of a JSON document."""
    values = json.loads(content)
    places = list(_places(values))
    if not places:
        return content
    # Names of settings are few and lists of pieces are long: choose by depth first.
    depth = draw.choice(sorted({len(place) for place in places}))
    place = draw.choice([place for place in places if len(place) == depth])
    holder = values
    for key in place[:-1]:
        holder = holder[key]
    action = draw.random()
    if action < 0.1:
        del holder[place[-1]]
    elif action < 0.15 and isinstance(holder, dict):
        holder[draw.choice(TEXTS)] = holder[place[-1]]
    elif action < 0.2 and isinstance(holder, list):
        holder.append(holder[place[-1]])
    elif action < 0.25:
        text = json.dumps(values)
        key = json.dumps(place[-1]) + ":"
        return text.replace(key, key + " 1, " + key, 1).encode()
    else:
        holder[place[-1]] = _other(holder[place[-1]], draw)
    return json.dumps(values, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")


def _places(values: Any, path: tuple[Any, ...] = ()) -> Any:
    items = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _other(value: Any, draw: random.Random) -> Any:
    """Another value, of the same type as often as not."""
    if isinstance(value, bool):
        return draw.choice((not value, None, 1, "true"))
    if isinstance(value, int) and draw.random() < 0.7:
        return draw.choice((*NUMBERS, value + 1, value - 1, -value, value * 2, value / 2, 10**400))
    if isinstance(value, float) and draw.random() < 0.7:
        return draw.choice((0.0, -value, float("nan"), float("inf"), 1e308, 5e-324, value * 2))
    if isinstance(value, str) and draw.random() < 0.7:
        return draw.choice((*TEXTS, value + "x", value[:-1], value.upper()))
    if isinstance(value, list) and draw.random() < 0.7:
        return draw.choice((value * 2, value[::-1], value[:1], value[1:], []))
    nested: list[Any] = []
    for _ in range(500):
        nested = [nested]
    return draw.choice((None, True, -1, 2**63, 0.5, float("nan"), "", "x", [], {}, [1], {"a": 1}, nested))


def in_safetensors(content: bytes, draw: random.Random) -> bytes:
    """Change the JSON header of a safetensors file, whose length stays right."""
    length = int.from_bytes(content[:8], "little")
    head = in_json(content[8 : 8 + length], draw)
    return struct.pack("<Q", len(head)) + head + content[8 + length :]


def in_gguf(content: bytes, draw: random.Random) -> bytes:
    """Change one value, name, shape, type or offset of a GGUF file."""
    parts = GGUFParts(content)
    draw.choice(_GGUF_EDITS)(parts, draw)
    return parts.joined(draw.choice((1, 2, 3, 3, 3, 3)))


_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value, by the number of its type."""


class GGUFParts:
    """The entries of a GGUF file as bytes and numbers that may become wrong; an independent small reader."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 8
        self.counts = [self._number(8), self._number(8)]
        self.values: list[list[Any]] = []
        for _ in range(self.counts[1]):
            name, kind = self._text(), self._number(4)
            self.values.append([name, kind, self._value(kind)])
        self.tensors: list[list[Any]] = []
        for _ in range(self.counts[0]):
            name = self._text()
            shape = [self._number(8) for _ in range(self._number(4))]
            self.tensors.append([name, shape, self._number(4), self._number(8)])
        self.data = content[-(-self.at // 32) * 32 :]

    def joined(self, version: int) -> bytes:
        """The file again, with the counts as they were before entries came or went, or not."""
        word, most = ("<I", 2**32) if version == 1 else ("<Q", 2**64)  # of counts, lengths and sizes
        found = b"GGUF" + struct.pack("<I", version)
        found += b"".join(struct.pack(word, count % most) for count in self.counts)
        for name, kind, value in self.values:
            short = _short(kind, value) if version == 1 else value
            found += struct.pack(word, len(name)) + name + struct.pack("<I", kind % 2**32) + short
        for name, shape, kind, offset in self.tensors:
            found += struct.pack(word, len(name)) + name + struct.pack("<I", len(shape))
            found += b"".join(struct.pack(word, size % most) for size in shape)
            found += struct.pack("<IQ", kind % 2**32, offset % 2**64)
        return (found + bytes(-len(found) % 32) if self.tensors else found) + self.data

    def _take(self, size: int) -> bytes:
        self.at += size
        return self.content[self.at - size : self.at]

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _text(self) -> bytes:
        return self._take(self._number(8))

    def _value(self, kind: int) -> bytes:
        start = self.at
        if kind == 8:
            self._text()
        elif kind == 9:
            element, count = self._number(4), self._number(8)
            for _ in range(count):
                self._value(element)
        else:
            self._take(_SIZES[kind])
        return self.content[start : self.at]


def _short(kind: int, value: bytes) -> bytes:
    """A value with lengths of 32 bits, as the first version has them."""
    if kind == 8:
        return value[:4] + value[8:]
    if kind != 9 or len(value) < 12:
        return value
    inner, count = struct.unpack_from("<IQ", value)
    items = value[12:]
    if inner == 8:
        texts, at = b"", 0
        while at + 8 <= len(items):
            length = int.from_bytes(items[at : at + 8], "little")
            texts += struct.pack("<I", length % 2**32) + items[at + 8 : at + 8 + length]
            at += 8 + length
        items = texts
    return struct.pack("<II", inner, count % 2**32) + items


def _any_value(parts: GGUFParts, draw: random.Random) -> None:
    entry = draw.choice(parts.values)
    kind, value = entry[1], bytearray(entry[2])
    if kind == 8:
        text = draw.choice(TEXTS).encode() if draw.random() < 0.7 else draw.randbytes(5)
        entry[2] = struct.pack("<Q", len(text)) + text
    elif kind == 9:
        _array(entry, draw)
    elif kind == 6:
        entry[2] = struct.pack("<f", draw.choice((0.0, -1.0, float("nan"), float("inf"), 1e-40, 3e38)))
    else:
        number = draw.choice(
            (*NUMBERS, int.from_bytes(value, "little") + 1, int.from_bytes(value, "little") // 2)
        )
        entry[2] = (number % 256 ** len(value)).to_bytes(len(value), "little")


def _array(entry: list[Any], draw: random.Random) -> None:
    """Another count, another type of element, or another element."""
    kind, count = struct.unpack_from("<IQ", entry[2])
    items, action = entry[2][12:], draw.random()
    if action < 0.3:
        count = draw.choice((*NUMBERS[:4], 2**31, 2**63, 2**64 - 1, count + 1, count - 1)) % 2**64
    elif action < 0.5:
        kind = draw.choice((0, 4, 5, 6, 8, 9, 10, 13, 2**31))
    elif kind == 8:
        items = _another_text(items, count, draw)
    else:
        items = blind(items, draw).ljust(len(items), b"\xff")[: len(items)]
    entry[2] = struct.pack("<IQ", kind, count) + items


def _another_text(items: bytes, count: int, draw: random.Random) -> bytes:
    """Replace, or repeat, one string of an array."""
    texts, at = [], 0
    for _ in range(count):
        length = int.from_bytes(items[at : at + 8], "little")
        texts.append(items[at + 8 : at + 8 + length])
        at += 8 + length
    if texts:
        spare = (
            *(text.encode() for text in TEXTS),
            draw.choice(texts),
            b"\xff\xfe",
            b"<0x00>",
            b"a b",
            b"a b c",
        )
        texts[draw.randrange(len(texts))] = draw.choice(spare)
    return b"".join(struct.pack("<Q", len(text)) + text for text in texts)


def _other_type(parts: GGUFParts, draw: random.Random) -> None:
    draw.choice(parts.values)[1] = draw.choice((*range(14), 255, 2**32 - 1))


def _drop_value(parts: GGUFParts, draw: random.Random) -> None:
    parts.values.pop(draw.randrange(len(parts.values)))
    parts.counts[1] -= draw.choice((0, 1, 1, 1))


def _repeat_value(parts: GGUFParts, draw: random.Random) -> None:
    parts.values.append(list(draw.choice(parts.values)))
    parts.counts[1] += draw.choice((0, 1, 1, 1))


def _alignment(parts: GGUFParts, draw: random.Random) -> None:
    number = draw.choice((0, 1, 3, 8, 64, 2**31, 2**32 - 1))
    parts.values.append([b"general.alignment", 4, struct.pack("<I", number)])
    parts.counts[1] += 1


def _counts(parts: GGUFParts, draw: random.Random) -> None:
    parts.counts[draw.randrange(2)] = draw.choice(NUMBERS)


def _tensor(parts: GGUFParts, draw: random.Random) -> None:
    if not parts.tensors:
        return
    tensor = draw.choice(parts.tensors)
    match draw.randrange(6):
        case 0:
            tensor[0] = draw.choice(
                (b"", b"x" * 100, draw.choice(parts.tensors)[0], tensor[0] + b"x", b"\xff")
            )
        case 1 if tensor[1]:
            tensor[1][draw.randrange(len(tensor[1]))] = draw.choice((*NUMBERS, tensor[1][0] * 2))
        case 2:
            tensor[1] = draw.choice(([], tensor[1][::-1], [*tensor[1], 1], tensor[1] * 3))
        case 3:
            tensor[2] = draw.choice((0, 1, 2, 3, 4, 5, 8, 10, 14, 16, 24, 28, 30, 34, 41, 99, 2**31))
        case 4:
            tensor[3] = draw.choice((*NUMBERS, draw.choice(parts.tensors)[3], tensor[3] + 1, tensor[3] - 32))
        case _:
            parts.tensors.remove(tensor)
            parts.counts[0] -= draw.choice((0, 1))


_GGUF_EDITS = (
    _any_value, _any_value, _any_value, _other_type, _drop_value, _repeat_value, _alignment, _counts,
    _tensor, _tensor, _tensor,
)  # fmt: skip


def borders(content: bytes, draw: random.Random) -> bytes:
    """Cut a GGUF file where one of its entries begins."""
    parts = GGUFParts(content)
    kept, whole = draw.randrange(len(parts.values) + 1), parts.joined(3)
    parts.values = parts.values[:kept]
    parts.tensors = [] if kept < parts.counts[1] else parts.tensors[: draw.randrange(len(parts.tensors) + 1)]
    parts.data = b""
    return parts.joined(3) if draw.random() < 0.5 else whole[: len(parts.joined(3))]


def in_lines(content: bytes, draw: random.Random) -> bytes:
    """Change one value of one line of JSON; or put a line there that is none."""
    lines = content.splitlines(keepends=True)
    place = draw.randrange(len(lines))
    if draw.random() < 0.3:
        deep = b"[" * draw.choice((10, 500, 10_000))
        odd = (
            b"null\n",
            b"1\n",
            b'"text"\n',
            b"[]\n",
            b"NaN\n",
            b"-1e999\n",
            b"9" * 5000 + b"\n",
            deep,
            b"\0",
        )
        lines.insert(place, draw.choice(odd))
    else:
        lines[place] = in_json(lines[place], draw) + b"\n"
    return b"".join(lines)


def packed(unpack: Callable[[bytes], bytes], pack: Callable[[bytes], bytes]) -> Mutator:
    """Change what a packed file holds."""
    return lambda content, draw: pack(draw.choice((blind, cut, stranger))(unpack(content), draw))


def in_toml(content: bytes, draw: random.Random) -> bytes:
    """Change, remove or repeat one setting of a recipe."""
    lines = content.decode().splitlines()
    place = draw.choice([i for i, line in enumerate(lines) if "=" in line])
    key = lines[place].partition(" =")[0]
    action = draw.random()
    if action < 0.1:
        del lines[place]
    elif action < 0.2:
        lines.insert(place, f"[{draw.choice(('train', 'data', 'model', 'x', 'a.b.c'))}]")
    elif action < 0.3:
        lines[place] = f"{draw.choice(('setps', 'x', key + 's', 'kind'))} = 1"
    else:
        lines[place] = f"{key} = {draw.choice(_TOML)}"
    text = "\n".join(lines)
    return text.encode(draw.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "gb18030")))


def in_template(content: bytes, draw: random.Random) -> bytes:
    """Put a statement into a template."""
    text = content.decode()
    at = draw.choice([i for i in range(len(text)) if text.startswith(("{{", "{%"), i)])
    return (text[:at] + draw.choice(_JINJA) + text[at:]).encode()


_TOML = (
    "2026-01-01", "07:30:00", "nan", "-inf", "-1", "0", "1.5", "1e300", "9" * 30, "9" * 5000, "true", "''",
    "'x'", "[]", "{}", "['']", "[[[[]]]]", "{a = 1}", "{kind = 'adam'}", "'../../etc/passwd'", "[1]", "'1m'",
)  # fmt: skip
_JINJA = (
    "{{ messages }}", "{{ messages * 9999 }}", "{{ ns }}", "{{ turn(turn, turn) }}", "{{ '%99999999d' % 1 }}",
    "{% for a in range(99999) %}{% for b in messages %}x{% endfor %}{% endfor %}", "{{ 'x' * 999999999 }}",
    "{% set ns.system = ns.system * 99 %}", "{% break %}", "{{ messages[0].content.format() }}", "{{ loop }}",
    "{{ messages | batch(99999999, 1) | list }}", "{% set messages = messages + messages %}" * 30, "{{ {} }}",
    "{{ messages.append(1) }}", "{{ 1 / 0 }}", "{{ raise_exception() }}", "{{ messages | tojson(indent=9) }}",
    "{% macro turn(a, b) %}{{ turn(a, b) }}{% endmacro %}",
)  # fmt: skip
KNOWING: dict[str, tuple[Mutator, ...]] = {
    ".gguf": (in_gguf, in_gguf, in_gguf, borders),
    ".json": (in_json, in_json),
    ".jsonl": (in_lines, in_lines),
    ".toml": (in_toml, in_toml),
    ".jinja": (in_template, in_template),
    ".gz": (packed(gzip.decompress, gzip.compress),) * 2,
    ".zst": (packed(zstandard.decompress, zstandard.compress),) * 2,
    ".safetensors": (in_safetensors, in_safetensors),
}
"""Mutators that know a format, by the ending of a file's name."""


def mutate(name: str, content: bytes, draw: random.Random) -> bytes:
    """One mutant of a file."""
    return draw.choice((blind, blind, cut, stranger, *KNOWING.get(Path(name).suffix, (blind,)) * 2))(
        content, draw
    )
