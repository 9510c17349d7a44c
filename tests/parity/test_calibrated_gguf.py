"""Files rounded by a calibration, in the unmodified llama.cpp: codebooks load, GPTQ's codes lose less."""

from pathlib import Path

import numpy as np
import pytest

from congling.evals.conversion.parity import logits_of
from congling.interop.assembly import transformer
from congling.interop.formats import read_model
from congling.methods import conversion
from support import tiny_checkpoint
from support.divergences import divergence, drawn
from support.llama_cpp_child import opened_in_a_child

pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("calibrated")
    tiny_checkpoint.write(
        made / "model", num_hidden_layers=1, hidden_size=256, intermediate_size=256, num_key_value_heads=1
    )
    (made / "text").write_text(drawn(3000, 0), encoding="utf-8")
    return made


def test_llama_cpp_computes_them_and_gptq_is_nearest(folder: Path):
    files: dict[str, Path] = {}
    for name, type, more in (
        ("Q4_0", "Q4_0", {"calibrate": folder / "text"}),
        ("GPTQ on Q4_0", "Q4_0", {"calibrate": folder / "text", "rounding": "gptq"}),
        ("IQ3_S", "IQ3_S", {"calibrate": folder / "text"}),
    ):
        out = folder / f"{name}.gguf"
        files[name] = conversion.run(folder / "model", "gguf", out, type=type, verify=False, **more).path  # type: ignore[arg-type]
    model = read_model(folder / "model")
    ids = tiny_checkpoint.TOKENIZER.encode(drawn(60, 1))
    seen = opened_in_a_child(files, ids, 4, 20)
    ours = logits_of(transformer(model), ids)
    found = {name: divergence(ours, one.logits) for name, one in seen.items()}
    assert found.keys() == files.keys() and np.isfinite(list(found.values())).all()
    assert files["Q4_0"].stat().st_size == files["GPTQ on Q4_0"].stat().st_size
    assert found["GPTQ on Q4_0"] < found["Q4_0"]
    for (
        name,
        path,
    ) in files.items():  # what llama.cpp computes is what the file holds, but for its 8-bit inputs
        here = logits_of(transformer(read_model(path)), ids)
        assert divergence(here, seen[name].logits) < 0.3 * max(found[name], 1e-2)


def test_llama_cpp_computes_a_mixture_with_gptq_for_every_expert(tmp_path: Path):
    sizes = {"num_hidden_layers": 1, "moe_intermediate_size": 96, "num_experts": 4, "num_experts_per_tok": 2}
    tiny_checkpoint.write(tmp_path / "model", "qwen3-moe", **sizes)
    (tmp_path / "text").write_text(drawn(3000, 0), encoding="utf-8")
    out = tmp_path / "gptq.gguf"
    options = {"type": "Q4_0", "calibrate": tmp_path / "text", "rounding": "gptq", "verify": False}
    conversion.run(tmp_path / "model", "gguf", out, **options)  # type: ignore[arg-type]
    ids = tiny_checkpoint.TOKENIZER.encode(drawn(60, 1))
    seen = opened_in_a_child({"gptq": out}, ids, 4, 1)["gptq"]
    assert divergence(logits_of(transformer(read_model(out)), ids), seen.logits) < 5e-3
