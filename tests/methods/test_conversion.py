"""``congling convert`` and ``congling import``: there and back, checked on the way, whole or not at all."""

import json
import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from congling.cli import application
from congling.core.errors import Interrupted, UserError
from congling.infer.checkpoints import load_checkpoint
from congling.interop.detect import kind_of
from congling.interop.gguf.file import GGUFFile
from congling.methods import conversion, importing
from congling.methods.conversion import Conversion
from support.tiny_checkpoint import TOKENIZER, write


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("convert") / "checkpoint")


def logits(path: Path) -> torch.Tensor:
    model = load_checkpoint(path, "cpu").model
    with torch.inference_mode():
        return model.logits(model(torch.arange(40)[None]))


@pytest.mark.parametrize("target", ["gguf", "hf", "llama2c"])
def test_there_and_back(checkpoint: Path, tmp_path: Path, target: str):
    made = conversion.run(checkpoint, target, tmp_path / "export", verify=False)
    assert isinstance(made, Conversion) and made.report is None
    assert kind_of(made.path) == target
    back = importing.run(made.path, tmp_path / "back", verify=False)
    torch.testing.assert_close(logits(tmp_path / "back"), logits(checkpoint), atol=1e-5, rtol=0)
    text = "学而时习之 abc\n😀"
    assert load_checkpoint(tmp_path / "back", "cpu").tokenizer.decode(TOKENIZER.encode(text)) == text
    assert back.checkpoint.facts["source"]["format"] == target


def test_a_report_lies_beside_the_export(checkpoint: Path, tmp_path: Path):
    made = conversion.run(checkpoint, "llama2c", tmp_path / "a")
    report = json.loads((tmp_path / "a" / "parity.json").read_text())
    assert report["engine"].startswith("llama2.c") and report["misses"] == []
    assert report["equal_ids"] == report["ids"] and report["largest_difference"] < 1e-4
    assert report["notes"] == list(made.notes)
    assert made.report is not None and made.report.to_json() == report


def test_the_command_says_what_differs_and_keeps_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from congling.evals.conversion import verification

    monkeypatch.setitem(verification.ACCURACY, "llama2c", 0.0)
    source = write(tmp_path / "checkpoint")
    words = ["convert", str(source), "--to", "llama2c", "--out", str(tmp_path / "export")]
    done = CliRunner().invoke(application(words), words)
    assert done.exit_code == 1
    assert "differs: logits differ by up to" in done.output
    assert (tmp_path / "export" / "model.bin").is_file()


@pytest.mark.parametrize("verb", ["convert", "import"])
@pytest.mark.parametrize("checking", [False, True])
def test_a_person_who_stops_it_is_told_what_there_is(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, checking: bool
):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    source, more = checkpoint, ["--to", "llama2c"]
    if verb == "import":
        source, more = conversion.run(checkpoint, "llama2c", tmp_path / "model", verify=False).path, []
    module, function = (
        ("evals.conversion.verification", "verify") if checking else ("interop.formats", "read_model")
    )
    monkeypatch.setattr(f"congling.{module}.{function}", stop)
    out = tmp_path / "out"
    words = [verb, str(source), *more, "--out", str(out)]
    said = f"stopped; {out} is written, but was not checked" if checking else "stopped; nothing was written"
    with pytest.raises(Interrupted, match=re.escape(said)):
        application(words)(words, standalone_mode=False)
    assert out.exists() == checking


def test_without_a_check_one_line_says_so(checkpoint: Path, tmp_path: Path):
    words = ["convert", str(checkpoint), "--to", "llama2c", "--out", str(tmp_path / "out"), "--no-verify"]
    done = CliRunner().invoke(application(words), words)
    notes = [line for line in done.output.splitlines() if line.startswith("note: ")]
    assert [note for note in notes if "check" in note or "verif" in note] == [
        "note: not checked (--no-verify)"
    ]
    assert "parity" not in done.output and "computes" not in done.output


def test_a_strength_is_a_finite_number(checkpoint: Path, tmp_path: Path):
    words = ["convert", str(checkpoint), "--to", "hf", "--out", str(tmp_path / "out"), "--lora", "a.gguf=nan"]
    with pytest.raises(UserError, match="strength must be a finite number"):
        application(words)(words, standalone_mode=False)


