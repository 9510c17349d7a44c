"""Folders of GPTQ, AWQ, compressed-tensors and bitsandbytes: bit by bit, both ways, and what breaks them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from congling.core.errors import UserError
from congling.evals.conversion.parity import logits_of
from congling.interop.assembly import transformer
from congling.interop.foreign import ForeignModel
from congling.interop.hf.model import read, write
from congling.interop.hf.quantised.config import quantization_config, scheme_of
from congling.interop.hf.quantised.outgoing import KINDS, natural
from congling.interop.hf.quantised.words import packed, unpacked
from congling.interop.obstacles import Unrepresentable
from congling.quant.coded import CodedLinear
from congling.quant.int8 import Int8Linear
from congling.transform import lora
from congling.transform.config import AdapterConfig
from support.coded_models import coded_model, witness

FILE, CONFIG, SAID = "model.safetensors", "config.json", "quantization_config"
IDS = list(range(2, 60))
CASES: list[Any] = [
    *(("GPTQ", {"bits": bits, "sym": sym, "group_size": group})
      for bits in (2, 3, 4, 8) for sym in (True, False) for group in (-1, 32, 64)),
    *(("AWQ", {"sym": sym, "group_size": group}) for sym in (True, False) for group in (-1, 32, 64)),
    *(("CT", {"bits": bits, "group_size": group}) for bits in (2, 3, 4, 8) for group in (-1, 32)),
    ("CT", {"int8": 0.0}), ("BNB", {"int8": 6.0}), ("BNB", {"int8": 0.0}),
    ("GPTQ", {"family": "glm4"}), ("CT", {"family": "qwen2"}), ("AWQ", {"family": "qwen3", "sym": False}),
]  # fmt: skip


def name_of(value: Any) -> str:
    return value if isinstance(value, str) else "-".join(f"{key}={part}" for key, part in value.items())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_codes_lie_side_by_side_from_the_lowest_bit(bits: int):
    codes = torch.arange(7 * 50).reshape(7, 50).mul_(13) % 2**bits
    stored = packed(codes.to(torch.uint8), bits)
    assert stored.dtype == torch.int32 and stored.shape == (7, -(-50 * bits // 32))
    for row, words in zip(codes.tolist(), stored.tolist(), strict=True):
        stream = sum((word % 2**32) << 32 * k for k, word in enumerate(words))
        assert stream == sum(code << bits * k for k, code in enumerate(row))
    assert torch.equal(unpacked(stored, bits, 50), codes.to(torch.uint8))


@pytest.mark.parametrize(("kind", "made"), CASES, ids=name_of)
def test_what_is_written_is_read_and_written_again_to_the_bit(
    kind: Any, made: dict[str, Any], tmp_path: Path
):
    model = coded_model(**made)
    write(model, tmp_path / "one", kind)
    back = read(tmp_path / "one")
    assert list(back.layers) == list(model.layers)
    for name, layer in model.layers.items():
        again = back.layers[name]
        assert type(again) is type(layer) and torch.equal(again.dense(), layer.dense())
        assert (again.bias is None) == (layer.bias is None)
    assert all(torch.equal(back.weights[name], tensor) for name, tensor in model.weights.items())
    write(back, tmp_path / "two", kind)
    for file in (FILE, CONFIG):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(
    ("kind", "method", "made"),
    [
        ("GPTQ", "gptq", {"bits": 3, "sym": False}),
        ("GPTQ", "gptq", {"bits": 4, "group_size": -1}),
        ("AWQ", "awq", {"sym": False}),
        ("CT", "pack-quantized", {"bits": 3}),
    ],
)
def test_a_reader_of_its_own_finds_the_same_matrices(
    kind: Any, method: str, made: dict[str, Any], tmp_path: Path
):
    model = coded_model(**made, num_hidden_layers=1)
    write(model, tmp_path / "folder", kind)
    stored = load_file(tmp_path / "folder" / FILE)
    for theirs, ours in (("self_attn.k_proj", "attention.key"), ("mlp.down_proj", "mlp.down")):
        prefix = f"model.layers.0.{theirs}."
        parts = {key.removeprefix(prefix): part.numpy() for key, part in stored.items() if prefix in key}
        found = torch.from_numpy(witness(parts, method, made.get("bits", 4)))
        assert torch.equal(found, model.layers[f"blocks.0.{ours}"].dense())


@pytest.mark.parametrize("made", [{}, {"sym": False}, {"int8": 6.0}])
def test_a_folder_computes_what_the_model_does(made: dict[str, Any], tmp_path: Path):
    model = coded_model(**made)
    write(model, tmp_path / "folder", natural(model.layers))
    back = read(tmp_path / "folder")
    built = transformer(back)
    apart = abs(logits_of(built, IDS) - logits_of(transformer(model), IDS)).max()
    assert apart == 0
    kind = Int8Linear if "int8" in made else CodedLinear
    assert isinstance(built.blocks[0].mlp.up, kind)  # type: ignore[union-attr]
    assert not any(parameter.requires_grad for parameter in built.parameters())


def test_inputs_are_rounded_as_compressed_tensors_does(tmp_path: Path):
    """In its steps; weights are those that were written, whose scale is a 127th of the largest."""
    model = coded_model(int8=0.0)
    write(model, tmp_path / "folder", "CT")
    back = read(tmp_path / "folder")
    for name, layer in model.layers.items():
        again = back.layers[name]
        assert isinstance(layer, Int8Linear) and isinstance(again, Int8Linear)
        assert (layer.token_steps, again.token_steps) == (127, 127.5) and torch.equal(
            layer.codes, again.codes
        )
        torch.testing.assert_close(again.dense(), layer.dense(), atol=0, rtol=3e-7)


def test_adapters_learn_on_a_folder(tmp_path: Path):
    write(coded_model(sym=False), tmp_path / "folder", "GPTQ")
    model = transformer(read(tmp_path / "folder"))
    lora.attach(model, AdapterConfig(r=4))
    model(torch.tensor([IDS])).square().sum().backward()
    factors = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert factors and all(factor.grad is not None for factor in factors)


def test_groups_in_another_order_are_read_as_the_floats_they_stand_for(tmp_path: Path):
    """GPTQ's act-order: any column may be of any group, with as many columns in each."""
    write(coded_model(sym=False), tmp_path / "folder", "GPTQ")
    turned = torch.arange(64)[torch.randperm(64, generator=torch.Generator().manual_seed(1))] // 32
    tensors(lambda t: t.update({f"{UP}.g_idx": turned.to(torch.int32)}))(tmp_path / "folder")
    stored = load_file(tmp_path / "folder" / FILE)
    part = {name: stored[f"{UP}.{name}"] for name in ("qweight", "qzeros", "scales")}
    codes = unpacked(part["qweight"].T.contiguous(), 4, 64).float()
    zeros = unpacked(part["qzeros"], 4, 192).float() + 1
    expected = (codes - zeros[turned].T) * part["scales"].float()[turned].T
    back = read(tmp_path / "folder")
    assert not back.layers and "desc_act, g_idx" in back.facts["notes"][-1]
    assert torch.equal(back.weights["blocks.1.mlp.up.weight"], expected)
    with pytest.raises(UserError, match="no layers in few bits"):
        write(back, tmp_path / "out", "GPTQ")


