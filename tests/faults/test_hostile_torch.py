"""Checkpoints of torch from outside: nothing in them runs, nothing is believed, and each fault has a name."""

import io
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from congling.core.errors import UserError
from congling.interop.formats import read_model
from congling.interop.torch_archive import TorchArchive

STATE = {"tok_embeddings.weight": torch.ones(4, 8), "norm.weight": torch.ones(8)}


class Runs:
    """Calls something when it is unpickled."""

    def __init__(self, called: Callable[..., Any], *arguments: Any) -> None:
        self.called, self.arguments = called, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.called, self.arguments


def archive(index: bytes, *, compress: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compress) as written:
        written.writestr("a/data.pkl", index)
        for name, content in entries.items():
            written.writestr(f"a/{name.replace('_', '/')}", content)
    return out.getvalue()


def saved(value: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def tensor_index(count: int = 32, offset: int = 0, shape: Any = (4, 8), stride: Any = (8, 1)) -> bytes:
    """The index of one tensor, its numbers at will."""

    def number(value: int) -> bytes:
        return b"\x8a\x08" + struct.pack("<q", value)

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(count) + b"tQ"
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + numbers(shape)
    tensor += numbers(stride) + b"\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02}" + text("norm.weight") + tensor + b"s."


VALUES = bytes(4 * 32)
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a command": (lambda: saved({**STATE, "x": Runs(os.system, "touch ran")}), r"(posix|nt)\.system"),
    "an expression": (lambda: saved(Runs(eval, "open('ran', 'w')")), "eval"),
    "a getattr": (lambda: saved(Runs(getattr, 1, "real")), "getattr"),
    "an allowed name called with a command": (
        lambda: archive(b"\x80\x02ccollections\nOrderedDict\nX\x02\x00\x00\x00ls\x85R."), "OrderedDict"),
    "a numpy value": (lambda: saved({"best": np.float64(1.0)}), "numpy"),
    "a class": (lambda: saved({"m": torch.nn.Linear(2, 2)}), r"torch\.nn"),
    "an old instruction": (lambda: archive(b"(i__main__\nRuns\n."), "INST"),
    "an extension": (lambda: archive(b"\x80\x02\x82\x01."), "EXT1"),
    "no end": (lambda: archive(b"\x80\x02}"), "does not end|damaged"),
    "nothing": (lambda: archive(b""), "damaged"),
    "an empty stack": (lambda: archive(b"\x80\x02."), "damaged"),
    "operands without a mark": (lambda: archive(b"\x80\x02}u."), "without a beginning"),
    "unknown memory": (lambda: archive(b"\x80\x02h\x05."), "damaged"),
    "no index": (lambda: archive(b"")[:0] + _without_index(), "no index|damaged|no checkpoint"),
    "a tensor beyond its storage": (
        lambda: archive(tensor_index(offset=1), data_0=VALUES), "beyond its storage"),
    "a huge tensor of one value": (
        lambda: archive(tensor_index(1, 0, (2**40, 2**20), (0, 0)), data_0=VALUES[:4]), "beyond its storage"),
    "negative steps": (lambda: archive(tensor_index(stride=(-8, 1)), data_0=VALUES), "none"),
    "a storage that is not there": (lambda: archive(tensor_index()), "no model that is known"),
    "a shorter storage": (lambda: archive(tensor_index(), data_0=VALUES[:64]), "no model that is known"),
    "a storage of 2^60 values": (
        lambda: archive(tensor_index(2**60, 0, (2**60,), (1,)), data_0=VALUES), "no model that is known"),
    "a bomb": (
        lambda: archive(tensor_index(), compress=zipfile.ZIP_DEFLATED, data_0=bytes(2**24)), "compressed"),
    "big-endian": (lambda: archive(tensor_index(), data_0=VALUES, byteorder=b"big"), "big-endian"),
    "the old format": (lambda: _legacy(), "pickle is not opened"),
    "a bare pickle": (lambda: pickle.dumps({"a": 1}), "pickle"),
    "cut short": (lambda: saved(STATE)[:-200], "damaged|no format|pickle"),
    "an optimizer": (lambda: saved({"state": {0: {"exp_avg": 1}}}), "no state dict"),
    "whole numbers": (lambda: saved({"tok_embeddings.weight": torch.ones(4, 8).long()}), "heads"),
}  # fmt: skip


def _without_index() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as written:
        written.writestr("a/other.pkl", b"")
    return out.getvalue()


def _legacy() -> bytes:
    out = io.BytesIO()
    torch.save(STATE, out, _use_new_zipfile_serialization=False)
    return out.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_checkpoints(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    make, message = HOSTILE[name]
    path = tmp_path / "model.pth"
    path.write_bytes(make())
    begun = time.process_time()
    with pytest.raises(UserError, match=message):
        model = read_model(path)
        dict(model.weights)
    assert time.process_time() - begun < 60  # a hang, on a machine however slow
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", [name for name in HOSTILE if "storage" in name or "tensor" in name])
def test_values_are_taken_only_where_the_archive_has_them(name: str, tmp_path: Path):
    (tmp_path / "t.pth").write_bytes(HOSTILE[name][0]())
    with pytest.raises(UserError, match="storage 0 should have|beyond its storage|compressed"):
        found = TorchArchive(tmp_path / "t.pth")
        found.tensor(found.value["norm.weight"])


def test_the_old_format_and_whole_numbers_have_their_reasons(tmp_path: Path):
    (tmp_path / "t.pth").write_bytes(_legacy())
    with pytest.raises(UserError, match="before 1.6.*\n.*torch.save it again"):
        TorchArchive(tmp_path / "t.pth")
    torch.save({"a": torch.ones(4).long()}, tmp_path / "t.pth")
    found = TorchArchive(tmp_path / "t.pth")
    with pytest.raises(UserError, match="type no model has.*int64"):
        found.tensor(found.value["a"])


def test_a_sound_tensor_made_so_is_read(tmp_path: Path):
    values = np.arange(32, dtype="<f4")
    (tmp_path / "t.pth").write_bytes(archive(tensor_index(), data_0=values.tobytes()))
    found = TorchArchive(tmp_path / "t.pth")
    assert torch.equal(found.tensor(found.value["norm.weight"]), torch.arange(32.0).reshape(4, 8))


def test_shared_structures_do_not_grow(tmp_path: Path):
    """A list that holds the one before twice, forty times: 2^40 elements if anything walked through them."""
    index = b"\x80\x02]q\x00" + b"".join(
        b"]q" + bytes([level]) + b"(h" + bytes([level - 1]) * 1 + b"h" + bytes([level - 1]) + b"e"
        for level in range(1, 40)
    )
    (tmp_path / "t.pth").write_bytes(archive(index + b"."))
    with pytest.raises(UserError, match="no state dict"):
        read_model(tmp_path / "t.pth")


def test_every_changed_byte_is_read_or_refused(tmp_path: Path):
    whole, path = saved(STATE), tmp_path / "t.pth"
    draw = np.random.default_rng(5)
    for _ in range(300):
        changed = bytearray(whole)
        for place in draw.integers(0, len(changed), 3):
            changed[place] = draw.integers(0, 256)
        path.write_bytes(changed)
        try:
            found = TorchArchive(path)
            for tensor in found.value.values() if isinstance(found.value, dict) else ():
                if hasattr(tensor, "storage"):
                    found.tensor(tensor)
        except UserError:
            pass
