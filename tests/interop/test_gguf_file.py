"""GGUF files: what is written is read again, here and by the reference reader; what is damaged is refused."""

import resource
import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from congling.core.errors import UserError
from congling.interop.gguf.file import Field, GGUFFile, TensorData, write_gguf
from congling.llamacpp_trainers import scratch
from congling.llamacpp_trainers.arguments import parse
from congling.llamacpp_trainers.options import ScratchOptions
from congling.quant import ggml

FIELDS = {
    "general.architecture": Field("string", "llama"),
    "general.name": Field("string", "聲律啓蒙"),
    "a.u8": Field("u8", 255), "a.i8": Field("i8", -128),
    "a.u16": Field("u16", 65535), "a.i16": Field("i16", -2),
    "a.u32": Field("u32", 2**32 - 1), "a.i32": Field("i32", -3), "a.u64": Field("u64", 2**63),
    "a.i64": Field("i64", -(2**40)), "a.f32": Field("f32", 1e-5), "a.f64": Field("f64", 1e-300),
    "a.yes": Field("bool", True), "a.no": Field("bool", False),
    "a.words": Field("array:string", ["", "一", "b\udcff"]), "a.numbers": Field("array:i32", [1, -2, 3]),
    "a.reals": Field("array:f32", [0.5, -1.5]), "a.flags": Field("array:bool", [True, False]),
    "a.empty": Field("array:string", []),
}  # fmt: skip
VALUES = np.arange(6 * 64, dtype=np.float32).reshape(2, 3, 64)