def test_a_failure_leaves_nothing(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from congling.model.lazy import LazyTensors

    asked = []

    def fail(self: object, name: str) -> torch.Tensor:
        asked.append(name)
        if len(asked) > 12:
            raise OSError(28, "No space left on device")
        return torch.zeros(dict(shapes)[name])

    shapes = {
        name: tensor.shape for name, tensor in load_checkpoint(checkpoint, "cpu").model.state_dict().items()
    }
    monkeypatch.setattr(LazyTensors, "__getitem__", fail)
    for target in ("gguf", "hf", "llama2c", "ollama"):
        asked.clear()
        with pytest.raises(UserError, match="No space"):
            conversion.run(checkpoint, target, tmp_path / "deep" / "export", verify=False)
        assert list(tmp_path.iterdir()) == []


def test_a_file_does_not_take_the_place_of_a_directory(checkpoint: Path, tmp_path: Path):
    (tmp_path / "exports").mkdir()
    with pytest.raises(UserError, match="is a directory"):
        conversion.run(checkpoint, "gguf", tmp_path / "exports", verify=False)
    assert (tmp_path / "exports").is_dir()


def test_what_is_there_stays(checkpoint: Path, tmp_path: Path):
    (tmp_path / "export").write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        conversion.run(checkpoint, "gguf", tmp_path / "export")
    assert (tmp_path / "export").read_text() == "precious"
    conversion.run(checkpoint, "gguf", tmp_path / "export", overwrite=True, verify=False)
    assert kind_of(tmp_path / "export") == "gguf"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"to": "ggml"}, "no such target"),
        ({"to": "peft"}, "an adapter goes to"),
        ({"to": "gguf", "type": "Q9_9"}, "Q9_9"),
        ({"to": "hf", "type": "Q8_0"}, "Q8_0"),
        ({"to": "llama2c", "type": "F16"}, "--version"),
        ({"to": "gguf", "version": 2}, "only llama2.c"),
        ({"to": "gguf", "base": Path("x")}, "for adapters"),
    ],
)
def test_what_makes_no_sense_is_refused(checkpoint: Path, tmp_path: Path, options: dict, reason: str):
    with pytest.raises(UserError, match=reason):
        conversion.run(checkpoint, out=tmp_path / "export", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_not_written_over(tmp_path: Path):
    source = write(tmp_path / "runs" / "checkpoint")
    for out in (source, source.parent):
        with pytest.raises(UserError, match="made from"):
            conversion.run(source, "hf", out, overwrite=True)
    assert load_checkpoint(source, "cpu")


def test_a_report_does_not_outlive_its_export(checkpoint: Path, tmp_path: Path):
    pytest.importorskip("xllamacpp")
    conversion.run(checkpoint, "gguf", tmp_path / "a.gguf", type="F16")
    report = json.loads((tmp_path / "a.gguf.parity.json").read_text())
    assert report["accuracy"] is None and report["perplexity_within"] == 0.01 and report["misses"] == []
    conversion.run(checkpoint, "gguf", tmp_path / "a.gguf", overwrite=True, verify=False)
    assert [file.name for file in tmp_path.iterdir()] == ["a.gguf"]


def test_a_model_that_the_target_cannot_run_is_refused_with_the_nearest_choice(tmp_path: Path):
    source = write(tmp_path / "checkpoint", "qwen3")
    with pytest.raises(UserError, match="attention.qk_norm = false") as refused:
        conversion.run(source, "llama2c", tmp_path / "export")
    assert "as it is, it can go to gguf or hf or ollama; for a new model: " in str(refused.value)
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize(("target", "expected"), [
    ("gguf", "llama-cli -m {out} --ctx-size 64"),
    ("ollama", "ollama create export -f {out}/Modelfile && ollama run export"),
    ("llama2c", "./run {out}/model.bin -z {out}/tokenizer.bin"),
    ("hf", "pipeline('text-generation', '{out}')"),
])  # fmt: skip
def test_the_next_command_and_the_limit_are_printed(
    checkpoint: Path, tmp_path: Path, target: str, expected: str
):
    out = tmp_path / "export"
    words = ["convert", str(checkpoint), "--to", target, "--out", str(out), "--no-verify"]
    done = CliRunner().invoke(application(words), words, catch_exceptions=False)
    assert done.exit_code == 0
    limit, _, following = done.output.partition("next:\n")
    assert "reads 64 tokens, about " in limit
    assert expected.format(out=out) in following


def test_a_text_of_ones_own(checkpoint: Path, tmp_path: Path):
    (tmp_path / "text.txt").write_text("云对雨，雪对风。" * 20, encoding="utf-8")
    made = conversion.run(checkpoint, "llama2c", tmp_path / "a", verify_text=tmp_path / "text.txt")
    plain = conversion.run(checkpoint, "llama2c", tmp_path / "b")
    assert made.report and plain.report and made.report.parity.ids == plain.report.parity.ids + 241
    (tmp_path / "text.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match="UTF-8"):
        conversion.run(checkpoint, "llama2c", tmp_path / "c", verify_text=tmp_path / "text.txt")
    assert not (tmp_path / "c").exists()


def test_verifying_needs_the_program(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from congling.evals.conversion import verification

    monkeypatch.setattr(verification, "lacking", lambda target, type: "xllamacpp")
    made = conversion.run(checkpoint, "gguf", tmp_path / "a")
    assert made.report is None and "not checked" in made.notes[-1]
    with pytest.raises(UserError, match=r"congling\[gguf\]"):
        conversion.run(checkpoint, "gguf", tmp_path / "b", verify=True)
    assert not (tmp_path / "b").exists()


def test_adapters_go_through_every_format_and_into_the_model(checkpoint: Path, tmp_path: Path):
    from congling.interop import adapter_directory
    from congling.transform.adapter import Adapter, Factors

    loaded = load_checkpoint(checkpoint, "cpu")
    torch.manual_seed(1)
    name = "blocks.0.attention.query.weight"
    adapter = Adapter({name: Factors(torch.randn(4, 64), torch.randn(64, 4), 0.05)})
    base = adapter_directory.Base("0" * 64, "base", loaded.model.config)
    path = adapter_directory.write(tmp_path / "run" / "adapter", adapter, base)
    with pytest.raises(UserError, match="--lora"):
        conversion.run(path, "gguf", tmp_path / "x")
    with pytest.raises(UserError, match=r"for models: .*--type"):
        conversion.run(path, "peft", tmp_path / "x", type="F16")
    for before, target in ((tmp_path / "run", "gguf-lora"), (None, "peft"), (None, "ggla")):
        path = conversion.run(
            before or path, target, tmp_path / target, base=None if before else checkpoint
        ).path
        assert kind_of(path) == target
    with pytest.raises(UserError, match="--base"):
        conversion.run(path, "peft", tmp_path / "x")
    merged = conversion.run(checkpoint, "hf", tmp_path / "merged", lora=[(path, 0.5)], verify=False)
    importing.run(merged.path, tmp_path / "back", verify=False)
    expected = loaded.model.get_parameter(name) + 0.5 * adapter.factors[name].delta()
    found = load_checkpoint(tmp_path / "back", "cpu").model.get_parameter(name)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_an_adapter_of_a_packed_base_is_merged_into_the_rounded_weights(checkpoint: Path, tmp_path: Path):
    from congling.interop import adapter_directory
    from congling.interop.gguf.packing import rounded
    from congling.transform.adapter import Adapter, Factors
    from congling.transform.config import AdapterConfig

    loaded = load_checkpoint(checkpoint, "cpu")
    config, name = loaded.model.config, "blocks.0.attention.query.weight"
    facts = {"adapter": AdapterConfig(base_quantization="Q4_0").model_dump(mode="json")}
    adapter = Adapter({name: Factors(torch.randn(4, 64), torch.randn(64, 4), 0.05)}, facts)
    path = adapter_directory.write(
        tmp_path / "own", adapter, adapter_directory.Base("0" * 64, "base", config)
    )
    merged = conversion.run(checkpoint, "hf", tmp_path / "merged", lora=[(path, 1.0)], verify=False)
    importing.run(merged.path, tmp_path / "back", verify=False)
    weights = rounded(loaded.model.state_dict(), config, "Q4_0")
    found = load_checkpoint(tmp_path / "back", "cpu").model.state_dict()
    torch.testing.assert_close(found[name], weights[name] + adapter.factors[name].delta())
    assert torch.equal(found["blocks.0.mlp.up.weight"], weights["blocks.0.mlp.up.weight"])
    made = conversion.run(path, "gguf-lora", tmp_path / "own.gguf", base=checkpoint)
    assert "Q4_0" in made.notes[-1]


def test_an_adapter_merged_into_layers_in_few_bits_makes_floats_of_them_and_says_so(
    checkpoint: Path, tmp_path: Path
):
    from congling.interop import adapter_directory
    from congling.methods import quantize
    from congling.quant.config import RtnConfig
    from congling.transform.adapter import Adapter, Factors

    base = quantize.run(checkpoint, tmp_path / "q", RtnConfig(), data=()).out
    loaded = load_checkpoint(base, "cpu")
    adapter = Adapter(
        {"blocks.0.attention.query.weight": Factors(torch.randn(4, 64), torch.randn(64, 4), 0.05)}, {}
    )
    path = adapter_directory.write(
        tmp_path / "own", adapter, adapter_directory.Base("0" * 64, "q", loaded.model.config)
    )
    made = conversion.run(base, "gguf", tmp_path / "merged.gguf", lora=[(path, 1.0)], verify=False)
    assert any("merged into layers in few bits" in note for note in made.notes)
    plain = conversion.run(base, "gguf", tmp_path / "plain.gguf", verify=False)
    assert not any("merged" in note for note in plain.notes)


def test_adapters_of_bases_stretched_otherwise_are_not_merged_into_one(checkpoint: Path, tmp_path: Path):
    from congling.interop import adapter_directory
    from congling.interop.adapters import base_positions
    from congling.transform.adapter import Adapter, Factors

    plain = load_checkpoint(checkpoint, "cpu").model.config
    longer = plain.replace(positions={"rope_scaling": {"rope_type": "linear", "factor": 4.0}})
    factors = {"blocks.0.attention.query.weight": Factors(torch.randn(4, 64), torch.randn(64, 4), 0.05)}
    lora = [
        (
            adapter_directory.write(
                tmp_path / name,
                Adapter(factors, base_positions.facts_of(config)),
                adapter_directory.Base("0" * 64, name, config),
            ),
            0.5,
        )
        for name, config in (("short", plain), ("long", longer))
    ]
    with pytest.raises(UserError, match=r"stretched otherwise.*linear × 4; this base: rotary, base 10000"):
        conversion.run(checkpoint, "hf", tmp_path / "merged", lora=lora, verify=False)
    assert not (tmp_path / "merged").exists()


def test_positions_that_follow_the_length_are_frozen_for_programs_that_know_none(tmp_path: Path):
    dynamic = {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 64}
    source = write(tmp_path / "dynamic", positions={"rope_scaling": dynamic}, max_position_embeddings=256)
    made = conversion.run(source, "gguf", tmp_path / "a.gguf", freeze=256, verify=False)
    assert "positions are those of a text of 256 tokens" in made.notes[0]
    base = load_checkpoint(made.path, "cpu").model.config.positions
    assert base.kind == "rope" and base.rope_scaling is None
    assert base.rope_theta == pytest.approx(10_000 * 13 ** (16 / 14))
    static = conversion.run(write(tmp_path / "plain"), "gguf", tmp_path / "b.gguf", freeze=9, verify=False)
    assert "do not depend on the text's length" in static.notes[0]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("从零开始学而时习之不亦说乎云对雨雪风晚照晴空" * 40, encoding="utf-8")
    return path


def test_a_calibration_by_text_and_by_its_matrix_are_the_same(checkpoint: Path, text: Path, tmp_path: Path):
    pytest.importorskip("xllamacpp")
    made = conversion.run(checkpoint, "imatrix", tmp_path / "matrix", calibrate=text)
    assert "832 tokens of text.txt" in made.notes[0]
    files = []
    for name, source in (("by text", text), ("by matrix", tmp_path / "matrix")):
        done = conversion.run(
            checkpoint, "gguf", tmp_path / name, type="Q4_0", calibrate=source, verify=False
        )
        assert any("tokens of text.txt" in note for note in done.notes)
        assert f"congling damage {checkpoint}" in done.next[-1] and "--data TEXT" in done.next[-1]
        assert done.bits is not None and 4.5 <= done.bits < 32
        files.append(GGUFFile.open(done.path))
    plain = GGUFFile.open(
        conversion.run(checkpoint, "gguf", tmp_path / "plain", type="Q4_0", verify=False).path
    )
    parts = [[file.raw(name).tobytes() for name in plain.tensors] for file in (*files, plain)]
    assert parts[0] == parts[1] != parts[2] and list(map(len, parts[0])) == list(map(len, parts[2]))
    keys = [f"quantize.imatrix.{key}" for key in ("file", "dataset", "entries_count", "chunks_count")]
    told = [[file.value(key) for key in keys] for file in files]
    assert told == [["text.txt", "text.txt", 14, 13], ["matrix", "text.txt", 14, 13]]
    assert files[0].fields[keys[2]].type == "u32"  # as llama-quantize has it
    assert not any(key.startswith("quantize.") for key in plain.fields)


def test_gptq_on_ggmls_grid_is_measured_in_llama_cpp(checkpoint: Path, text: Path, tmp_path: Path):
    pytest.importorskip("xllamacpp")
    words = ["convert", str(checkpoint), "--to", "gguf", "--type", "Q4_0", "--calibrate", str(text)]
    words += ["--rounding", "gptq", "--verify-text", str(text), "--out", str(tmp_path / "file")]
    done = CliRunner().invoke(application(words), words)
    assert done.exit_code == 0, done.output
    assert "KL divergence there" in done.output
    report = json.loads((tmp_path / "file.parity.json").read_text())
    assert 0 < report["divergence"] < 1
    again = conversion.run(
        checkpoint, "gguf", tmp_path / "again", type="Q4_0", calibrate=text, rounding="gptq", verify=False
    )
    assert again.path.read_bytes() == (tmp_path / "file").read_bytes()
    assert not any("little for GPTQ" in note for note in again.notes)
    short = tmp_path / "short"
    short.write_text(text.read_text(encoding="utf-8")[:100], encoding="utf-8")
    few = conversion.run(
        checkpoint, "gguf", tmp_path / "few", type="Q4_0", calibrate=short, rounding="gptq", verify=False
    )
    assert any("little for GPTQ" in note for note in few.notes)


def test_calibrations_that_change_nothing_or_are_missing_are_refused(
    checkpoint: Path, text: Path, tmp_path: Path
):
    out, short = tmp_path / "out", tmp_path / "short"
    short.write_text("云对雨", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    wrong: list[tuple[str, dict[str, object]]] = [
        ("gguf", {"calibrate": text}),
        ("gguf", {"type": "F16", "calibrate": text}),
        ("hf", {"calibrate": text}),
        ("gguf", {"type": "Q4_0", "rounding": "gptq"}),
        ("gguf", {"type": "Q4_0", "calibrate": text, "rounding": "best"}),
        ("imatrix", {}),
        ("gguf", {"type": "Q4_0", "calibrate": short}),
        ("gguf", {"type": "Q4_0", "calibrate": tmp_path / "absent"}),
        ("gguf", {"type": "Q4_0", "calibrate": tmp_path / "binary"}),
        ("gguf", {"type": "Q4_0", "calibrate": checkpoint}),
    ]
    for target, options in wrong:
        with pytest.raises(UserError):
            conversion.run(checkpoint, target, out, verify=False, **options)  # type: ignore[arg-type]
        assert not out.exists()
    matrix = conversion.run(checkpoint, "imatrix", tmp_path / "matrix", calibrate=text).path
    with pytest.raises(UserError, match="diagonal"):
        conversion.run(checkpoint, "gguf", out, type="Q4_0", calibrate=matrix, rounding="gptq")