def test_scales_of_32_bits_stay_so_where_a_format_has_them(tmp_path: Path):
    """llm-compressor keeps them in the type of the model it was given."""
    model = coded_model()
    for layer in model.layers.values():
        assert isinstance(layer, CodedLinear)
        layer.scales.mul_(1.0001)
    write(model, tmp_path / "one", "CT")
    assert load_file(tmp_path / "one" / FILE)[f"{UP}.weight_scale"].dtype == torch.float32
    back = read(tmp_path / "one")
    assert all(torch.equal(back.layers[name].dense(), layer.dense()) for name, layer in model.layers.items())
    write(back, tmp_path / "two", "CT")
    assert (tmp_path / "one" / FILE).read_bytes() == (tmp_path / "two" / FILE).read_bytes()
    with pytest.raises(Unrepresentable, match="(?s)scales of 16 bits.*type ct"):
        write(back, tmp_path / "three", "GPTQ")


@pytest.mark.parametrize("kind", ["AWQ", "CT", "BNB"])
def test_layers_left_in_floats_are_named(kind: Any, tmp_path: Path):
    """As other programs leave out what is sensitive."""
    model = coded_model(int8=6.0 if kind == "BNB" else None)
    layers = {name: layer for name, layer in model.layers.items() if name != "blocks.1.mlp.up"}
    mixed = ForeignModel(model.config, model.weights, layers=layers)
    write(mixed, tmp_path / "folder", kind)
    values = json.loads((tmp_path / "folder" / CONFIG).read_text())[SAID]
    key = {"AWQ": "modules_to_not_convert", "CT": "ignore", "BNB": "llm_int8_skip_modules"}[kind]
    assert values[key] == ["lm_head", UP]
    back = read(tmp_path / "folder")
    assert back.layers.keys() == layers.keys()
    assert torch.equal(back.weights["blocks.1.mlp.up.weight"], model.weights["blocks.1.mlp.up.weight"])
    if kind != "BNB":
        with pytest.raises(Unrepresentable, match="GPTQ has no list"):
            write(mixed, tmp_path / "other", "GPTQ")


