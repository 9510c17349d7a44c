"""ggml's blocks: published vectors, the kernels' own decoding, and the rules of llama.cpp's mixtures.

Whole files were compared with those of llama.cpp's quantiser by hand: docs/log/2026-11-gguf.md.
"""

import ctypes

import numpy as np
import pytest

from congling.core.errors import UserError
from congling.quant import ggml, library
from congling.quant.mixtures import FILE_TYPES, NEEDS_IMPORTANCE, Mixture, named

RAMP = ((np.arange(32) - 15.5) / 4).astype(np.float32)
VECTORS = {
    "Q4_0": "c037809191a2a2b3b3c4c4d5d5e6e6f7f7f8",
    "Q8_0": "d0278189919aa2aab2bac3cbd3dbe3ecf4fc040c141d252d353d464e565e666f777f",
    "Q4_1": "2238c0c380809191a2a2b3b3c4c4d5d5e6e6f7f7",
    "Q5_0": "c0330000ffff102132435465768798a9bacbdcedfeff",
    "Q5_1": "0034c0c30000ffff00112233445566778899aabbccddeeff",
}
KERNELS = {
    "Q4_0": "q4_0", "Q4_1": "q4_1", "Q5_0": "q5_0", "Q5_1": "q5_1", "Q8_0": "q8_0",
    "Q2_K": "q2_K", "Q3_K": "q3_K", "Q4_K": "q4_K", "Q5_K": "q5_K", "Q6_K": "q6_K",
    "IQ4_NL": "iq4_nl", "IQ4_XS": "iq4_xs", "TQ1_0": "tq1_0", "TQ2_0": "tq2_0", "MXFP4": "mxfp4",
}  # fmt: skip


SEARCHED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ3_S")


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.parametrize("type", VECTORS)
def test_published_vectors(type):
    assert ggml.encode(RAMP, type).tobytes().hex() == VECTORS[type]


@pytest.mark.parametrize("type", KERNELS)
def test_we_decode_to_the_bit_what_ggml_decodes(type):
    pytest.importorskip("xllamacpp")
    raw = ggml.encode(normal(8, 512), type)
    theirs = np.empty((8, 512), np.float32)
    kernel = getattr(library.ggml(), f"dequantize_row_{KERNELS[type]}")
    kernel.restype, kernel.argtypes = None, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    kernel(raw.ctypes.data, theirs.ctypes.data, theirs.size)
    assert np.array_equal(ggml.decode(raw, type), theirs)


@pytest.mark.parametrize("type", KERNELS)
def test_encoding_is_that_of_ggml_and_keeps_the_values_near(type):
    pytest.importorskip("xllamacpp")
    values = normal(4, 512)
    raw = ggml.encode(values, type)
    assert np.array_equal(raw, library.quantize(values, ggml.TYPES[type].number, raw.shape[-1]))
    bits = 8 * ggml.TYPES[type].bytes / ggml.TYPES[type].values
    assert np.abs(ggml.decode(raw, type) - values).mean() < 3.2 / 2**bits


@pytest.mark.parametrize("type", SEARCHED)
def test_an_importance_lowers_the_error_it_weighs(type):
    pytest.importorskip("xllamacpp")
    values = normal(8, 512)
    importance = np.exp(np.random.default_rng(1).standard_normal(512) * 1.5).astype(np.float32)

    def error(raw: np.ndarray) -> float:
        return float(((ggml.decode(raw, type) - values) ** 2 * importance).sum())

    plain, weighed = ggml.encode(values, type), ggml.encode(values, type, importance)
    assert plain.shape == weighed.shape
    assert error(weighed) < 0.9 * error(plain)


def test_experts_have_importances_of_their_own():
    pytest.importorskip("xllamacpp")
    values, importance = normal(2, 4, 256), np.abs(normal(2, 256))
    both = ggml.encode(values, "Q4_K", importance)
    for expert in range(2):
        assert np.array_equal(both[expert], ggml.encode(values[expert], "Q4_K", importance[expert]))
    with pytest.raises(UserError, match="experts"):
        ggml.encode(values, "Q4_K", np.abs(normal(3, 256)))


