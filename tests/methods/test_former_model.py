"""The way back from a model to what it was before its context was extended."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from congling.core import artifact
from congling.core.artifact import Artifact
from congling.infer.checkpoints import load_checkpoint
from congling.interop import checkpoint_directory
from congling.interop.foreign import ForeignModel
from congling.methods import evaluation
from congling.methods.former_model import former_model
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from support.tiny_checkpoint import TOKENIZER

YARN = {"rope_scaling": {"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 16}}
PLAIN: dict[str, Any] = {"kind": "rope"}


def written(
    folder: Path,
    positions: dict[str, Any],
    context: int,
    *,
    seed: int = 0,
    facts: dict[str, Any] | None = None,
    parents: dict[str, Artifact] | None = None,
) -> Artifact:
    small = {"vocab_size": TOKENIZER.vocab_size, "num_hidden_layers": 1, "hidden_size": 32}
    config = FAMILIES["llama"](max_position_embeddings=context, num_attention_heads=2, **small)  # type: ignore[arg-type]
    model = Transformer(config.replace(positions=positions))
    torch.manual_seed(seed)
    for tensor in model.parameters():
        tensor.data.add_(torch.randn_like(tensor) * 0.3)
    with artifact.writing(folder, "checkpoint", facts=facts or {}, parents=parents or {}) as inner:
        checkpoint_directory.write(ForeignModel(model.config, model.state_dict(), TOKENIZER), inner)
    return artifact.opened(folder, "checkpoint")


def extended(folder: Path) -> Artifact:
    return written(folder, YARN, 128, facts={"extended": {"from": 16, "to": 128, "positions": PLAIN}})


def run_of(folder: Path, base: Artifact, positions: dict[str, Any], **options: Any) -> Artifact:
    """A run that was begun with a checkpoint, as training leaves it."""
    found = written(
        folder / "checkpoints" / "step-00000001",
        positions,
        128,
        parents={options.pop("role", "start"): base},
        facts={"step": 1} | options,
        seed=5,
    )
    (folder / "LATEST").write_text("step-00000001\n")
    (folder / "metrics.jsonl").write_text('{"step": 1, "tokens": 10, "loss": 3.0}\n')
    (folder / "plan.json").write_text(json.dumps({"base": {"path": str(base.path)}}))
    return found


def test_an_extended_checkpoint_and_a_plain_one_need_no_other(tmp_path: Path):
    assert former_model(written(tmp_path / "plain", PLAIN, 16)) is None
    long = extended(tmp_path / "long")
    assert former_model(long) is None  # its own weights, read as they were before
    assert former_model(long, adapted=True) == long.path  # without the adapters


@pytest.mark.parametrize("role", ["start", "base"])
def test_what_was_trained_since_leads_to_what_it_began_with(role: str, tmp_path: Path):
    long = extended(tmp_path / "long")
    trained = run_of(tmp_path / "run", long, YARN, role=role)
    assert former_model(trained) == long.path
    again = run_of(tmp_path / "again", trained, YARN, extension={"from": 16, "positions": PLAIN})
    assert former_model(again) == long.path


def test_what_was_extended_while_it_was_trained_leads_to_its_base(tmp_path: Path):
    plain = written(tmp_path / "plain", PLAIN, 16)
    assert former_model(run_of(tmp_path / "run", plain, YARN)) == plain.path
    assert former_model(run_of(tmp_path / "tuned", plain, PLAIN)) is None  # nothing was extended


def test_a_base_that_is_gone_or_another_is_not_taken(tmp_path: Path):
    long = extended(tmp_path / "long")
    trained = run_of(tmp_path / "run", long, YARN)
    plan = tmp_path / "run" / "plan.json"
    other = written(tmp_path / "other", YARN, 128, seed=9)
    for text in (
        json.dumps({"base": {"path": str(other.path)}}),
        '{"base": {"path": "gone"}}',
        "[",
        '{"base": 3}',
    ):
        plan.write_text(text)
        assert former_model(trained) is None


def test_a_model_trained_since_is_measured_against_what_was_extended(tmp_path: Path):
    """Through ``measure``: the line to beat is that of the weights from before, over their own length."""
    long = extended(tmp_path / "long")
    run_of(tmp_path / "run", long, YARN)
    letters = "从零开始学而时习之不亦说乎云对雨雪风晚照晴空"
    texts = ["".join(letters[(i * i + i * k + k) % 22] for i in range(140)) for k in range(5)]
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    data = [str(tmp_path / "texts.jsonl")]
    values = []
    for place in (tmp_path / "run", long.path):
        scores, findings = evaluation.measure(place, "length", data, limit=8)
        found = {score.name: score.value for score in scores}
        values.append((found["length/sliding"], found["length/plain/64"]))
        assert found["length/below-sliding/64"] == pytest.approx(
            found["length/sliding"] - found["length/nats/64"], abs=1e-9
        )
        assert not any("--base" in note for note in findings.notes)
    assert values[0] == pytest.approx(values[1], abs=1e-6)
    assert evaluation.record.results_of(long.path)["scores"].keys() == {score.label for score in scores}
    assert load_checkpoint(long.path).checkpoint.fingerprint == long.fingerprint
