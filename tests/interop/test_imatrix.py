"""Importance matrices: files there and back, what the gguf package reads, hostile files, missing data."""

from pathlib import Path

import numpy as np
import pytest

from congling.core.errors import UserError
from congling.interop.gguf import imatrix
from congling.interop.gguf.file import Field, TensorData, write_gguf
from congling.interop.gguf.imatrix import ImportanceMatrix, InputSquares


def squares(experts: int = 1, inputs: int = 8, count: float = 4) -> InputSquares:
    sums = np.arange(1, experts * inputs + 1, dtype=np.float32).reshape(experts, inputs)
    return InputSquares(sums, np.full(experts, count, np.float32))


def file(path: Path, **tensors: np.ndarray) -> Path:
    """A file with any tensors; a name ends in _in_sum2 or _counts."""
    listed = []
    for name, array in tensors.items():
        full = name.replace("_in_sum2", ".in_sum2").replace("_counts", ".counts")
        kind = {"float32": "F32", "float16": "F16"}[array.dtype.name]
        listed.append(TensorData(full, array.shape, kind, lambda array=array: array))
    write_gguf(path, {"general.type": Field("string", "imatrix")}, listed, overwrite=True)
    return path


def test_there_and_back(tmp_path):
    tensors = {"blk.0.attn_q.weight": squares(), "blk.0.ffn_up_exps.weight": squares(experts=3)}
    matrix = ImportanceMatrix(tensors, ("book.txt", "红楼梦"), 7, 512)
    imatrix.write(matrix, tmp_path / "a")
    found = imatrix.read(tmp_path / "a")
    assert (found.datasets, found.chunks, found.chunk_size) == (matrix.datasets, 7, 512)
    assert found.tensors.keys() == tensors.keys()
    for name, entry in tensors.items():
        assert np.array_equal(found.tensors[name].sums, entry.sums)
        assert np.array_equal(found.tensors[name].counts, entry.counts)
    imatrix.write(found, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(UserError):
        imatrix.write(matrix, tmp_path / "a")


def test_the_gguf_package_sees_the_tensors_that_llama_imatrix_writes(tmp_path):
    gguf = pytest.importorskip("gguf")
    imatrix.write(
        ImportanceMatrix({"a.weight": squares(), "b.weight": squares(experts=3)}), tmp_path / "file"
    )
    shapes = {
        tensor.name: tensor.shape.tolist() for tensor in gguf.GGUFReader(str(tmp_path / "file")).tensors
    }
    assert shapes == {
        "a.weight.in_sum2": [8], "a.weight.counts": [1],
        "b.weight.in_sum2": [8, 3], "b.weight.counts": [1, 3],
    }  # fmt: skip


def test_a_model_is_told_names_without_directories():
    texts = ("/home/me/wiki.txt", "C:\\texts\\book.txt")
    fields = ImportanceMatrix({"a": squares(), "b": squares()}, texts, 7, 512).fields("m.gguf")
    assert {key.removeprefix("quantize.imatrix."): field.value for key, field in fields.items()} == {
        "file": "m.gguf", "dataset": "wiki.txt, book.txt", "entries_count": 2, "chunks_count": 7,
    }  # fmt: skip


def test_importance_is_a_mean_and_ones_where_nothing_is_known():
    entry = InputSquares(np.array([[2, 4], [0, 0], [0, 0]], np.float32), np.array([2, 0, 3], np.float32))
    assert np.array_equal(entry.importance, [[1, 2], [1, 1], [1, 1]])
    matrix = ImportanceMatrix({"x": entry, "y": squares(), "z": squares(count=0)})
    experts = matrix.of("x", (3, 5, 2))
    assert experts is not None and experts.shape == (3, 2)
    row = matrix.of("y", (5, 8))
    assert row is not None and np.array_equal(row, np.arange(1, 9) / 4)
    assert matrix.of("z", (5, 8)) is None and matrix.of("no", (5, 8)) is None
    for name, shape in (("y", (5, 16)), ("x", (5, 2)), ("x", (2, 5, 2))):
        with pytest.raises(UserError, match="another model"):
            matrix.of(name, shape)


def test_hostile_files_are_one_error_each(tmp_path):
    good, one = np.ones(8, np.float32), np.ones(1, np.float32)
    hostile = {
        "no counts": {"a_in_sum2": good},
        "other counts": {"a_in_sum2": good, "a_counts": np.ones(3, np.float32)},
        "NaN": {"a_in_sum2": np.full(8, np.nan, np.float32), "a_counts": one},
        "negative": {"a_in_sum2": -good, "a_counts": one},
        "infinite count": {"a_in_sum2": good, "a_counts": one * np.inf},
        "half floats": {"a_in_sum2": good.astype(np.float16), "a_counts": one},
        "nothing": {"b": good},
    }
    for what, tensors in hostile.items():
        with pytest.raises(UserError):
            imatrix.read(file(tmp_path / "file", **tensors))
            raise AssertionError(what)
    path = file(tmp_path / "file", a_in_sum2=good, a_counts=one)
    whole = path.read_bytes()
    for end in range(0, len(whole) - 32, 7):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError):
            imatrix.read(path)
    write_gguf(tmp_path / "model", {"general.type": Field("string", "model")}, [])
    with pytest.raises(UserError, match="no importance matrix"):
        imatrix.read(tmp_path / "model")
    odd = {"general.type": Field("string", "imatrix"), "imatrix.datasets": Field("u32", 3)}
    tensors = [TensorData(f"a{end}", (1,), "F32", lambda: one) for end in (".in_sum2", ".counts")]
    write_gguf(tmp_path / "odd", odd, tensors)
    with pytest.raises(UserError, match="datasets"):
        imatrix.read(tmp_path / "odd")
    for count in (Field("i32", -1), Field("u64", 2**32)):
        odd = {"general.type": Field("string", "imatrix"), "imatrix.chunk_count": count}
        write_gguf(tmp_path / "odd", odd, tensors, overwrite=True)
        with pytest.raises(UserError, match="rows that cannot be"):
            imatrix.read(tmp_path / "odd")