def tensors() -> list[TensorData]:
    return [
        TensorData("small", (3,), "F32", lambda: np.arange(3, dtype=np.float32)),
        TensorData("packed", (2, 3, 64), "Q8_0", lambda: ggml.encode(VALUES, "Q8_0")),
        TensorData("halves", (2, 3, 64), "F16", lambda: VALUES.astype(np.float16)),
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_gguf(tmp_path / "a.gguf", FIELDS, tensors())
    return tmp_path / "a.gguf"


def test_what_is_written_is_read(path):
    file = GGUFFile.open(path)
    assert list(file.fields) == list(FIELDS)
    for key, field in FIELDS.items():
        found = file.fields[key]
        assert found.type == field.type
        if field.type.startswith("array"):
            assert list(found.value) == list(field.value)
        else:
            assert (
                found.value == pytest.approx(field.value) if "f" in field.type else found.value == field.value
            )
    assert file.real("a.f32") == 1e-5
    assert file.value("a.words")[2].encode("utf-8", "surrogateescape") == b"b\xff"
    assert [file.tensors[name].shape for name in file.tensors] == [(3,), (2, 3, 64), (2, 3, 64)]
    assert file.raw("packed").shape == (6, 68)
    assert np.array_equal(file.array("halves"), VALUES)
    assert np.abs(file.array("packed") - VALUES).max() < 2
    assert all(info.offset % 32 == 0 for info in file.tensors.values())


def test_the_reference_reader_sees_the_same(path):
    reader = gguf.GGUFReader(path)
    assert [tensor.name for tensor in reader.tensors] == ["small", "packed", "halves"]
    assert reader.fields["general.name"].contents() == "聲律啓蒙"
    assert reader.fields["a.numbers"].contents() == [1, -2, 3]
    assert np.array_equal(reader.tensors[2].data.reshape(2, 3, 64), VALUES.astype(np.float16))


def test_typed_access_refuses_what_is_missing_or_of_another_type(path):
    file = GGUFFile.open(path)
    assert (file.text("general.name"), file.integer("a.u16"), file.flag("a.yes")) == ("聲律啓蒙", 65535, True)
    assert file.integer("no.key", 7) == 7
    for wrong in (
        lambda: file.integer("no.key"),
        lambda: file.text("a.u8"),
        lambda: file.integer("a.yes"),
        lambda: file.flag("a.u8"),
        lambda: file.real("a.u32"),
        lambda: file.array("no tensor"),
    ):
        with pytest.raises(UserError, match=r"a\.gguf"):
            wrong()


def test_a_vocabulary_alone_ends_with_its_last_key(tmp_path):
    write_gguf(tmp_path / "v.gguf", FIELDS, [])
    assert (tmp_path / "v.gguf").read_bytes().endswith(Field("array:string", []).packed())
    assert not GGUFFile.open(tmp_path / "v.gguf").tensors


def test_version_2_is_the_same_layout(path):
    raw = bytearray(path.read_bytes())
    raw[4] = 2
    path.write_bytes(raw)
    assert GGUFFile.open(path).version == 2


def version_1(fields: dict[str, Field], listed: list[TensorData]) -> bytes:
    """A file as of August 2023: every count, length and size in 32 bits."""

    def string(value: str) -> bytes:
        raw = value.encode("utf-8", "surrogateescape")
        return struct.pack("<I", len(raw)) + raw

    out = b"GGUF" + struct.pack("<III", 1, len(listed), len(fields))
    for key, field in fields.items():
        packed, element = field.packed(), field.type.partition(":")[2]
        if field.type == "string":
            packed = packed[:4] + string(field.value)
        elif element:
            values = b"".join(map(string, field.value)) if element == "string" else packed[16:]
            packed = packed[:8] + struct.pack("<I", len(field.value)) + values
        out += string(key) + packed
    offset, data = 0, b""
    for one in listed:
        sizes = tuple(reversed(one.shape))
        kind = next(number for number, name in ggml.NAMES.items() if name == one.type)
        out += string(one.name) + struct.pack(f"<I{len(sizes)}IIQ", len(sizes), *sizes, kind, offset)
        values = np.ascontiguousarray(one.data()).tobytes()
        data += values + bytes(-len(values) % 32)
        offset = len(data)
    return out + (bytes(-len(out) % 32) + data if listed else b"")


def test_version_1_has_32_bits_where_later_ones_have_64(tmp_path, path):
    (tmp_path / "old.gguf").write_bytes(version_1(FIELDS, tensors()))
    old, new = GGUFFile.open(tmp_path / "old.gguf"), GGUFFile.open(path)
    assert old.version == 1
    assert list(old.fields) == list(new.fields)
    for key, field in new.fields.items():
        array = field.type.startswith("array")
        assert old.fields[key].type == field.type
        assert list(old.value(key)) == list(field.value) if array else old.value(key) == field.value
    assert all(np.array_equal(old.array(name), new.array(name)) for name in new.tensors)


def test_the_first_published_command_line_takes_a_vocabulary_of_version_1(tmp_path, monkeypatch):
    """``--vocab-model ggml-vocab-llama.gguf`` is one, and names none of its special tokens."""
    monkeypatch.chdir(tmp_path)
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "云", "雨", "对"]
    types = [2, 3, 3, *[6] * 256, 1, 1, 1, 1]
    vocabulary = {
        "general.architecture": Field("string", "llama"),
        "tokenizer.ggml.model": Field("string", "llama"),
        "tokenizer.ggml.tokens": Field("array:string", words),
        "tokenizer.ggml.scores": Field("array:f32", [0.0] * len(words)),
        "tokenizer.ggml.token_type": Field("array:i32", types),
    }
    Path("ggml-vocab-llama.gguf").write_bytes(version_1(vocabulary, []))
    Path("shakespeare.txt").write_text("云对雨\n" * 40, encoding="utf-8")
    command = (
        "--vocab-model ggml-vocab-llama.gguf --ctx 8 --embd 32 --head 2 --layer 1 --ff 32 "
        "--checkpoint-in chk-LATEST.gguf --checkpoint-out chk-ITERATION.gguf --model-out m-ITERATION.gguf "
        "--train-data shakespeare.txt -t 1 -b 2 --seed 1 --adam-iter 2 --no-checkpointing"
    )
    lines: list[str] = []
    scratch.run(parse(ScratchOptions, command.split()), lines.append)
    scratch.run(parse(ScratchOptions, command.split()), lines.append)  # later runs continue
    model = GGUFFile.open("m-4.gguf")
    ids = [model.value(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "unknown", "padding")]
    assert ids == [1, 2, 0, 2**32 - 1]
    assert model.value("tokenizer.ggml.tokens") == words