@pytest.mark.parametrize("type", ["IQ2_XXS", "IQ3_XXS", "IQ4_XS"])
def test_codebooks_are_written_with_an_importance(type):
    pytest.importorskip("xllamacpp")
    values = normal(2, 256)
    found = ggml.decode(ggml.encode(values, type, np.ones(256, np.float32)), type)
    assert np.square(found - values).mean() < 0.5 * np.square(values).mean()


def test_types_that_cannot_be_encoded_without_an_importance_say_so():
    pytest.importorskip("xllamacpp")
    asked = library.ggml().ggml_quantize_requires_imatrix
    required = {name for name, kind in ggml.TYPES.items() if asked(kind.number)}
    assert required == {"IQ2_XXS", "IQ2_XS", "IQ1_S"} and required <= NEEDS_IMPORTANCE
    for type in required:
        with pytest.raises(UserError, match="importance matrix"):
            ggml.encode(normal(1, 256), type)


@pytest.mark.parametrize(
    "importance",
    [np.ones(128), np.zeros(256), -np.ones(256), np.full(256, np.nan), np.full(256, np.inf)],
    ids=["length", "zero", "negative", "NaN", "infinite"],
)
def test_unsound_importances_are_refused(importance):
    pytest.importorskip("xllamacpp")
    with pytest.raises(UserError, match="importance"):
        ggml.encode(normal(2, 256), "Q4_K", importance.astype(np.float32))


def test_columns_of_no_importance_leave_numbers():
    pytest.importorskip("xllamacpp")
    importance = np.zeros(512, np.float32)
    importance[300] = 1
    for type in (*SEARCHED, "Q8_0"):
        assert np.isfinite(ggml.decode(ggml.encode(normal(2, 512), type, importance), type)).all()


def test_parts_encoded_by_several_cores_are_what_one_makes(monkeypatch):
    pytest.importorskip("xllamacpp")
    values = normal(50, 256)
    whole = ggml.encode(values, "Q4_K")
    monkeypatch.setattr(library, "_PART", 3 * 256)
    assert np.array_equal(ggml.encode(values, "Q4_K"), whole)


def test_plain_types_and_their_limits():
    values = normal(3, 5, 7)
    for type, error in (("F32", 0), ("F64", 0), ("F16", 2e-3), ("BF16", 2e-2)):
        raw = ggml.encode(values, type)
        assert raw.shape == (3, 5, ggml.row_bytes(type, 7))
        assert np.abs(ggml.decode(raw, type) - values).max() <= error
    with pytest.raises(UserError, match="65504"):
        ggml.encode(np.array([1e6], np.float32), "F16")
    with pytest.raises(UserError, match="finite"):
        ggml.encode(np.full(32, np.nan, np.float32), "Q8_0")


def test_rows_and_types_that_cannot_be():
    for wrong in (
        lambda: ggml.encode(normal(2, 48), "Q8_0"),
        lambda: ggml.encode(normal(2, 128), "Q4_K"),
        lambda: ggml.decode(np.zeros((2, 33), np.uint8), "Q8_0"),
        lambda: ggml.encode(normal(2, 256), "Q9_K"),
        lambda: ggml.encode(normal(2, 256), "IQ2_XS"),
        lambda: ggml.encode(normal(2, 256), "I8"),
    ):
        with pytest.raises(UserError):
            wrong()


def test_large_tensors_are_decoded_in_pieces(monkeypatch):
    values = normal(64, 64)
    raw = ggml.encode(values, "Q8_0")
    whole = ggml.decode(raw, "Q8_0")
    monkeypatch.setattr(ggml, "_CHUNK", 100)
    assert np.array_equal(ggml.decode(raw, "Q8_0"), whole)


def test_without_the_library_k_quants_name_the_extra(monkeypatch):
    monkeypatch.setattr(library.importlib.util, "find_spec", lambda name: None)
    library.ggml.cache_clear()
    try:
        assert not library.available()
        with pytest.raises(UserError, match=r"congling\[gguf\]"):
            ggml.encode(normal(1, 256), "Q4_K")
    finally:
        monkeypatch.undo()
        library.ggml.cache_clear()


