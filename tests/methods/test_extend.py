"""``congling extend``: what is written, what is told, what is refused, and what a search finds."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from congling.cli import application
from congling.core import artifact
from congling.core.errors import UserError
from congling.evals.paired import Difference
from congling.infer.checkpoints import load_checkpoint
from congling.interop import checkpoint_directory
from congling.methods import conversion, extend, prune, ramps
from congling.methods.ramps import Line
from congling.model.config import RotaryConfig
from congling.model.rope_scaling import YarnScaling
from congling.transform.extend import extended
from congling.transform.prune_sizes import Sizes
from support.tiny_checkpoint import TOKENIZER, write

L = 64
TEXT = "学而时习之不亦说乎云对雨雪风晚照晴空"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("extend") / "base")


def text_of(folder: Path, characters: int, encoding: str = "utf-8") -> str:
    drawn = np.random.default_rng(0).choice(list(TEXT), characters)
    (folder / "text.txt").write_text("".join(drawn), encoding=encoding)
    return str(folder / "text.txt")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoint_directory.read(path).weights)


def test_positions_change_and_no_weight_does(base: Path, tmp_path: Path) -> None:
    made = extend.run(base, tmp_path / "long", context=256)
    assert (made.trained, made.context, made.factor, made.method) == (L, 256, 4, "yarn")
    assert made.positions == "rotary, base 10000, yarn × 4 from 64 tokens, scores × 1.296"
    assert made.pairs is not None and sum(made.pairs) == 8
    before, after = weights(base), weights(made.out)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    loaded = load_checkpoint(made.out, "cpu")
    assert loaded.model.config == extended(load_checkpoint(base, "cpu").model.config, "yarn", 256)
    facts = loaded.checkpoint.facts
    assert facts["chat"] is True and facts["context"] == 256 and loaded.tuned_for_chat
    assert {key: facts["extended"][key] for key in ("method", "factor", "from", "to")} == {
        "method": "yarn",
        "factor": 4.0,
        "from": L,
        "to": 256,
    }
    assert facts["extended"]["positions"]["rope_scaling"] is None
    assert (
        artifact.opened(made.out, "checkpoint").parents["base"]
        == artifact.opened(base, "checkpoint").fingerprint
    )
    page = (made.out / "report" / "report.html").read_text("utf-8")
    assert "context extended by yarn from 64 to 256 tokens" in page
    assert [step.command.split()[1] for step in made.steps] == ["eval", "chat", "convert"]
    assert loaded.model(torch.arange(20).repeat(10)[None]).isfinite().all()


def test_shards_of_the_base_are_those_of_the_extended_model(tmp_path: Path) -> None:
    folder = write(tmp_path / "base")
    again = tmp_path / "again"
    with artifact.writing(again, "checkpoint") as inner:  # its tokenizer holds more than its own files
        for name in ("model.safetensors", "model.json"):
            shutil.copy(folder / name, inner / name)
        with artifact.writing(inner / "tokenizer", "tokenizer") as words:
            for file in (folder / "tokenizer").iterdir():
                if file.name != "MANIFEST.json":
                    shutil.copy(file, words / file.name)
            (words / "report.json").write_text("{}")
    made = extend.run(again, tmp_path / "long", context=256)
    known = [artifact.opened(path / "tokenizer", "tokenizer").fingerprint for path in (again, made.out)]
    assert known[0] == known[1]


def test_clex_adds_a_curve_that_a_seed_draws(base: Path, tmp_path: Path) -> None:
    made = [
        extend.run(base, tmp_path / name, context=200, method="clex", seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    first, second, third = (weights(one.out) for one in made)
    assert set(first) - set(weights(base)) == {"positions.up", "positions.down"}
    assert torch.equal(first["positions.up"], second["positions.up"])
    assert not torch.equal(first["positions.up"], third["positions.up"])
    assert not first["positions.down"].any()
    assert made[0].steps[-1].command.endswith(f"--to hf --freeze 200 --out {tmp_path / 'a-hf'}")
    again = extend.run(made[0].out, tmp_path / "yarn", context=200)
    assert weights(again.out).keys() == weights(base).keys()


def test_extended_again_it_begins_at_its_base(base: Path, tmp_path: Path) -> None:
    extend.run(base, tmp_path / "once", context=128, method="ntk")  # whose base nothing but the facts tells
    again = extend.run(tmp_path / "once", tmp_path / "twice", context=256)
    assert any("replaced, not added to" in note for note in again.notes)
    assert again.trained == L and again.factor == 4
    straight = extend.run(base, tmp_path / "straight", context=256)
    assert load_checkpoint(again.out).model.config == load_checkpoint(straight.out).model.config


def test_what_was_trained_since_keeps_its_kind_and_its_curve(base: Path, tmp_path: Path) -> None:
    for method in ("yarn", "clex"):
        made = extend.run(base, tmp_path / method, context=128, method=method)
        model = checkpoint_directory.read(made.out)
        facts = {**model.facts, "step": 9}
        with artifact.writing(tmp_path / f"{method}-trained", "checkpoint", facts=facts) as folder:
            checkpoint_directory.write(model, folder)
    with pytest.raises(UserError, match="which its weights may rely on"):
        extend.run(tmp_path / "yarn-trained", tmp_path / "no", context=256, method="linear")
    again = extend.run(tmp_path / "clex-trained", tmp_path / "again", context=256, method="clex", seed=7)
    before, after = weights(tmp_path / "clex-trained"), weights(again.out)
    assert torch.equal(before["positions.up"], after["positions.up"])
    assert again.trained == L and again.factor == 4


def test_a_pruned_model_keeps_its_curve(base: Path, tmp_path: Path) -> None:
    extend.run(base, tmp_path / "clex", context=128, method="clex")
    prune.run(tmp_path / "clex", tmp_path / "pruned", Sizes(num_hidden_layers=1))
    up = weights(tmp_path / "pruned")["positions.up"]
    assert torch.equal(up, weights(tmp_path / "clex")["positions.up"])


def test_other_models_and_packed_ones_are_written_here(base: Path, tmp_path: Path) -> None:
    conversion.run(base, "gguf", tmp_path / "a.gguf", type="Q8_0", verify=False)
    made = extend.run(tmp_path / "a.gguf", tmp_path / "long", context=128, method="linear")
    assert "weights of a.gguf are written unpacked" in made.notes
    assert load_checkpoint(made.out, "cpu").checkpoint.facts["source"] == {"format": "gguf", "file": "a.gguf"}
    conversion.run(base, "hf", tmp_path / "hf", verify=False)
    assert extend.run(tmp_path / "hf", tmp_path / "other", context=128, method="linear").factor == 2


def test_alibi_reads_on_and_learned_positions_do_not(tmp_path: Path) -> None:
    alibi = write(tmp_path / "alibi", positions={"kind": "alibi"})
    made = extend.run(alibi, tmp_path / "long", context=256)
    assert made.method == "none" and "no further back" in " ".join(made.notes)
    config = load_checkpoint(made.out, "cpu").model.config
    assert config == load_checkpoint(alibi, "cpu").model.config.replace(max_position_embeddings=256)
    told = extend.run(alibi, tmp_path / "told", context=256, search=True, data=[text_of(tmp_path, 900)])
    assert [line.name for line in told.lines] == ["sliding", "plain", "ALiBi"]
    assert told.lines[1].nats == told.lines[2].nats
    learned = write(tmp_path / "gpt2", "gpt2")
    with pytest.raises(UserError, match="use a rotary model"):
        extend.run(learned, tmp_path / "no", context=256)
    assert not (tmp_path / "no").exists()


def test_a_search_compares_the_same_tokens_and_takes_the_best_ramp(base: Path, tmp_path: Path) -> None:
    text = text_of(tmp_path, 3000)
    made = extend.run(base, tmp_path / "long", context=256, search=True, data=[text])
    names = [line.name for line in made.lines]
    assert names[:4] == ["sliding", "plain", "linear", "ntk"]
    tried = {line.beta for line in made.lines if line.beta}
    assert tried == {(32 * k, k) for k in (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)}  # 2π·16 > 64
    chosen = min((line for line in made.lines if line.beta), key=lambda line: line.nats)
    loaded = load_checkpoint(made.out, "cpu")
    assert isinstance(loaded.model.config.positions, RotaryConfig)
    scaling = loaded.model.config.positions.rope_scaling
    assert isinstance(scaling, YarnScaling)
    assert (
        scaling.beta_fast,
        scaling.beta_slow,
    ) == chosen.beta and scaling.magnitude == chosen.attention_factor
    told = loaded.checkpoint.facts["extended"]["measured"]
    assert told["windows"] == 3002 // 257 and told["verdict"] == made.verdict
    assert [line["nats"] for line in told["lines"]] == [line.nats for line in made.lines]
    again = extend.run(base, tmp_path / "again", context=256, search=True, data=[text])
    assert again.lines == made.lines
    assert "Without training" in (made.out / "report" / "report.html").read_text("utf-8")


def test_losses_are_those_of_the_model_that_is_written(base: Path, tmp_path: Path) -> None:
    from congling.evals.length import tail_losses
    from congling.evals.likelihood import text_ids

    text = text_of(tmp_path, 900)
    for method in ("linear", "dynamic", "clex"):
        made = extend.run(base, tmp_path / method, context=256, method=method, data=[text])
        windows = ramps.cut([text_ids(TOKENIZER, Path(text).read_text("utf-8"))], 256)
        found = tail_losses(load_checkpoint(made.out, "cpu").model, windows, (L, 256), L // 4)
        assert made.lines[-1].nats == pytest.approx(found[:, 1].mean(), abs=1e-6)
        assert made.lines[-1].within == pytest.approx(found[:, 0].mean(), abs=1e-6)
        before = tail_losses(load_checkpoint(base, "cpu").model, windows, (L,), L // 4)
        assert made.lines[0].nats == pytest.approx(before.mean(), abs=1e-6)


def line(name: str, nats: float, over: Difference, beta: tuple[float, float] | None = None) -> Line:
    return Line(name, nats, nats + 0.1, over, beta, None)


def test_what_the_losses_say() -> None:
    none = Difference(0.0, 0.0, 0.0, "paired", 9)
    better, unsure = Difference(-0.05, -0.07, -0.03, "paired", 9), Difference(-0.01, -0.03, 0.01, "paired", 9)
    worse = Difference(0.02, 0.01, 0.03, "paired", 9)
    sliding = line("sliding", 3.0, none)
    said = ramps.verdict([sliding, line("ramp", 2.95, better, (32, 1))], 256, 9, True)
    assert said.startswith("ramp is 0.050 nats below the sliding window of 256 tokens; within 256 tokens")
    said = ramps.verdict([sliding, line("ramp", 2.99, unsure, (32, 1))], 256, 9, True)
    assert "9 windows are too few to be sure of" in said
    said = ramps.verdict(
        [sliding, line("ramp", 3.02, worse, (32, 1)), line("b", 3.5, worse, (8, 1))], 256, 9, True
    )
    assert said.startswith(
        "no ramp beats the sliding window of 256 tokens, which costs nothing: the nearest, ramp,"
    )
    said = ramps.verdict(
        [sliding, line("ntk", 2.9, better), line("ramp", 2.95, better, (32, 1))], 256, 9, True
    )
    assert "ntk is better still" in said
    with pytest.raises(UserError, match="none of the ramps"):
        ramps.best([sliding])


def test_only_what_the_target_can_hold(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="llama2c cannot hold this"):
        extend.run(base, tmp_path / "no", context=256, to="llama2c")
    with pytest.raises(UserError, match="none of the ramps"):
        extend.run(
            base, tmp_path / "no", context=256, to="llama2c", search=True, data=[text_of(tmp_path, 900)]
        )
    assert not (tmp_path / "no").exists()


def refused(words: list[Any]) -> str:
    words = ["extend", *map(str, words)]
    done = CliRunner().invoke(application(words), words)
    assert done.exit_code == 1 and isinstance(done.exception, UserError), done.output
    return str(done.exception)


def test_bad_input_is_one_message_and_leaves_nothing(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "long"
    (tmp_path / "short.txt").write_text("学而时习之", encoding="utf-8")
    (tmp_path / "factors.json").write_text('{"long_factor": [1, "2"]}')
    (tmp_path / "empty").mkdir()
    cases = {
        "no held-out text has 257 tokens": ["--search", "--data", tmp_path / "short.txt"],
        "none is beside the model": ["--search"],
        "--search tries the ramps": ["--search", "--method", "ntk"],
        "are two texts": ["--shards", "a", "--data", "b"],
        "two numbers": ["--beta", "32"],
        "a number from 1 on": ["--factor", "nan"],
        "there are no factors in this file": ["--method", "longrope", "--factors", tmp_path / "factors.json"],
        "nowhere.txt": ["--search", "--data", tmp_path / "nowhere.txt"],
    }
    for said, words in cases.items():
        assert said in refused([base, "--context", 256, *words, "--out", out]), said
    assert "longer than what the model was trained on" in refused([base, "--context", L, "--out", out])
    assert "told apart" in refused([base, "--context", 10**9, "--out", out])
    assert "no such" in refused([tmp_path / "nothing", "--context", 256, "--out", out])
    refused([tmp_path / "empty", "--context", 256, "--out", out])
    assert "exists already" in refused([base, "--context", 256, "--out", base])
    assert not out.exists()


def test_a_damaged_record_of_the_base_is_said(base: Path, tmp_path: Path) -> None:
    made = extend.run(base, tmp_path / "long", context=256)
    manifest = json.loads((made.out / "MANIFEST.json").read_text("utf-8"))
    manifest.pop("checksum")
    manifest["facts"]["extended"]["positions"] = {"kind": "rope", "rope_theta": -1}
    (made.out / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UserError, match="rope_theta"):
        extend.run(made.out, tmp_path / "again", context=512)
    manifest["facts"]["extended"] = "yes"
    (made.out / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UserError, match="does not say what it was extended from"):
        extend.run(made.out, tmp_path / "again", context=512)


def test_texts_in_the_encoding_of_chinese_files(base: Path, tmp_path: Path) -> None:
    text = text_of(tmp_path, 900, "gb18030")
    made = extend.run(base, tmp_path / "long", context=256, data=[text])
    assert len(made.lines) == 3 and made.verdict


def test_the_command_prints_a_table_and_where_it_stands(base: Path, tmp_path: Path) -> None:
    words = [
        "extend",
        str(base),
        "--context",
        "256",
        "--data",
        text_of(tmp_path, 900),
        "--out",
        str(tmp_path / "a"),
    ]
    done = CliRunner().invoke(application(words), words)
    assert done.exit_code == 0, done.output
    for said in ("64 → 256 tokens, factor 4", "pairs of channels:", "can go to:", "sliding", "congling eval"):
        assert said in done.output, done.output