def test_every_truncation_of_version_1_is_one_error(tmp_path):
    raw, path = version_1(FIELDS, tensors()), tmp_path / "cut.gguf"
    for length in range(0, len(raw) - 64, 5):
        path.write_bytes(raw[:length])
        with pytest.raises(UserError):
            GGUFFile.open(path)


def test_a_last_tensor_without_padding_is_read(path):
    raw = path.read_bytes()
    info = GGUFFile.open(path).tensors["halves"]
    path.write_bytes(raw[: info.offset + info.bytes])
    assert np.array_equal(GGUFFile.open(path).array("halves"), VALUES)


def test_a_failure_half_way_leaves_nothing(tmp_path):
    def broken() -> np.ndarray:
        raise UserError("the source is damaged")

    for data in (broken, lambda: np.zeros(2, np.float32)):
        with pytest.raises((UserError, ValueError)):
            write_gguf(tmp_path / "b.gguf", FIELDS, [*tensors(), TensorData("bad", (3,), "F32", data)])
    assert not list(tmp_path.iterdir())


def test_what_the_format_cannot_hold_is_refused_before_writing(tmp_path):
    def data() -> np.ndarray:
        return np.zeros((1, 32), np.float32)

    for fields, listed in (
        ({"clé": Field("u8", 1)}, []),
        ({"a": Field("u8", 256)}, []),
        ({"a": Field("u32", -1)}, []),
        ({"a": Field("array:i8", [1, 300])}, []),
        ({"a": Field("u128", 1)}, []),
        ({}, [TensorData("n" * 64, (1, 32), "F32", data)]),
        ({}, [TensorData("n", (1, 32), "F32", data)] * 2),
        ({}, [TensorData("n", (1, 1, 1, 1, 32), "F32", data)]),
        ({}, [TensorData("n", (1, 31), "Q8_0", data)]),
    ):
        with pytest.raises(UserError):
            write_gguf(tmp_path / "c.gguf", fields, listed)
    assert not list(tmp_path.iterdir())