def test_mixtures_give_some_tensors_more_bits():
    mixture = Mixture("Q4_K_M", layers=16)
    assert mixture.type_of("blk.4.attn_q.weight", (512, 512)) == "Q4_K"
    assert mixture.type_of("output.weight", (1000, 512)) == "Q6_K"
    assert mixture.type_of("token_embd.weight", (1000, 512)) == "Q4_K"
    assert mixture.type_of("blk.4.attn_norm.weight", (512,)) == "F32"
    assert mixture.type_of("blk.4.ffn_gate_inp.weight", (8, 512)) == "F32"
    important = [mixture.type_of(f"blk.{layer}.ffn_down.weight", (512, 512)) == "Q6_K" for layer in range(16)]
    assert [layer for layer, more in enumerate(important) if more] == [0, 1, 4, 7, 10, 13, 14, 15]
    tied = Mixture("Q4_K_M", layers=16, tied=True)
    assert tied.type_of("token_embd.weight", (1000, 512)) == "Q6_K"


@pytest.mark.parametrize(
    ("name", "type"),
    [("Q4_K_M", "Q5_0"), ("Q5_K_S", "Q5_1"), ("Q6_K", "Q8_0"), ("Q2_K", "Q4_0"), ("IQ4_XS", "IQ4_NL")],
)
def test_rows_that_are_no_multiple_of_256_get_smaller_blocks(name, type):
    mixture = Mixture(name, layers=16)
    assert mixture.type_of("blk.3.ffn_up.weight", (512, 320)) == type
    assert mixture.type_of("blk.3.ffn_up.weight", (512, 100)) == "F16"
    assert mixture.type_of("output.weight", (1000, 320)) == "Q8_0"


def test_eight_experts_keep_attention_in_eight_bits():
    mixture = Mixture("Q4_K_M", layers=32, queries_per_key=4, experts=8)
    kinds = {
        part: mixture.type_of(f"blk.5.{part}.weight", (256, 256))
        for part in ("attn_k", "attn_v", "attn_output")
    }
    assert kinds == {"attn_k": "Q8_0", "attn_v": "Q8_0", "attn_output": "Q5_K"}
    assert Mixture("Q2_K", 8, queries_per_key=4).type_of("blk.5.attn_v.weight", (256, 256)) == "Q4_K"


def test_mixtures_of_codebooks():
    few = Mixture("IQ2_XXS", layers=16, imatrix=True)
    kinds = {
        part: few.type_of(f"blk.1.{part}.weight", (256, 256))
        for part in ("attn_q", "attn_v", "attn_output", "ffn_down", "ffn_up")
    }
    assert kinds == {
        "attn_q": "IQ2_XXS", "attn_v": "Q2_K", "attn_output": "IQ2_XXS", "ffn_down": "Q2_K",
        "ffn_up": "IQ2_XXS",
    }  # fmt: skip
    assert few.type_of("blk.2.ffn_down.weight", (256, 256)) == "IQ2_XXS"
    assert few.type_of("token_embd.weight", (1000, 256)) == "Q2_K"
    assert few.type_of("output.weight", (1000, 256)) == "Q5_K"
    assert few.type_of("blk.3.ffn_up.weight", (512, 320)) == "IQ4_NL"
    three = Mixture("IQ3_XXS", layers=16, imatrix=True)
    assert three.type_of("blk.5.attn_k.weight", (256, 256)) == "IQ2_S"
    assert three.type_of("blk.5.attn_output.weight", (256, 256)) == "IQ3_S"
    assert Mixture("IQ3_XS", layers=16).type_of("blk.5.ffn_up.weight", (256, 256)) == "IQ3_XXS"
    assert Mixture("IQ3_XS", layers=16).type_of("blk.1.ffn_up.weight", (256, 256)) == "IQ3_S"


def test_a_matrix_changes_some_types_of_the_first_layers_as_llama_quantize_does():
    for name, without, with_matrix in (("Q4_0", "Q4_0", "Q4_1"), ("IQ4_XS", "Q5_K", "IQ4_XS")):
        found = [
            Mixture(name, layers=16, imatrix=known).type_of("blk.1.ffn_down.weight", (256, 256))
            for known in (False, True)
        ]
        assert found == [without, with_matrix]


def test_names_of_mixtures():
    assert (named("q4_k"), named("Q8_0")) == ("Q4_K_M", "Q8_0")
    with pytest.raises(UserError, match="Q4_K_M"):
        named("Q4")
    assert all(base in ggml.TYPES for _, base in FILE_TYPES.values())
