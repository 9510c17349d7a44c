"""Pruning, beginning from a checkpoint and distillation, as stages of one small world."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from congling.core import artifact
from congling.core.config import read_toml
from congling.core.errors import UserError
from congling.data import corpus, shards
from congling.data.config import DataConfig
from congling.infer.checkpoints import load_checkpoint
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.interop.hf import model as hf_model
from congling.methods import distill, pretrain, prune
from congling.methods.inputs import Inputs, open_inputs, read_recipe
from congling.methods.planned import begin_or_go_on
from congling.model.families import FAMILIES
from congling.plan.recipe import Recipe
from congling.tokenizer import training
from congling.tokenizer.config import TokenizerConfig
from congling.train import calibrate
from congling.train.config import TrainConfig
from congling.train.measurement import Calibration, Probe
from congling.transform.prune_sizes import Sizes

TINY = (
    "train.max_steps=6",
    "train.max_length=32",
    "train.per_device_train_batch_size=2",
    "train.torch_compile='off'",
    "train.device=cpu",
    "train.save_steps=3",
    "train.eval_steps=6",
    "train.sample_steps=6",
    "train.sample_tokens=2",
)
STUDENT = ("model.num_hidden_layers=1", "model.hidden_size=64")


@pytest.fixture(autouse=True, scope="module")
def unmeasured() -> Iterator[None]:
    """Plans by a figure in place of a measured machine: the steps are given, and measuring takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "probe", lambda *wanted: Probe(1e11, "fp32"))
        patch.setattr(calibrate, "measure", lambda *_, **__: Calibration(1e11, 0.01, 64, 10**8, 0.1))
        patch.setattr(pretrain, "TOKENS", 1024)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards, their tokenizer, and a model that has read them."""
    root = tmp_path_factory.mktemp("distill")
    lines = [f"{a}对{b}，{b}对{a}。" for a in "天地山水花鸟" for b in "风月云雨雪霜" for _ in range(4)]
    (root / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    settings = DataConfig(sources=(str(root / "text.txt"),), documents="line", deduplicate=False)
    corpus.make(settings, root / "documents")

    def texts():
        return (document.text for document in corpus.documents(root / "documents", "train"))

    training.train(TokenizerConfig(kind="character"), texts, root / "tokenizer")
    shards.write(root / "documents", root / "tokenizer", root / "shards")
    inputs = open_inputs(root / "shards", root / "tokenizer")
    config = pretrain.PretrainConfig(
        model=FAMILIES["qwen3"](
            vocab_size=inputs.shards.vocab_size,
            max_position_embeddings=32,
            num_hidden_layers=2,
            hidden_size=64,
        ),
        train=TrainConfig(
            max_steps=25, max_length=32, per_device_train_batch_size=8, device="cpu", torch_compile="off"
        ),
    )
    pretrain.run(config, inputs, root / "run")
    return root


@pytest.fixture(scope="module")
def inputs(world: Path) -> Inputs:
    return open_inputs(world / "shards", world / "tokenizer")


@pytest.fixture(scope="module")
def pruned(world: Path) -> prune.Pruned:
    return prune.run(world / "run", world / "pruned", Sizes(intermediate_size=96), shards=world / "shards")


def losses(run: Path, name: str = "loss") -> list[float]:
    from congling.core.rundir import RunDirectory

    return [row[name] for row in RunDirectory(run).log("metrics").rows() if name in row]


def test_a_pruned_model_is_a_checkpoint_like_others(world: Path, pruned: prune.Pruned, tmp_path: Path):
    assert pruned.losses is not None and 0 <= pruned.losses[1] - pruned.losses[0] < 2
    loaded, whole = load_checkpoint(pruned.out, "cpu"), load_checkpoint(world / "run", "cpu")
    assert loaded.model.config == whole.model.config.replace(mlp={"intermediate_size": 96})
    found = artifact.opened(pruned.out, "checkpoint", verify=True)
    assert found.parents["base"] == whole.checkpoint.fingerprint
    assert found.facts["pruned"]["score"] == "activation" and found.facts["pruned"]["layers"] == [0, 1]
    assert prune.REPORT in found.files
    assert pruned.report == pruned.out / "report/report.html"
    page = pruned.report.read_text("utf-8")
    assert "Before and after" in page and f"{pruned.losses[1]:.3f}" in page and "nothing recorded" not in page
    assert len(pruned.steps) == 4
    assert pruned.steps[0].command.startswith(f"congling pretrain {world / 'shards'} --tokenizer ")
    assert f"--student {pruned.out} " in pruned.steps[1].command
    foreign = ForeignModel(loaded.model.config, loaded.model.state_dict(), loaded.tokenizer, {"name": "p"})
    gguf_model.write(foreign, tmp_path / "p.gguf", "F32")
    hf_model.write(foreign, tmp_path / "hf")
    tokens = torch.arange(8)[None]
    expected = loaded.model.logits(loaded.model(tokens))
    for read in (gguf_model.read(tmp_path / "p.gguf"), hf_model.read(tmp_path / "hf")):
        model = loaded.model.__class__(read.config)
        model.load_state_dict(dict(read.weights))
        assert (model.eval().logits(model(tokens)) - expected).abs().max() <= 1e-5


def test_activation_scores_lose_less_than_leaving_out_what_they_keep(world: Path, pruned: prune.Pruned):
    from congling.data.batches import CorpusBatches
    from congling.evals.loss import evaluate
    from congling.model.transformer import Transformer
    from congling.transform.prune import prune as cut
    from congling.transform.prune_scores import activation

    whole = load_checkpoint(world / "run", "cpu").model
    text = shards.open_shards(world / "shards")
    rows = CorpusBatches(text["train"], context=32, rows=4)(0)
    scores = activation(whole, (torch.from_numpy(batch.tokens) for batch in rows))
    for hidden in scores.hidden:
        hidden.neg_()
    config, weights, _ = cut(whole.config, whole.state_dict(), scores, Sizes(intermediate_size=96))
    worst = Transformer(config)
    worst.load_state_dict(weights)
    assert pruned.losses is not None
    assert evaluate(worst, text["validation"], overlap=0).nats_per_token > pruned.losses[1]


def test_pretraining_goes_on_from_a_checkpoint(world: Path, pruned: prune.Pruned, inputs, tmp_path: Path):
    task = pretrain.begun_from(pruned.out)
    out = tmp_path / "run"
    begin_or_go_on(read_recipe(Recipe, None, TINY), inputs, out, force=True, variant=task)
    fresh = read_recipe(
        Recipe,
        None,
        (*TINY, "model.num_hidden_layers=2", "model.hidden_size=64", "model.intermediate_size=96"),
    )
    begin_or_go_on(fresh, inputs, tmp_path / "fresh", force=True)
    assert losses(out)[0] < 0.8 * losses(tmp_path / "fresh")[0]
    config = read_toml(out / "config.toml")
    assert config["model"]["mlp"]["intermediate_size"] == 96
    rates = [
        read_toml(tmp_path / run / "config.toml")["train"]["optimizer"]["learning_rate"]
        for run in ("run", "fresh")
    ]
    assert rates[0] == pytest.approx(0.3 * rates[1])
    checkpoint = artifact.opened(out / "checkpoints/step-00000006", "checkpoint")
    assert checkpoint.parents["start"] == task.start.artifact.fingerprint  # type: ignore[union-attr]
    before = (out / "metrics.jsonl").read_bytes()
    begin_or_go_on(read_recipe(Recipe, None, TINY), inputs, out, force=True, variant=task)
    assert (out / "metrics.jsonl").read_bytes() == before
    with pytest.raises(UserError, match="made from other start"):
        other = pretrain.begun_from(world / "run")
        begin_or_go_on(read_recipe(Recipe, None, TINY), inputs, out, force=True, variant=other)
    with pytest.raises(UserError, match="the model is that of the checkpoint: 'hidden_size'"):
        asked = read_recipe(Recipe, None, (*TINY, "model.hidden_size=128"))
        begin_or_go_on(asked, inputs, tmp_path / "new", force=True, variant=task)


def distilled(world: Path, inputs, out: Path, *settings: str, **options) -> Path:
    asked = distill.read_recipe(None, (*TINY, *settings))
    return distill.run(world / "run", asked, inputs, out, force=True, **options).path


@pytest.mark.parametrize("own", ["", "distill.lmbda=0.5"])
def test_a_distilled_run_goes_on_to_the_same_bytes(world: Path, inputs, tmp_path: Path, own: str):
    import shutil

    from congling.core.rundir import RunDirectory

    settings = (*STUDENT, "distill.divergence=js", "distill.temperature=2", *([own] if own else []))
    whole = distilled(world, inputs, tmp_path / "whole", *settings)
    assert len(losses(whole, "divergence")) == 6
    assert read_toml(whole / "config.toml")["distill"]["divergence"] == "js"
    shutil.copytree(whole, half := tmp_path / "half")
    shutil.rmtree(half / "checkpoints/step-00000006")
    RunDirectory(half).point("LATEST", half / "checkpoints/step-00000003")
    distilled(world, inputs, half, *settings)
    last = "checkpoints/step-00000006"
    for name in ("metrics.jsonl", f"{last}/model.safetensors", f"{last}/state/optimizer.safetensors"):
        assert (half / name).read_bytes() == (whole / name).read_bytes(), name
    if own:  # rows of the student's own: three quarters of a row count, and that is what tokens say
        counts = {row["tokens"] for row in RunDirectory(whole).log("metrics").rows() if "loss" in row}
        assert any(count % 64 for count in counts)


FEW_BITS = {
    "rtn": ("quantization.method=rtn", "quantization.bits=2", "quantization.group_size=32"),
    "onebit": ("quantization.method=onebit", "train.ema_decay=0.5"),
}


@pytest.mark.parametrize("method", FEW_BITS)
def test_a_student_in_few_bits_is_its_teacher_and_goes_on_to_the_same_bytes(
    world: Path, inputs, tmp_path: Path, method: str
):
    import shutil

    from congling.core.rundir import RunDirectory
    from congling.quant.frozen import FrozenLinear

    settings = (*FEW_BITS[method], "distill.hidden=1")
    whole = distilled(world, inputs, tmp_path / "whole", *settings)
    assert (
        len(losses(whole, "hidden")) == 6 and losses(whole, "divergence")[-1] < losses(whole, "divergence")[0]
    )
    assert read_toml(whole / "config.toml")["quantization"]["method"] == method
    shutil.copytree(whole, half := tmp_path / "half")
    shutil.rmtree(half / "checkpoints/step-00000006")
    RunDirectory(half).point("LATEST", half / "checkpoints/step-00000003")
    distilled(world, inputs, half, *settings)
    last = "checkpoints/step-00000006"
    names = (
        "model.safetensors",
        "quantization.json",
        "state/optimizer.safetensors",
        "state/weights.safetensors",
    )
    for name in ("metrics.jsonl", *(f"{last}/{name}" for name in names)):
        assert (half / name).read_bytes() == (whole / name).read_bytes(), name
    loaded = load_checkpoint(whole, "cpu")
    assert sum(isinstance(one, FrozenLinear) for one in loaded.model.modules()) == 14
    assert loaded.checkpoint.facts["quantization"]["method"] == method
    assert loaded.model(torch.arange(8)[None]).isfinite().all()


def test_pretraining_in_few_bits_begins_as_the_model_it_is_given(world: Path, inputs, tmp_path: Path):
    asked = read_recipe(Recipe, None, (*TINY, "quantization.method=rtn", "quantization.bits=8"))
    task = pretrain.begun_from(world / "run", asked)
    begin_or_go_on(asked, inputs, tmp_path / "run", force=True, variant=task)
    assert losses(tmp_path / "run")[0] < losses(world / "run")[0]
    asked = read_recipe(Recipe, None, (*TINY, "quantization.method=onebit"))
    with pytest.raises(UserError, match="one-bit layers begin as a trained model's"):
        pretrain.begun_from(None, asked)


def test_a_pruned_student_learns_from_its_teacher(world: Path, inputs, tmp_path: Path):
    small = prune.run(world / "run", tmp_path / "small", Sizes(num_hidden_layers=1, intermediate_size=16))
    assert small.losses is None and small.after["num_hidden_layers"] == 1
    out = distilled(world, inputs, tmp_path / "run", student=small.out)
    found = losses(out, "divergence")
    assert found[-1] < found[0]
    checkpoint = artifact.opened(out / "checkpoints/step-00000006", "checkpoint")
    assert {"teacher", "start", "shards", "tokenizer"} <= set(checkpoint.parents)


def test_teacher_and_shards_must_have_one_tokenizer(world: Path, inputs, tmp_path: Path):
    (tmp_path / "text.txt").write_text("子曰学而时习之\n不亦说乎\n", encoding="utf-8")
    corpus.make(DataConfig(sources=(str(tmp_path / "text.txt"),), documents="line"), tmp_path / "documents")
    training.train(TokenizerConfig(kind="character"), lambda: ["子曰学而时习之"], tmp_path / "tokenizer")
    shards.write(tmp_path / "documents", tmp_path / "tokenizer", tmp_path / "shards")
    other = open_inputs(tmp_path / "shards", tmp_path / "tokenizer")
    with pytest.raises(UserError, match="the teacher has another tokenizer than the shards"):
        distilled(world, other, tmp_path / "run", *STUDENT)
    with pytest.raises(UserError, match="the checkpoint has another tokenizer than the shards"):
        task = pretrain.begun_from(world / "run")
        begin_or_go_on(read_recipe(Recipe, None, TINY), other, tmp_path / "run", variant=task)
    with pytest.raises(UserError, match="made with another tokenizer"):
        prune.run(world / "run", tmp_path / "pruned", Sizes(intermediate_size=96), shards=tmp_path / "shards")


def test_rows_longer_than_the_teacher_reads_are_refused(world: Path, inputs, tmp_path: Path):
    with pytest.raises(UserError, match=r"train\.max_length is longer than the teacher's: 64"):
        distilled(world, inputs, tmp_path / "run", *STUDENT, "train.max_length=64")


def test_what_cannot_be_pruned_says_so(world: Path, pruned: prune.Pruned, tmp_path: Path):
    with pytest.raises(UserError, match="activations need a text"):
        prune.run(world / "run", tmp_path / "a", Sizes(intermediate_size=96), score="activation")
    with pytest.raises(UserError, match="there is something already"):
        prune.run(world / "run", pruned.out, Sizes(intermediate_size=96))
    with pytest.raises(UserError, match="nothing to prune"):
        prune.run(world / "run", tmp_path / "a", Sizes())
    assert not (tmp_path / "a").exists()
