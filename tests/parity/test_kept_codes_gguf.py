"""A checkpoint in few bits in the unmodified llama.cpp: codes as they are, or rounded by a calibration."""

from pathlib import Path
from typing import Any

import pytest

from congling.core.errors import UserError
from congling.evals.conversion.parity import logits_of
from congling.interop.assembly import transformer
from congling.interop.formats import read_model
from congling.interop.gguf.file import GGUFFile
from congling.methods import conversion, quantize
from support import tiny_checkpoint
from support.divergences import divergence, drawn
from support.llama_cpp_child import opened_in_a_child

pytest.importorskip("xllamacpp")
CASES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "llama": ("llama", {"intermediate_size": 128}, "bits=4", "Q5_0"),
    "fused": ("gpt2", {}, "sym=true", "Q4_0"),
    "mixture": ("qwen3-moe", {"moe_intermediate_size": 64, "num_experts": 4}, "bits=3", "Q4_0"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("kept")
    for name, (family, sizes, setting, _) in CASES.items():
        positions = {"kind": "learned"} if family == "gpt2" else None
        tiny_checkpoint.write(made / name, family, positions, num_hidden_layers=1, **sizes)
        quantize.run(made / name, made / f"{name}-q", quantize.chosen("rtn", [setting]))
    return made


def test_llama_cpp_computes_what_the_checkpoint_does(folder: Path):
    files = {name: folder / f"{name}.gguf" for name in CASES}
    for name, path in files.items():
        done = conversion.run(folder / f"{name}-q", "gguf", path, verify=False)
        assert any("codes as they are" in note for note in done.notes)
        assert CASES[name][3] in {info.type for info in GGUFFile.open(path).tensors.values()}
    ids = tiny_checkpoint.TOKENIZER.encode(drawn(60, 1))
    seen = opened_in_a_child(files, ids, 4, 1)
    for name in CASES:
        model = read_model(folder / f"{name}-q")
        ours = logits_of(transformer(model), ids)
        # llama.cpp rounds inputs to 8 bits; the model in floats is further away than that
        assert divergence(ours, seen[name].logits) < 5e-3, name
        floats = logits_of(transformer(read_model(folder / name)), ids)
        assert divergence(floats, seen[name].logits) > 2 * divergence(ours, seen[name].logits), name


def test_codes_that_a_type_does_not_hold_are_rounded_by_a_calibration(folder: Path):
    (folder / "text").write_text(drawn(2000, 0), encoding="utf-8")
    options: dict[str, Any] = {"calibrate": folder / "text", "rounding": "gptq", "verify": False}
    done = conversion.run(folder / "llama-q", "gguf", folder / "gptq.gguf", type="Q4_0", **options)
    assert any("encoded anew" in note for note in done.notes)
    with pytest.raises(UserError, match="this type is not"):
        conversion.run(folder / "llama-q", "gguf", folder / "copy.gguf", **options)