def test_a_quantised_model_leaves_as_floats_too(tmp_path: Path):
    model = coded_model(sym=False)
    write(model, tmp_path / "folder", "F32")
    back = read(tmp_path / "folder")
    assert not back.layers and SAID not in json.loads((tmp_path / "folder" / CONFIG).read_text())
    assert all(torch.equal(back.weights[name], tensor) for name, tensor in model.weights.items())


@pytest.mark.parametrize("made", [{}, {"sym": False}, {"bits": 3}, {"int8": 6.0}, {"int8": 0.0}])
def test_the_natural_format_holds_the_model(made: dict[str, Any], tmp_path: Path):
    model = coded_model(**made)
    write(model, tmp_path / "folder", natural(model.layers))
    assert read(tmp_path / "folder").layers.keys() == model.layers.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_of_layers_is_read_as_it_was(kind: Any, tmp_path: Path):
    model = coded_model(int8=0.0 if kind in ("BNB",) else None)
    write(model, tmp_path / "folder", kind)
    said = json.loads((tmp_path / "folder" / CONFIG).read_text())[SAID]
    assert quantization_config(scheme_of(said, "here")) == said
    assert not {"meta", "actorder"} & set(json.dumps(said).replace('"', " ").split())


UNFIT: dict[str, tuple[str, dict[str, Any], str]] = {
    "three bits in AWQ": ("AWQ", {"bits": 3}, "4 bits, not 3.*type gptq"),
    "zero points in compressed-tensors": ("CT", {"sym": False}, "asymmetric.*awq"),
    "groups in bitsandbytes": ("BNB", {}, "rows of 8 bits.*gptq or ct"),
    "inputs rounded in GPTQ": ("GPTQ", {"int8": 0.0}, "inputs too.*bnb or ct"),
    "a threshold in compressed-tensors": ("CT", {"int8": 6.0}, "type bnb"),
    "a width of no multiple of 32": (
        "GPTQ", {"group_size": -1, "hidden_size": 48, "num_attention_heads": 3}, "multiples of 32.*type ct",
    ),
    "matrices the other way": ("GPTQ", {"family": "gpt2"}, "GPT2LMHeadModel.*GGUF"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "made", "why"), UNFIT.values(), ids=list(UNFIT))
def test_what_a_format_cannot_hold_is_refused_with_the_nearest(
    kind: Any, made: dict[str, Any], why: str, tmp_path: Path
):
    with pytest.raises(Unrepresentable, match=f"(?s){why}"):
        write(coded_model(**made), tmp_path / "folder", kind)
    assert not list(tmp_path.iterdir())


def test_a_zero_of_0_is_not_in_gptq(tmp_path: Path):
    model = coded_model(sym=False)
    first = next(iter(model.layers.values()))
    assert isinstance(first, CodedLinear) and first.zeros is not None
    first.zeros[0, 0] = 0
    with pytest.raises(UserError, match="(?s)no zero point of 0.*awq"):
        write(model, tmp_path / "folder", "GPTQ")
    assert not list(tmp_path.iterdir())


def test_models_in_floats_have_no_layers_to_write(tmp_path: Path):
    model = coded_model()
    with pytest.raises(UserError, match="(?s)no layers in few bits.*congling quantize"):
        write(ForeignModel(model.config, model.weights), tmp_path / "folder", "GPTQ")


UP = "model.layers.1.mlp.up_proj"


