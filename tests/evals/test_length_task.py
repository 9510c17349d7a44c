import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from congling.core.artifact import Artifact
from congling.core.errors import UserError
from congling.evals import length, tasks
from congling.evals.bench import Bench
from congling.evals.score_tables import score_tables
from congling.evals.scores import Score
from congling.infer.checkpoints import Loaded
from congling.model.config import ModelConfig
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from support.long_texts import TOKENIZER, bench_of, returning
from support.looking_back import SURE, LookingBack

KNOWN, UNKNOWN = -math.log(SURE), math.log(TOKENIZER.vocab_size)
YARN = {"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 16}


def shape(context: int, family: str = "qwen3", **changes: Any) -> ModelConfig:
    small = {
        "vocab_size": TOKENIZER.vocab_size,
        "max_position_embeddings": context,
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 2,
    }
    return FAMILIES[family](**small).replace(**changes)  # type: ignore[arg-type]


def random_model(config: ModelConfig, like: Transformer | None = None) -> Transformer:
    model = Transformer(config)
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.3)
    if like is not None:
        model.load_state_dict(like.state_dict())
    return model


def measured(bench: Bench) -> dict[str, Score]:
    return {score.name.removeprefix("length/"): score for score in tasks.run(bench, ["length"], bench.files)}


def values(found: dict[str, Score], kind: str) -> dict[int, float]:
    return {int(name.split("/")[1]): one.value for name, one in found.items() if name.startswith(kind + "/")}


def test_what_returns_is_foretold_by_whoever_reads_so_far(tmp_path: Path):
    model = LookingBack(shape(128, positions={"rope_scaling": YARN}), 40)
    bench = bench_of(model, [returning(40, 150 + k, k) for k in range(5)], tmp_path, limit=30)
    found = measured(bench)
    losses = values(found, "nats")
    assert list(losses) == [4, 8, 16, 32, 64, 128]  # of L = 16, from the scaling
    assert [losses[n] for n in (4, 8, 16, 32)] == pytest.approx([UNKNOWN] * 4, abs=1e-5)
    assert [losses[n] for n in (64, 128)] == pytest.approx([KNOWN] * 2, abs=1e-5)
    gain = found["gain/64"]
    assert gain.value == pytest.approx(UNKNOWN - KNOWN, abs=1e-5)
    assert gain.low == pytest.approx(gain.high, abs=1e-5)  # all documents gain the same
    assert values(found, "gain").keys() == {4, 8, 32, 64, 128} and gain.n == 5
    assert found["gain/8"].value == pytest.approx(0, abs=1e-5)
    assert not {"sliding"} & found.keys()  # nobody knows what it was before
    assert any("--base" in note for note in bench.findings.notes)


def test_the_interval_is_of_paired_differences(tmp_path: Path):
    """Documents differ much in loss; what they gain hardly does."""
    model = LookingBack(shape(128, positions={"rope_scaling": YARN}), 40)
    mixed = [returning(40, 140) + returning(40, 40)[: 2 * k] * 2 for k in range(8)]
    found = measured(bench_of(model, mixed, tmp_path))
    gain, nats = found["gain/128"], found["nats/128"]
    assert gain.low <= gain.value <= gain.high and gain.low < gain.high
    assert gain.value == pytest.approx(found["nats/16"].value - nats.value, abs=1e-9)


def test_the_window_of_a_named_base_is_the_line_to_beat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = LookingBack(shape(128, positions={"rope_scaling": YARN}), 40)
    base = LookingBack(shape(16), 9)  # foretells nothing of a text that returns after 40
    place = Artifact(tmp_path / "base", "checkpoint", "", {}, {})
    monkeypatch.setattr(length, "load_checkpoint", lambda path: Loaded(base, TOKENIZER, place))
    bench = bench_of(model, [returning(40, 150, k) for k in range(5)], tmp_path, base="base")
    monkeypatch.setattr(length, "reading", lambda model, tokens: LookingBack(shape(tokens), 9))
    found = measured(bench)
    wrong = -math.log((1 - SURE) / (TOKENIZER.vocab_size - 1))
    expected = wrong
    assert found["sliding"].value == pytest.approx(expected, abs=1e-5) and found["sliding"].reference
    assert values(found, "below-sliding") == pytest.approx(
        {16: expected - UNKNOWN, 32: expected - UNKNOWN, 64: expected - KNOWN, 128: expected - KNOWN},
        abs=1e-5,
    )
    assert values(found, "plain") == pytest.approx(dict.fromkeys((32, 64, 128), expected), abs=1e-5)


def test_a_base_of_other_tokens_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = type(TOKENIZER)("零从" + "".join(sorted(set("abc"))))
    base = Loaded(LookingBack(shape(16), 9), other, Artifact(tmp_path, "checkpoint", "", {}, {}))
    monkeypatch.setattr(length, "load_checkpoint", lambda path: base)
    model = LookingBack(shape(128, positions={"rope_scaling": YARN}), 40)
    with pytest.raises(UserError, match="other tokens"):
        measured(bench_of(model, [returning(40, 150)], tmp_path, base="base"))