def header(tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def entry(name: bytes, sizes: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)


WORDS = text(b"a") + struct.pack("<II", 9, 8)
ONE = text(b"a") + struct.pack("<II", 4, 1)
HUGE = struct.pack("<Q", 2**63)
HOSTILE = {
    "empty": b"",
    "only a name": b"GGUF",
    "another file": b"\x80\x04" + bytes(100),
    "version 1 with too many keys": b"GGUF" + struct.pack("<III", 1, 0, 2**31),
    "version 1, strings beyond the file": b"GGUF" + struct.pack("<III", 1, 0, 1) + b"\1\0\0\0a"
    + struct.pack("<III", 9, 8, 2**31) + bytes(64),
    "version 0": header(version=0),
    "version 4": header(version=4),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "big-endian version 1": b"GGUF" + struct.pack(">III", 1, 0, 0),
    "2^63 keys": header(keys=2**63) + ONE,
    "2^63 tensors": header(tensors=2**63) + bytes(100),
    "2^64-1 keys": header(keys=2**64 - 1),
    "key longer than the file": header(keys=1) + HUGE + bytes(100),
    "key twice": header(keys=2) + ONE + ONE,
    "key of control characters": header(keys=1) + text(b"\x1b[2J") + struct.pack("<II", 4, 1),
    "unknown value type": header(keys=1) + text(b"a") + struct.pack("<II", 13, 1),
    "array of arrays": header(keys=1) + text(b"a") + struct.pack("<IIQ", 9, 9, 1) + bytes(32),
    "array beyond the file": header(keys=1) + text(b"a") + struct.pack("<II", 9, 10) + HUGE,
    "strings beyond the file": header(keys=1) + WORDS + struct.pack("<Q", 3) + text(b"x") + HUGE + bytes(40),
    "2^61 strings": header(keys=1) + text(b"a") + struct.pack("<IIQ", 9, 8, 2**61) + bytes(64),
    "neither true nor false": header(keys=1) + text(b"a") + struct.pack("<IB", 7, 2) + bytes(8),
    "alignment 3": header(keys=1) + text(b"general.alignment") + struct.pack("<II", 4, 3),
    "alignment 2^31": header(keys=1) + text(b"general.alignment") + struct.pack("<II", 4, 2**31),
    "alignment as text": header(keys=1) + text(b"general.alignment") + struct.pack("<I", 8) + text(b"32"),
    "tensor beyond the file": header(tensors=1) + entry(b"w", (64, 2**40)) + bytes(64),
    "tensor of 2^126 values": header(tensors=1) + entry(b"w", (2**63, 2**63)) + bytes(64),
    "tensor without values": header(tensors=1) + entry(b"w", (0, 4)) + bytes(64),
    "five dimensions": header(tensors=1) + entry(b"w", (1,) * 5) + bytes(64),
    "tensor type 4": header(tensors=1) + entry(b"w", (32,), kind=4) + bytes(256),
    "rows that split a block": header(tensors=1) + entry(b"w", (33,), kind=8) + bytes(256),
    "tensor twice": header(tensors=2) + entry(b"w", (8,)) + entry(b"w", (8,), offset=32) + bytes(256),
    "overlapping tensors": header(tensors=2) + entry(b"v", (8,)) + entry(b"w", (8,)) + bytes(256),
    "a gap": header(tensors=2) + entry(b"v", (8,)) + entry(b"w", (8,), offset=64) + bytes(256),
    "offset 2^64-32": header(tensors=1) + entry(b"w", (8,), offset=2**64 - 32) + bytes(256),
    "nameless tensor": header(tensors=1) + entry(b"", (8,)) + bytes(256),
    "tensor name of 64 bytes": header(tensors=1) + entry(b"n" * 64, (8,)) + bytes(256),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers(name, tmp_path):
    path = tmp_path / "hostile.gguf"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(UserError, match=r"hostile\.gguf"):
        GGUFFile.open(path)


@pytest.mark.parametrize(
    ("version", "name"), [(header(version=4), "unknown version"), (b"GGUF\0\0\0\1", "big-endian")]
)
def test_other_versions_are_refused_by_name(version, name, tmp_path):
    (tmp_path / "other.gguf").write_bytes(version)
    with pytest.raises(UserError, match=name):
        GGUFFile.open(tmp_path / "other.gguf")


def test_every_truncation_is_one_error(path):
    raw = path.read_bytes()
    end = GGUFFile.open(path).tensors["halves"]
    for length in range(0, end.offset + end.bytes, 7):
        path.write_bytes(raw[:length])
        with pytest.raises(UserError):
            GGUFFile.open(path)


def test_millions_of_tiny_strings_cost_neither_time_nor_memory(tmp_path):
    path = tmp_path / "strings.gguf"
    count = 2_000_000
    path.write_bytes(header(keys=1) + text(b"a") + struct.pack("<IIQ", 9, 8, count) + text(b"xy") * count)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert len(GGUFFile.open(path).value("a")) == count
    assert time.process_time() - start < 60  # a hang, on a machine however slow: quadratic would be hours
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < (64 << 10) + path.stat().st_size // 1024
    )
    path.write_bytes(
        header(keys=1) + text(b"a") + struct.pack("<IIQ", 9, 8, 3 * count) + bytes(8 * 3 * count)
    )
    with pytest.raises(UserError, match="more strings"):
        GGUFFile.open(path)
