"""A model is scored as it was trained to read: with or without the mask between documents."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from congling.core.rundir import RunDirectory
from congling.data import corpus, shards
from congling.data.config import DataConfig
from congling.evals.loss import evaluate, evaluate_loaded
from congling.infer.checkpoints import load_checkpoint
from congling.infer.reading import Reading, reading_of
from congling.methods import distill, evaluation, pretrain, prune, sft
from congling.methods.inputs import open_inputs
from congling.model.families import FAMILIES
from congling.tokenizer import training
from congling.tokenizer.config import TokenizerConfig
from congling.train import calibrate
from congling.train.config import TrainConfig
from congling.train.measurement import Calibration, Probe
from congling.transform.prune_sizes import Sizes

CONTEXT = 48


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Short documents, several to a row, and a run with the mask."""
    root = tmp_path_factory.mktemp("reading")
    lines = [
        f"{a}对{b}，{b}对{a}。" for a in "天地山水花鸟日星" for b in "风月云雨雪霜雷电" for _ in range(4)
    ]
    (root / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    corpus.make(
        DataConfig(sources=(str(root / "text.txt"),), documents="line", deduplicate=False), root / "documents"
    )

    def texts() -> Iterator[str]:
        return (document.text for document in corpus.documents(root / "documents", "train"))

    training.train(TokenizerConfig(kind="character"), texts, root / "tokenizer")
    shards.write(root / "documents", root / "tokenizer", root / "shards")
    inputs = open_inputs(root / "shards", root / "tokenizer")
    config = pretrain.PretrainConfig(
        model=FAMILIES["qwen3"](
            vocab_size=inputs.shards.vocab_size,
            max_position_embeddings=2 * CONTEXT,
            num_hidden_layers=2,
            hidden_size=64,
        ),
        train=TrainConfig(
            max_steps=40,
            max_length=CONTEXT,
            per_device_train_batch_size=8,
            device="cpu",
            torch_compile="off",
            precision="fp32",
            document_mask=True,
            eval_steps=40,
            save_steps=40,
        ),
    )
    pretrain.run(config, inputs, root / "run")
    yield root


def last_look(run: Path) -> float:
    rows = RunDirectory(run).log("metrics").rows()
    return [row["validation_loss"] for row in rows if "validation_loss" in row][-1]


def test_eval_scores_as_training_looked(world: Path):
    found = evaluation.run(world / "run", world / "shards", copying=False)
    look, loaded = last_look(world / "run"), load_checkpoint(world / "run", "cpu")
    split = shards.open_shards(world / "shards")["validation"]
    assert found.loss.nats_per_token <= look + 1e-6
    assert evaluate_loaded(loaded, split, overlap=0).nats_per_token == pytest.approx(look, rel=1e-5)
    unmasked = evaluate(loaded.model, split, context=CONTEXT).nats_per_token
    assert unmasked > look + 0.02  # what was said before
    assert "inside documents" in found.reading
    assert found.reading in found.notes


def test_checkpoints_know_how_rows_were_read(world: Path):
    loaded = load_checkpoint(world / "run", "cpu")
    assert loaded.checkpoint.facts["document_mask"] is True and loaded.reading == Reading(CONTEXT, True)


def test_older_checkpoints_are_read_by_the_configuration_of_their_run(world: Path, tmp_path: Path):
    loaded = load_checkpoint(world / "run", "cpu")
    old = replace(loaded.checkpoint, facts={})
    assert reading_of(old, loaded.model.config) == Reading(CONTEXT, True)
    alone = replace(old, path=tmp_path / "somewhere" / "checkpoint")
    found = reading_of(alone, loaded.model.config)
    assert found == Reading(2 * CONTEXT, document_mask=False, recorded=False)
    assert "not recorded" in found.told() and not found.facts()
    (tmp_path / "config.toml").write_text("this is no TOML = = =", encoding="utf-8")
    assert not reading_of(alone, loaded.model.config).recorded


def test_pruning_measures_and_hands_on_the_mask(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    from congling.transform import prune_scores

    scored = prune_scores.activation

    def watched(model, rows):
        rows = list(rows)
        seen.extend(rows)
        return scored(model, rows)

    monkeypatch.setattr(prune_scores, "activation", watched)
    found = prune.run(
        world / "run", tmp_path / "pruned", Sizes(intermediate_size=96), shards=world / "shards"
    )
    assert found.losses is not None
    assert found.losses[0] == pytest.approx(last_look(world / "run"), rel=1e-5)
    assert all(documents is not None and tokens.shape[1] == CONTEXT for tokens, _, documents in seen)
    assert load_checkpoint(tmp_path / "pruned", "cpu").reading == Reading(CONTEXT, True)


def test_a_tuned_model_keeps_how_its_base_was_trained_to_read(world: Path, tmp_path: Path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "天对", "response": "风"}\n{"prompt": "地对", "response": "月"}\n')
    small = ["train.max_steps=1", "train.max_length=24", "train.torch_compile=off", "train.device=cpu"]
    sft.run(world / "run", sft.read_recipe(small, [str(rows)]), tmp_path / "sft", force=True)
    assert load_checkpoint(tmp_path / "sft", "cpu").reading == Reading(CONTEXT, True)


@pytest.mark.parametrize("asked", [(), ("train.document_mask=false",)])
def test_who_learns_from_it_reads_as_it_does(
    world: Path, tmp_path: Path, asked: tuple[str, ...], monkeypatch
):
    monkeypatch.setattr(calibrate, "probe", lambda *wanted: Probe(1e11, "fp32"))
    monkeypatch.setattr(calibrate, "measure", lambda *_, **__: Calibration(1e11, 0.01, 64, 10**8, 0.1))
    inputs = open_inputs(world / "shards", world / "tokenizer")
    small = (
        "train.max_steps=1",
        "train.max_length=32",
        "train.per_device_train_batch_size=2",
        "train.torch_compile='off'",
        "train.device=cpu",
        "model.num_hidden_layers=1",
        "model.hidden_size=64",
        *asked,
    )
    out = tmp_path / "student"
    distill.run(world / "run", distill.read_recipe(None, small), inputs, out, force=True)
    assert load_checkpoint(out, "cpu").reading == Reading(32, not asked)