@pytest.mark.parametrize(
    ("sizes", "reach"),
    [
        ([150] * 4, 128),
        ([150] * 3 + [70] * 9, 64),  # three documents are too few
        ([150] + [40] * 9, 32),
        ([150], 128),  # one is enough where there is no other
        ([128], 128),
        ([127], 64),
        ([32], 32),
    ],
)
def test_as_far_as_documents_reach(sizes: list[int], reach: int, tmp_path: Path):
    model = LookingBack(shape(128, positions={"rope_scaling": YARN}), 40)
    texts = [returning(40, size, place) for place, size in enumerate(sizes)]
    bench = bench_of(model, texts, tmp_path)
    found = measured(bench)
    assert max(values(found, "nats")) == reach
    told = [note for note in bench.findings.notes if "blocks stand behind" in note]
    assert bool(told) == (reach < 128) and all(f"{reach:,} tokens" in note for note in told)
    single = sum(size >= reach for size in sizes) == 1
    assert (found["nats/16"].low is None) == single  # no interval of one document
    assert (found["gain/32"].low is None) == single


def test_texts_that_are_all_too_short_say_by_how_much(tmp_path: Path):
    model = LookingBack(shape(128, positions={"rope_scaling": YARN}), 40)
    with pytest.raises(UserError) as error:
        measured(bench_of(model, [returning(40, 31), "天地"], tmp_path))
    assert "32 tokens are needed" in str(error.value) and "the longest of 2 has 31" in str(error.value)
    for nothing in ([], ["", " "]):
        with pytest.raises(UserError):
            measured(bench_of(model, nothing, tmp_path))


def test_blocks_are_stretches_of_one_document_far_inside(tmp_path: Path):
    model = LookingBack(shape(128, positions={"rope_scaling": YARN}), 40)
    texts = [returning(40 - place, 150 + 60 * place) for place in range(4)]
    bench = bench_of(model, texts, tmp_path, limit=18)
    blocks = length.tail_blocks(bench, 16, 4)
    assert blocks.reach == 128 and len(blocks.texts) == 18
    assert np.bincount(blocks.document).min() >= 4  # shared evenly
    seen: set[tuple[int, int]] = set()
    for ids, number in zip(blocks.texts, blocks.document, strict=True):
        source = blocks.sources[number].ids
        assert len(ids) == 129
        starts = [i for i in range(len(source) - 128) if np.array_equal(source[i : i + 129], ids)]
        assert starts
        seen |= {(int(number), starts[0] + 125 + k) for k in range(4)}
    assert len(seen) >= 60  # they lie apart, but for texts that return
    assert len(length.tail_blocks(replace(bench, limit=2), 16, 4).sources) == 2


@pytest.mark.parametrize(
    ("context", "lengths"), [(48, [4, 8, 16, 32, 48]), (16, [4, 8, 16]), (64, [4, 8, 16, 32, 64])]
)
def test_no_more_is_read_than_the_model_reads(context: int, lengths: list[int], tmp_path: Path):
    positions = {"rope_scaling": {**YARN, "factor": max(1, context / 16)}}
    model = LookingBack(shape(context, positions=positions), 40)
    found = measured(bench_of(model, [returning(40, 150)], tmp_path))
    assert list(values(found, "nats")) == lengths


def plain_losses(model: Transformer, bench: Bench, n: int) -> float:
    blocks = length.tail_blocks(bench, 16, 4)
    return float(length.tail_losses(model, blocks.texts, [n], 4).mean())


@pytest.mark.parametrize(
    "positions",
    [
        {"rope_scaling": YARN},
        {"rope_theta": 90_000.0},  # NTK-aware
        {"rope_scaling": {"rope_type": "linear", "factor": 8}},
        {"rope_scaling": {"rope_type": "dynamic", "factor": 8, "original_max_position_embeddings": 16}},
        {"rope_scaling": {"rope_type": "clex", "original_max_position_embeddings": 16}},
    ],
)
def test_an_extended_checkpoint_slides_as_it_was_before(positions: dict[str, Any], tmp_path: Path):
    plain = shape(16)
    model = random_model(plain.replace(max_position_embeddings=128, positions=positions))
    facts = {"extended": {"from": 16, "positions": plain.positions.model_dump(mode="json")}}
    texts = [returning(40 - k, 150, k) for k in range(4)]
    bench = bench_of(model, texts, tmp_path, facts, limit=8)
    found = measured(bench)
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("positions")}
    before = Transformer(plain.replace(max_position_embeddings=128))
    before.load_state_dict(weights)
    assert found["sliding"].value == pytest.approx(plain_losses(before, bench, 16), abs=1e-5)
    assert values(found, "plain") == pytest.approx(
        {n: plain_losses(before, bench, n) for n in (32, 64, 128)}, abs=1e-5
    )
    assert values(found, "nats")[64] == pytest.approx(plain_losses(model, bench, 64), abs=1e-5)
    assert values(found, "below-sliding")[64] == pytest.approx(
        found["sliding"].value - found["nats/64"].value, abs=1e-9
    )
    assert values(found, "nats")[128] != pytest.approx(values(found, "plain")[128], abs=1e-4)


