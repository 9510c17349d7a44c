"""Stretched rotary positions against transformers: frequencies, logits, text, and where it parts from us."""

# T tokens, D head width

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from congling.evals.conversion.parity import TEXT
from congling.evals.conversion.verification import verify
from congling.interop.engines.transformers import TransformersEngine
from congling.interop.foreign import ForeignModel
from congling.interop.hf.config import config_from
from congling.interop.hf.config_writing import config_json
from congling.interop.hf.model import read, write
from congling.model.families import FAMILIES
from congling.model.frequencies import frequencies_at, magnitude, rotary_frequencies
from congling.model.transformer import Transformer
from congling.tokenizer.character import CharacterTokenizer
from support.stretched import BY_LENGTH, CONTEXT, PAIRS, STATIC, TRAINED, VOCABULARY, stretched

transformers = pytest.importorskip("transformers", reason="the originals come with congling[hf]")
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS  # noqa: E402

FAMILY_SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "mistral": ("mistral", {"head_dim": 32}),
    "olmo2": ("olmo2", {}),
    "qwen3-moe": ("qwen3-moe", {"head_dim": 32, "num_experts": 4, "num_experts_per_tok": 2}),
}


@st.composite
def blocks(draw: st.DrawFn) -> tuple[int, dict[str, Any]]:
    """A head width and positions for it, of any kind that transformers has."""
    width = draw(st.sampled_from([16, 32, 64, 80, 96, 128]))
    trained = draw(st.sampled_from([64, 100, 256, 2048, 8192, 32768]))
    factor = draw(st.floats(1, 64))
    kind = draw(st.sampled_from(["linear", "llama3", "dynamic", "yarn", "longrope"]))
    scaling: dict[str, Any] = {"rope_type": kind, "factor": factor}
    if kind != "linear":
        scaling["original_max_position_embeddings"] = trained
    if kind == "llama3":
        scaling["low_freq_factor"] = draw(st.floats(0.5, 2))
        scaling["high_freq_factor"] = scaling["low_freq_factor"] + draw(st.floats(0.5, 8))
    if kind == "yarn":
        slow = draw(st.floats(0.05, 4))
        scaling |= {"beta_slow": slow, "beta_fast": slow * draw(st.floats(1, 64))}
        scaling["truncate"] = draw(st.booleans())
    if kind == "longrope":
        factors = st.lists(st.floats(0.5, 64), min_size=width // 2, max_size=width // 2)
        scaling |= {"short_factor": tuple(draw(factors)), "long_factor": tuple(draw(factors))}
    if kind in ("yarn", "longrope") and draw(st.booleans()):
        scaling["attention_factor"] = draw(st.floats(0.25, 4))
    elif kind == "yarn" and draw(st.booleans()):
        scaling |= {"mscale": draw(st.floats(0.1, 2)), "mscale_all_dim": draw(st.floats(0.1, 2))}
    theta = draw(st.sampled_from([1e3, 1e4, 5e5, 1e6, 41829.4]))
    return width, {"rope_theta": theta, "rope_scaling": scaling}


@settings(max_examples=50)
@given(blocks(), st.integers(1, 16))
def test_frequencies_and_magnitude_of_every_kind_are_those_of_transformers(
    block: tuple[int, dict[str, Any]], times: int
) -> None:
    width, positions = block
    scaling = positions["rope_scaling"]
    trained = scaling.get("original_max_position_embeddings", 64)
    ours = FAMILIES["qwen3"](
        vocab_size=8, max_position_embeddings=16 * trained, num_hidden_layers=1, hidden_size=width,
        num_attention_heads=1, head_dim=width,
    )  # fmt: skip
    ours = ours.replace(positions=positions)
    theirs = transformers.Qwen3Config.from_dict(config_json(ours, {}, "float32"))
    init, length = ROPE_INIT_FUNCTIONS[scaling["rope_type"]], trained * times
    assert ours.positions.kind == "rope"
    for found, seq_len in (
        (rotary_frequencies(ours.positions, width), None),
        (frequencies_at(ours.positions, width, torch.tensor([length]))[0], length),
    ):
        expected, grown = init(theirs, "cpu", seq_len=seq_len)
        assert ((found.double() / expected.double() - 1).abs() <= 2e-7).all()
        assert magnitude(ours.positions.rope_scaling) == pytest.approx(grown, rel=1e-9)


@torch.inference_mode()
def _logits(model: Transformer, ids: list[int]) -> Tensor:
    return model.logits(model(torch.tensor([ids])))[0]


def _ids(count: int = CONTEXT) -> list[int]:
    return torch.randint(0, VOCABULARY, (count,), generator=torch.Generator().manual_seed(1)).tolist()


def _exported(model: Transformer, folder: Path) -> tuple[TransformersEngine, list[str]]:
    notes = write(ForeignModel(model.config, model.state_dict()), folder)
    return TransformersEngine(folder), notes


@pytest.mark.parametrize(("family", "kind"), [
    *(("llama", kind) for kind in STATIC),
    *((family, kind) for family in FAMILY_SIZES if family != "llama"
      for kind in ("linear", "yarn", "yarn, two scales", "a spectrum")),
])  # fmt: skip
def test_logits_agree_at_four_times_the_trained_length(family: str, kind: str, tmp_path: Path) -> None:
    name, sizes = FAMILY_SIZES[family]
    model = stretched(name, STATIC[kind], **sizes)
    engine, notes = _exported(model, tmp_path / "hf")
    ids = _ids()
    expected, found = torch.from_numpy(engine.logits(ids)), _logits(model, ids)
    assert expected.std() > 1 and not notes
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    plain = model.config.replace(positions={"rope_scaling": None, "rope_theta": 1e4})
    other = Transformer(plain).eval()
    other.load_state_dict(model.state_dict())
    assert (_logits(other, ids) - expected).abs().max() > 0.5  # the kind matters
    back = read(tmp_path / "hf")
    assert back.config == model.config and not back.facts["notes"]


@pytest.mark.parametrize("kind", [*STATIC, *BY_LENGTH])
def test_what_transformers_makes_of_the_settings_is_read_as_the_same_positions(kind: str) -> None:
    config = FAMILIES["llama"](
        vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, num_hidden_layers=1, hidden_size=64,
        num_attention_heads=2,
    )  # fmt: skip
    written = config_json(config.replace(positions=(STATIC | BY_LENGTH)[kind]), {}, "float32")
    theirs = json.loads(transformers.LlamaConfig.from_dict(written).to_json_string(use_diff=False))
    assert "rope_parameters" in theirs and "rope_scaling" not in theirs  # the layout of transformers 5
    back = config_from(theirs, "config.json")
    assert back == config_from(json.loads(json.dumps(written)), "config.json")
    again = config_json(back, {}, "float32")
    assert transformers.LlamaConfig.from_dict(again).rope_parameters == theirs["rope_parameters"]


@pytest.mark.parametrize("kind", STATIC)
def test_greedy_text_agrees_across_the_trained_length(kind: str, tmp_path: Path) -> None:
    model = stretched("llama", STATIC[kind])
    engine, _ = _exported(model, tmp_path / "hf")
    ids = _ids(TRAINED - 8)
    for token in engine.greedy(ids, 32):
        assert _logits(model, ids)[-1].argmax() == token
        ids.append(token)


@pytest.mark.parametrize("scaling", [STATIC["yarn"], {"rope_scaling": STATIC["longrope"]["rope_scaling"] | {
    "short_factor": (2.0,) * (PAIRS // 2), "long_factor": (2.0,) * (PAIRS // 2)}}])  # fmt: skip
def test_scores_do_not_grow_where_a_part_of_each_head_stands_still(
    scaling: dict[str, Any], tmp_path: Path
) -> None:
    model = stretched("glm", scaling, head_dim=32)  # half of the channels turn
    engine, _ = _exported(model, tmp_path / "hf")
    torch.testing.assert_close(
        _logits(model, _ids()), torch.from_numpy(engine.logits(_ids())), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("kind", BY_LENGTH)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_kinds_that_depend_on_the_length_agree_within_the_trained_one(
    family: str, kind: str, tmp_path: Path
) -> None:
    name, sizes = FAMILY_SIZES[family]
    model = stretched(name, BY_LENGTH[kind], **sizes)
    engine, notes = _exported(model, tmp_path / "hf")
    ids = _ids(TRAINED)
    expected = torch.from_numpy(engine.logits(ids))
    torch.testing.assert_close(_logits(model, ids), expected, atol=1e-4, rtol=0)
    assert f"{TRAINED} tokens" in notes[0] and f"--freeze {CONTEXT}" in notes[0]
    # Were this to agree, the note would be wrong.
    further = torch.from_numpy(engine.logits(_ids(2 * TRAINED)))
    assert (_logits(model, _ids(2 * TRAINED)) - further).abs().max() > 0.5


def test_what_the_notes_say_of_dynamic_positions_in_transformers(tmp_path: Path) -> None:
    """If this fails, transformers has mended it: the writer's note and the documents need another look."""
    model = stretched("llama", BY_LENGTH["dynamic"])
    engine, _ = _exported(model, tmp_path / "hf")
    theirs: Any = engine._model
    ids = torch.tensor([_ids(2 * TRAINED)])
    with torch.inference_mode():
        fresh = theirs(ids[:, : TRAINED + 8], use_cache=False).logits
        whole = theirs(ids, use_cache=False).logits[0, -1]
        after = theirs(ids[:, : TRAINED + 8], use_cache=False).logits
        theirs = TransformersEngine(tmp_path / "hf")._model
        state = theirs(ids[:, :TRAINED], use_cache=True).past_key_values
        for place in range(TRAINED, 2 * TRAINED - 1):
            state = theirs(ids[:, place : place + 1], past_key_values=state, use_cache=True).past_key_values
        last = theirs(ids[:, -1:], past_key_values=state, use_cache=True).logits[0, -1]
    assert (last - whole).abs().max() > 0.1  # with a cache another text than without
    assert (after - fresh).abs().max() > 0.1  # the base of a longer text stays


def test_two_sets_of_factors_hold_for_whole_texts_in_transformers(tmp_path: Path) -> None:
    model = stretched("llama", BY_LENGTH["longrope with two sets"])
    engine, _ = _exported(model, tmp_path / "hf")
    ids = _ids(2 * TRAINED)
    scaling = model.config.positions.model_dump()["rope_scaling"]
    same = {"short_factor": scaling["long_factor"], "long_factor": scaling["long_factor"]}
    frozen = Transformer(model.config.replace(positions={"rope_scaling": scaling | same})).eval()
    frozen.load_state_dict(model.state_dict())
    expected = torch.from_numpy(engine.logits(ids))
    torch.testing.assert_close(_logits(frozen, ids), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["yarn", "dynamic"])
def test_a_folder_with_another_scaling_is_found_out(kind: str, tmp_path: Path) -> None:
    tokenizer = CharacterTokenizer("".join(dict.fromkeys(TEXT))[: VOCABULARY - 20])
    model = stretched("llama", (STATIC | BY_LENGTH)[kind], vocab_size=tokenizer.vocab_size)
    foreign = ForeignModel(model.config, model.state_dict(), tokenizer)
    write(foreign, tmp_path / "hf")
    found = verify(foreign, "hf", tmp_path / "hf")
    assert found.misses == [] and found.parity.positions >= 384 + (CONTEXT if kind == "yarn" else 0)
    if kind == "dynamic":
        return
    settings = json.loads((tmp_path / "hf" / "config.json").read_text())
    settings["rope_scaling"]["factor"] = 2.0
    (tmp_path / "hf" / "config.json").write_text(json.dumps(settings))
    assert any("logits differ" in miss for miss in verify(foreign, "hf", tmp_path / "hf").misses)