def tensors(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        found = load_file(folder / FILE)
        change(found)
        save_file(found, folder / FILE)

    return damage


def said(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        values = json.loads((folder / CONFIG).read_text())
        values[SAID] |= changes
        (folder / CONFIG).write_text(json.dumps(values))

    return damage


def with_weights(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        values = json.loads((folder / CONFIG).read_text())
        values[SAID]["config_groups"]["group_0"]["weights"] |= changes
        (folder / CONFIG).write_text(json.dumps(values))

    return damage


def put(part: str, value: Tensor) -> Callable[[Path], None]:
    return tensors(lambda found: found.update({f"{UP}.{part}": value}))


BROKEN: dict[str, tuple[str, dict[str, Any], Callable[[Path], None], str]] = {
    "v1 says it is v2": ("GPTQ", {}, said(checkpoint_format="gptq_v2"), 'gptq_v2.*": "gptq"'),
    "v2 says it is v1": (
        "GPTQ", {}, tensors(lambda t: t.update({k: v + 0x11111111 for k, v in t.items() if "qzeros" in k})),
        'gptq,.*": "gptq_v2"',
    ),
    "zeros beyond the codes": (
        "GPTQ", {"sym": False}, put("qzeros", torch.full((2, 24), -1, dtype=torch.int32)), "zero points",
    ),
    "zeros that sym denies": ("GPTQ", {"sym": False}, said(sym=True), "in the middle"),
    "groups of other sizes": (
        "GPTQ", {}, tensors(lambda t: t[f"{UP}.g_idx"].fill_(1)), "g_idx does not put 32 columns.*",
    ),
    "a group that is not there": (
        "GPTQ", {}, tensors(lambda t: t[f"{UP}.g_idx"].add_(5)), "g_idx does not put 32 columns.*",
    ),
    "no scales": ("GPTQ", {}, tensors(lambda t: t.pop(f"{UP}.scales")), "missing.*up_proj.scales"),
    "no zeros": ("AWQ", {"sym": False}, tensors(lambda t: t.pop(f"{UP}.qzeros")), "missing.*up_proj.qzeros"),
    "no codes": ("GPTQ", {}, tensors(lambda t: t.pop(f"{UP}.qweight")), "up_proj"),
    "infinite scales": (
        "GPTQ", {}, tensors(lambda t: t[f"{UP}.scales"].fill_(float("inf"))), "scales.*finite",
    ),
    "NaN in scales": ("CT", {}, tensors(lambda t: t[f"{UP}.weight_scale"].fill_(float("nan"))), "finite"),
    "scales of another shape": ("GPTQ", {}, put("scales", torch.ones(3, 192).half()), "scales.*3, 192"),
    "scales that are integers": ("GPTQ", {}, put("scales", torch.ones(2, 192).int()), "floats"),
    "codes of another type": ("GPTQ", {}, put("qweight", torch.zeros(8, 192).long()), "qweight.*I64"),
    "codes of one dimension": ("GPTQ", {}, put("qweight", torch.zeros(8, dtype=torch.int32)), "a matrix"),
    "other bits than it says": ("GPTQ", {}, said(bits=8), "qzeros"),
    "bits that no format has": ("GPTQ", {}, said(bits=5), "bits of this kind"),
    "bits in words": ("GPTQ", {}, said(bits="4"), "bits of this kind"),
    "a huge group": ("GPTQ", {}, said(group_size=2**30), "does not divide"),
    "a group of 0": ("GPTQ", {}, said(group_size=0), "group_size of this kind"),
    "layers apart": ("GPTQ", {}, said(dynamic={"-:.*down.*": {}}), "dynamic of this kind"),
    "an unknown kind": ("GPTQ", {}, said(quant_method="spqr"), "read are gptq"),
    "no object": ("GPTQ", {}, lambda folder: _no_object(folder), "an object"),
    "gemv": ("AWQ", {"sym": False}, said(version="gemv"), "version of this kind"),
    "a lying shape": ("CT", {}, put("weight_shape", torch.tensor([192, 2**40])), "shape that no matrix has"),
    "another shape": ("CT", {}, put("weight_shape", torch.tensor([64, 192])), "weight_packed"),
    "a frozen folder": ("CT", {}, said(quantization_status="frozen"), "quantization_status of this kind"),
    "two groups": ("CT", {}, said(config_groups={"a": {}, "b": {}}), "one group"),
    "floats": ("CT", {}, with_weights(type="float"), "type of this kind"),
    "fixed inputs": ("CT", {"int8": 0.0}, lambda folder: _fixed_inputs(folder), "dynamic of this kind"),
    "four bits of bitsandbytes": ("BNB", {"int8": 6.0}, said(load_in_4bit=True), "load_in_4bit"),
    "an infinite threshold": ("BNB", {"int8": 6.0}, said(llm_int8_threshold=1e9), "llm_int8_threshold"),
    "nothing of the kind": ("GPTQ", {}, said(quant_method="bitsandbytes", load_in_8bit=True), "holds none"),
}  # fmt: skip


def _no_object(folder: Path) -> None:
    values = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(values | {SAID: "gptq"}))


def _fixed_inputs(folder: Path) -> None:
    values = json.loads((folder / CONFIG).read_text())
    values[SAID]["config_groups"]["group_0"]["input_activations"]["dynamic"] = False
    (folder / CONFIG).write_text(json.dumps(values))


@pytest.mark.parametrize(("kind", "made", "damage", "why"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_folder_is_one_error(
    kind: Any, made: dict[str, Any], damage: Callable[[Path], None], why: str, tmp_path: Path
):
    write(coded_model(**made), tmp_path / "folder", kind)
    damage(tmp_path / "folder")
    with pytest.raises(UserError, match=f"(?s){why}"):
        model = read(tmp_path / "folder")
        write(model, tmp_path / "out", kind)
    assert not (tmp_path / "out").exists()