def test_a_model_that_was_not_extended_is_its_own_line_and_control(tmp_path: Path):
    model = random_model(shape(16))
    bench = bench_of(model, [returning(40, 150, k) for k in range(4)], tmp_path, limit=8)
    found = measured(bench)
    assert list(values(found, "nats")) == [4, 8, 16] and list(values(found, "plain")) == [32, 64, 128]
    assert found["sliding"].value == found["nats/16"].value
    assert not values(found, "below-sliding") and not bench.findings.notes
    longer = random_model(shape(128), like=model)
    assert values(found, "plain")[128] == pytest.approx(plain_losses(longer, bench, 128), abs=1e-5)
    other = measured(replace(bench, context=8))
    assert list(values(other, "nats")) == [2, 4, 8, 16] and list(values(other, "plain")) == [32, 64]
    with pytest.raises(UserError, match="longer than the model's context"):
        measured(replace(bench, context=17))


def test_learned_positions_end_and_alibi_goes_on(tmp_path: Path):
    texts = [returning(40, 150, k) for k in range(4)]
    bench = bench_of(random_model(shape(16, "gpt2")), texts, tmp_path, limit=8)
    found = measured(bench)
    assert list(values(found, "nats")) == [4, 8, 16] and not values(found, "plain")
    assert any("learned positions end at 16" in note for note in bench.findings.notes)
    bench = bench_of(random_model(shape(16, positions={"kind": "alibi"})), texts, tmp_path, limit=8)
    found = measured(bench)
    assert list(values(found, "plain")) == [32, 64, 128]
    assert any("ALiBi" in note for note in bench.findings.notes)


def test_weights_trained_since_are_no_reference(tmp_path: Path):
    run = tmp_path / "run"
    (run / "checkpoints" / "one").mkdir(parents=True)
    (run / "metrics.jsonl").write_text("", encoding="utf-8")
    facts = {"extended": {"from": 16, "positions": shape(16).positions.model_dump(mode="json")}}
    model = random_model(shape(128, positions={"rope_scaling": YARN}))
    bench = bench_of(model, [returning(40, 150)], tmp_path, facts)
    checkpoint = replace(bench.loaded.checkpoint, path=run / "checkpoints" / "one")
    found = measured(replace(bench, loaded=replace(bench.loaded, checkpoint=checkpoint)))
    assert "sliding" not in found and any("--base" in note for note in bench.findings.notes)


def test_a_larger_base_that_was_trained_since_is_no_reference(tmp_path: Path):
    model = random_model(shape(128, positions={"rope_theta": 90_000.0}))  # no scaling tells of it
    facts = {"extension": {"from": 16, "trained": 128, "positions": {"kind": "rope"}}}
    bench = bench_of(model, [returning(40, 150)], tmp_path, facts, limit=4)
    found = measured(bench)
    assert list(values(found, "nats")) == [4, 8, 16, 32, 64, 128] and "sliding" not in found
    assert any("--base" in note for note in bench.findings.notes)


@pytest.mark.parametrize(
    "fact", [3, {"from": 16}, {"from": "x", "positions": 1}, {"positions": {"kind": "no"}}]
)
def test_damaged_facts_are_one_error_or_a_note(fact: object, tmp_path: Path):
    model = random_model(shape(128, positions={"rope_scaling": YARN}))
    bench = bench_of(model, [returning(40, 150)], tmp_path, {"extended": fact}, limit=2)
    if isinstance(fact, dict) and "positions" in fact:
        with pytest.raises(UserError):
            measured(bench)
    else:
        assert "sliding" not in measured(bench)


def test_options_of_the_task_are_refused_without_it(tmp_path: Path):
    bench = bench_of(random_model(shape(16)), [returning(40, 150)], tmp_path)
    for option in ({"base": "x"}, {"context": 8}):
        with pytest.raises(UserError, match="for the task length"):
            tasks.run(replace(bench, **option), ["domains"], bench.files)


def test_the_table_has_a_row_for_each_length(tmp_path: Path):
    model = LookingBack(shape(128, positions={"rope_scaling": YARN}), 40)
    bench = bench_of(model, [returning(40, 150, k) for k in range(5)], tmp_path)
    scores = tasks.run(bench, ["length"], bench.files)
    for name, value in (("sliding", 3.5), ("plain/64", 9.0)):
        score = Score(f"length/{name}", value, 5, "nats/token", "as it was", reference=True)
        scores.append(replace(score, data="texts.jsonl"))
    console = Console(width=110, record=True, file=io.StringIO())
    for table in score_tables(scores):
        console.print(table)
    text = console.export_text()
    rows = {line.split("│")[1].strip(): line for line in text.splitlines() if line.startswith("│")}
    assert list(rows) == ["4", "8", "16", "32", "64", "128"]
    gain = f"{UNKNOWN - KNOWN:+.4f}"
    for part in (f"{KNOWN:.4f}", f"{gain} ({gain} … {gain})", "9.0000"):
        assert part in rows["64"]
    assert "(" not in rows["16"]  # nothing is gained over itself
    assert "the line to beat: 3.5000" in text and "texts.jsonl" in text
