"""Fine-tuning: an adapter beside a frozen base, or the whole model, on rows of which answers are learnt."""

import json
import math
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from congling.core import artifact
from congling.core.errors import UserError
from congling.core.lock import only_writer
from congling.data import corpus, shards
from congling.data.config import DataConfig
from congling.infer.checkpoints import load_checkpoint
from congling.interop import adapter_directory
from congling.interop.adapters import read_any
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.interop.source import locate_checkpoint
from congling.methods import pretrain, quantize, sft
from congling.methods.inputs import open_inputs
from congling.methods.session import Tuned
from congling.model.families import FAMILIES
from congling.quant.coded import CodedLinear
from congling.quant.config import RtnConfig
from congling.tokenizer import training
from congling.tokenizer.config import TokenizerConfig
from congling.train.config import TrainConfig
from congling.transform.config import LongLoRAConfig
from congling.transform.longlora import shift

COLOURS = {"天": "青", "地": "黄", "山": "绿", "雪": "白", "墨": "黑", "花": "红"}
TINY = (
    "train.max_steps=24",
    "train.max_length=48",
    "train.per_device_train_batch_size=4",
    "train.torch_compile=off",
    "train.device=cpu",
    "train.precision=fp32",
    "train.save_steps=6",
    "train.eval_steps=6",
    "train.sample_tokens=4",
    "train.optimizer.learning_rate=0.01",
)
ADAPTER = ("adapter.r=4", "adapter.lora_dropout=0.1")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has read a little, and the file of rows beside it."""
    root = tmp_path_factory.mktemp("sft")
    things = list(COLOURS)
    lines = [f"{COLOURS[a]}色的{a}，{COLOURS[b]}色的{b}。" for a in things for b in things for _ in range(2)]
    (root / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    corpus.make(
        DataConfig(sources=(str(root / "text.txt"),), documents="line", deduplicate=False), root / "documents"
    )

    def texts():
        return (document.text for document in corpus.documents(root / "documents", "train"))

    training.train(TokenizerConfig(kind="character"), texts, root / "tokenizer")
    shards.write(root / "documents", root / "tokenizer", root / "shards")
    inputs = open_inputs(root / "shards", root / "tokenizer")
    config = pretrain.PretrainConfig(
        model=FAMILIES["qwen3"](
            vocab_size=inputs.shards.vocab_size,
            max_position_embeddings=64,
            num_hidden_layers=2,
            hidden_size=64,
        ),
        train=TrainConfig(
            max_steps=30, max_length=48, per_device_train_batch_size=8, device="cpu", torch_compile="off"
        ),
    )
    pretrain.run(config, inputs, root / "run")
    rows = [
        {"instruction": f"{a}和{b}的颜色？", "output": f"{COLOURS[a]}，{COLOURS[b]}。"}
        for a in things
        for b in things
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (root / "rows.jsonl").write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def packed(base: Path) -> Path:
    """The same model in a GGUF file."""
    loaded = load_checkpoint(base / "run", "cpu")
    target = base / "base.gguf"
    foreign = ForeignModel(loaded.model.config, loaded.model.state_dict(), loaded.tokenizer, {"name": "base"})
    gguf_model.write(foreign, target, "Q8_0")
    return target


def tuned(base: Path, place: Path, out: Path, *settings: str, **options) -> Tuned:
    recipe = sft.read_recipe([*TINY, *settings], [str(base / "rows.jsonl")])
    return sft.run(place, recipe, out, **options)


@pytest.fixture(scope="module")
def adapted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return tuned(base, base / "run", tmp_path_factory.mktemp("sft") / "run", *ADAPTER)


def test_an_adapter_learns_held_out_answers_and_leaves_the_base_alone(base: Path, adapted: Tuned):
    assert adapted.before is not None and adapted.after is not None
    assert adapted.after < 0.8 * adapted.before
    for checkpoint in adapted.out.glob("checkpoints/step-*"):
        assert not (checkpoint / "model.safetensors").exists()
        names = artifact.opened(checkpoint, "checkpoint", verify=True).files
        assert {"adapter.safetensors", "adapter.json", "state/weights.safetensors"} <= set(names)
    found = adapter_directory.read(adapted.out)
    assert found.facts["chat"] is True and len(found.factors) == 2 * 7
    assert found.facts["name"] == "run"
    with pytest.raises(UserError, match="which is no model by itself"):
        load_checkpoint(adapted.out, "cpu")
    identity = adapter_directory.base_of(found)
    assert identity.fingerprint == artifact.opened(locate_checkpoint(base / "run"), "checkpoint").fingerprint
    assert identity.model == load_checkpoint(base / "run", "cpu").model.config


def test_an_adapter_knows_how_its_base_was_stretched(base: Path, packed: Path, adapted: Tuned):
    model = load_checkpoint(base / "run", "cpu").model.config
    found = adapter_directory.read(adapted.out)
    assert found.facts["positions"] == model.positions.model_dump(mode="json")
    assert load_checkpoint(packed, "cpu", adapters=[(adapted.out, 1.0)])  # the file of the same base
    longer = model.replace(positions={"rope_scaling": {"rope_type": "linear", "factor": 4.0}})
    with pytest.raises(UserError, match="stretched otherwise.*this base: rotary, base 10000, linear × 4"):
        read_any(adapted.out, longer)


def test_answers_of_equal_weight_choose_by_their_own_loss(base: Path, tmp_path: Path):
    words = ("loss_reduction=answer", "train.max_steps=6")
    found = tuned(base, base / "run", tmp_path / "run", *words)
    assert found.name == "loss_per_answer" and found.before is not None and found.after is not None
    rows = [json.loads(line) for line in (found.out / "metrics.jsonl").read_text("utf-8").splitlines()]
    looks = [row for row in rows if "validation_loss" in row]
    assert [row["validation_loss_per_answer"] for row in looks] and found.after < found.before
    assert not any("bits_per_character" in row for row in rows)  # of steps: their loss weighs answers equally


def test_what_is_learnt_in_groups_is_measured_with_full_attention(base: Path, tmp_path: Path):
    from congling.data.tuning import conversations
    from congling.evals.answers import held_out_loss
    from congling.train.backends.single import Single

    found = tuned(base, base / "run", tmp_path / "run", *ADAPTER, "longlora.groups=8")
    assert found.adapter is not None
    loaded = load_checkpoint(base / "run", "cpu", adapters=[(found.adapter, 1.0)])
    settings = TrainConfig(
        max_steps=1, max_length=48, per_device_train_batch_size=4, device="cpu", precision="fp32"
    )
    examples = conversations.read(DataConfig(sources=(str(base / "rows.jsonl"),)), loaded.tokenizer, 48)
    look = held_out_loss(examples.validation, settings, Single(settings))
    assert look(loaded.model)["loss"] == pytest.approx(found.after, rel=1e-5)
    shift(loaded.model, LongLoRAConfig(groups=8), 48)
    assert look(loaded.model.train())["loss"] != pytest.approx(found.after, rel=1e-3)


def test_the_adapter_on_the_base_has_the_loss_that_was_measured(base: Path, adapted: Tuned):
    from congling.data.tuning import conversations
    from congling.data.tuning.examples import evaluation_batches
    from congling.evals.answers import held_out_loss
    from congling.train.backends.single import Single

    assert adapted.adapter is not None
    loaded = load_checkpoint(base / "run", "cpu", adapters=[(adapted.adapter, 1.0)])
    settings = TrainConfig(
        max_steps=1, max_length=48, per_device_train_batch_size=4, device="cpu", precision="fp32"
    )
    examples = conversations.read(DataConfig(sources=(str(base / "rows.jsonl"),)), loaded.tokenizer, 48)
    look = held_out_loss(examples.validation, settings, Single(settings))
    assert look(loaded.model)["loss"] == pytest.approx(adapted.after, rel=1e-5)
    assert loaded.tuned_for_chat
    # of some rows, bits a character are of the characters of these rows
    settings = settings.model_copy(update={"per_device_train_batch_size": 1, "eval_tokens": 1})
    found = held_out_loss(examples.validation, settings, Single(settings))(loaded.model)
    (batch,) = evaluation_batches(examples.validation, context=48, rows=1, limit_targets=1)
    learnt = batch.targets[batch.weights > 0].tolist()
    characters = sum(len(loaded.tokenizer.decode([i], skip_special=True)) for i in learnt)
    assert found["bits_per_character"] == pytest.approx(
        found["loss"] * len(learnt) / math.log(2) / characters, rel=1e-5
    )


def test_the_same_run_from_a_killed_process_has_the_same_bytes(base: Path, adapted: Tuned, tmp_path: Path):
    out = tmp_path / "run"
    words = [*TINY, *ADAPTER, "--data", str(base / "rows.jsonl"), "--out", str(out)]
    program = Path(sys.executable).with_name("congling")
    process = subprocess.Popen(
        [str(program), "sft", str(base / "run"), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not artifact.exists(out / "checkpoints/step-00000012") and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)  # beside it, not against it
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "adapter").exists()
    again = tuned(base, base / "run", out, *ADAPTER, must_resume=True)
    assert again == Tuned(out, out / "adapter", "loss", adapted.before, adapted.after)
    for name in (
        "adapter/adapter.safetensors",
        "metrics.jsonl",
        "samples.jsonl",
        "checkpoints/step-00000024/state/optimizer.safetensors",
    ):
        assert (out / name).read_bytes() == (adapted.out / name).read_bytes(), name


def test_a_finished_run_is_only_looked_at_again(base: Path, adapted: Tuned):
    before = adapted.out.joinpath("metrics.jsonl").read_bytes()
    stamp = adapted.out.joinpath("adapter/MANIFEST.json").stat().st_mtime_ns
    assert tuned(base, base / "run", adapted.out, *ADAPTER) == adapted
    assert adapted.out.joinpath("metrics.jsonl").read_bytes() == before
    assert adapted.out.joinpath("adapter/MANIFEST.json").stat().st_mtime_ns == stamp


def test_a_finished_adapter_goes_on_and_the_one_of_the_later_end_is_handed_on(base: Path, tmp_path: Path):
    few = ("adapter.r=4", "train.max_steps=8", "train.eval_steps=4", "train.schedule.warmup_ratio=0.25")
    first = tuned(base, base / "run", tmp_path / "run", *few)
    before = (tmp_path / "run/adapter/adapter.safetensors").read_bytes()
    made = tuned(base, base / "run", tmp_path / "run", *few, longer="4steps")
    assert tuned(base, base / "run", tmp_path / "run", *few) == made and made != first
    later = ("train.max_steps=12", "train.schedule.warmup_steps=2")
    whole = tuned(base, base / "run", tmp_path / "whole", *few, *later)
    assert (made.before, made.after) == (whole.before, whole.after)
    found = (tmp_path / "run/adapter/adapter.safetensors").read_bytes()
    assert found == (tmp_path / "whole/adapter/adapter.safetensors").read_bytes() != before


def test_two_starts_at_once_are_told_apart(base: Path, tmp_path: Path):
    held, over = threading.Event(), threading.Event()

    def first() -> None:
        with only_writer(tmp_path / "run"):
            held.set()
            over.wait()

    thread = threading.Thread(target=first)
    thread.start()
    held.wait()
    try:
        with pytest.raises(UserError, match="another process is working in this directory"):
            tuned(base, base / "run", tmp_path / "run", *ADAPTER)
    finally:
        over.set()
        thread.join()
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_only_with_its_own_base_data_and_settings(
    base: Path, packed: Path, adapted: Tuned, tmp_path: Path
):
    with pytest.raises(UserError, match=r"other settings: 'adapter\.r'"):
        tuned(base, base / "run", adapted.out, "adapter.r=2", "adapter.lora_dropout=0.1")
    with pytest.raises(UserError, match="made from other base"):
        tuned(base, packed, adapted.out, *ADAPTER)
    copy = tmp_path / "the same rows.jsonl"  # rows are compared by what they hold
    copy.write_bytes((base / "rows.jsonl").read_bytes())
    recipe = sft.read_recipe([*TINY, *ADAPTER], [str(copy)])
    assert sft.run(base / "run", recipe, adapted.out) == adapted
    rows = (base / "rows.jsonl").read_text(encoding="utf-8")
    try:
        (base / "rows.jsonl").write_text(rows.replace("青", "蓝"), encoding="utf-8")
        with pytest.raises(UserError, match="made from other data"):
            tuned(base, base / "run", adapted.out, *ADAPTER)
    finally:
        (base / "rows.jsonl").write_text(rows, encoding="utf-8")


def test_accumulated_micro_batches_are_one_large_one(base: Path, tmp_path: Path):
    few = ("adapter.r=4", "train.max_steps=3", "train.ema_decay=0.5", "train.eval_steps=3")
    for name, more in (
        ("a", ("train.per_device_train_batch_size=6",)),
        ("b", ("train.per_device_train_batch_size=2", "train.gradient_accumulation_steps=3")),
    ):
        tuned(base, base / "run", tmp_path / name, *few, *more)
    ours, theirs = (adapter_directory.read(tmp_path / name).factors for name in "ab")
    for name, factors in ours.items():
        torch.testing.assert_close(factors.b, theirs[name].b, rtol=1e-4, atol=2e-6)
        assert factors.b.abs().max() > 0


def test_an_averaged_adapter_goes_on_with_the_same_bytes(base: Path, tmp_path: Path):
    few = (
        "adapter.r=4",
        "train.max_steps=8",
        "train.ema_decay=0.9",
        "train.save_steps=4",
        "train.save_total_limit=9",
    )
    tuned(base, base / "run", tmp_path / "run", *few)
    wanted = (tmp_path / "run/adapter/adapter.safetensors").read_bytes()
    later = tmp_path / "run/checkpoints/step-00000008"
    state = (later / "state/average.safetensors").read_bytes()
    later.rename(tmp_path / "gone")
    tuned(base, base / "run", tmp_path / "run", *few)
    assert (later / "state/average.safetensors").read_bytes() == state
    assert (tmp_path / "run/adapter/adapter.safetensors").read_bytes() == wanted


def test_the_whole_model_can_be_trained_and_talks_afterwards(base: Path, tmp_path: Path):
    done = tuned(base, base / "run", tmp_path / "run", "train.optimizer.learning_rate=0.001")
    assert done.adapter is None and done.before is not None and done.after is not None
    assert done.after < 0.8 * done.before
    loaded = load_checkpoint(tmp_path / "run", "cpu")
    assert loaded.tuned_for_chat
    assert not load_checkpoint(base / "run", "cpu").tuned_for_chat


def test_whole_weights_can_be_tuned_in_few_bits(base: Path, tmp_path: Path):
    settings = ("quantization.bits=4", "train.optimizer.learning_rate=0.001")
    done = tuned(base, base / "run", tmp_path / "run", *settings)
    loaded = load_checkpoint(tmp_path / "run", "cpu")
    layers = [module for module in loaded.model.modules() if isinstance(module, CodedLinear)]
    assert len(layers) == 14 and {layer.bits for layer in layers} == {4}
    assert done.before is not None and done.after is not None and done.after < done.before
    assert loaded.checkpoint.facts["quantization"]["bits"] == 4 and loaded.tuned_for_chat
    with pytest.raises(UserError, match="quantization trains whole weights in few bits"):
        tuned(base, base / "run", tmp_path / "both", *settings, *ADAPTER)


def test_a_packed_base_takes_an_adapter_and_nothing_else(base: Path, packed: Path, tmp_path: Path):
    for force in (False, True):  # forced or not, there is nothing to train
        with pytest.raises(UserError, match="GGUF file cannot be trained themselves") as refused:
            tuned(base, packed, tmp_path / "whole", force=force)
        assert "--force" not in (refused.value.hint or "")
    done = tuned(base, packed, tmp_path / "run", "adapter.r=4")
    assert done.before is not None and done.after is not None and done.after < 0.8 * done.before
    identity = adapter_directory.base_of(adapter_directory.read(tmp_path / "run"))
    assert identity.fingerprint == artifact.file_hash(packed) and identity.name == "base.gguf"
    assert sum(file.stat().st_size for file in (tmp_path / "run/adapter").iterdir()) < packed.stat().st_size


def test_a_quantised_base_takes_an_adapter_and_nothing_else(base: Path, tmp_path: Path):
    quantize.run(base / "run", tmp_path / "q8", RtnConfig(bits=8, group_size=-1))
    with pytest.raises(UserError, match="weights of a quantised model"):
        tuned(base, tmp_path / "q8", tmp_path / "whole")
    done = tuned(base, tmp_path / "q8", tmp_path / "run", "adapter.r=4")
    assert done.before is not None and done.after is not None and done.after < 0.8 * done.before
    load_checkpoint(tmp_path / "q8", "cpu", adapters=[(tmp_path / "run", 1.0)])


def test_plain_texts_are_learnt_whole(base: Path, tmp_path: Path):
    recipe = sft.read_recipe([*TINY, *ADAPTER], [str(base / "text.txt")])
    done = sft.run(base / "run", recipe, tmp_path / "run")
    assert done.before is not None and done.after is not None and done.after < done.before
    assert adapter_directory.read(tmp_path / "run").facts["chat"] is False


def test_what_a_recipe_leaves_open_follows_from_base_and_data(base: Path, tmp_path: Path):
    recipe = sft.read_recipe(["adapter.r=4", "num_train_epochs=2"], [str(base / "rows.jsonl")])
    console = Console(record=True, width=200)
    sft.run(
        base / "run",
        recipe.replace(train={"device": "cpu", "sample_tokens": 4, "eval_steps": 9}),
        tmp_path / "run",
        console=console,
    )
    config = (tmp_path / "run/config.toml").read_text(encoding="utf-8")
    assert 'kind = "adamw"' in config and "max_length = 64" in config
    shown = console.export_text()
    assert "36 conversations: 4 held out, 32 examples to learn from" in shown
    assert "training an adapter of" in shown and "memory about" in shown


@pytest.mark.parametrize(("settings", "reason"), [
    (("train.max_length=65",), "longer than the base's context of 64"),
    (("adapter.target_modules=['head']",), "no layer of this kind"),
    (("adapter.lora_aplha=3",), "did you mean 'lora_alpha'"),
    (("train.max_setps=3",), "did you mean 'max_steps'"),
    (("train.optimizer.learning_rat=3",), "did you mean 'learning_rate'"),
    (("adapter.r=1000000",), "less than or equal to 16384"),
    (("train.max_length=long",), "key train.max_length"),
    (("train.per_device_train_batch_size=0",), "key train.per_device_train_batch_size"),
    (("train.optimizer=3",), "key train.optimizer"),
])  # fmt: skip
def test_mistakes_are_named_before_anything_is_written(
    base: Path, tmp_path: Path, settings: tuple[str, ...], reason: str
):
    with pytest.raises(UserError, match=reason):
        tuned(base, base / "run", tmp_path / "run", "adapter.r=4", *settings)
    assert not (tmp_path / "run").exists()


def test_data_and_recipes_may_stand_anywhere(base: Path, tmp_path: Path):
    (tmp_path / "lora.toml").write_text("num_train_epochs = 2.0\n[adapter]\nr = 2\n", encoding="utf-8")
    recipe = sft.read_recipe([str(tmp_path / "lora.toml"), "b.jsonl", "adapter.lora_alpha=4"], ["a.jsonl"])
    assert recipe.data.sources == ("a.jsonl", "b.jsonl") and recipe.num_train_epochs == 2.0
    assert recipe.adapter is not None and (recipe.adapter.r, recipe.adapter.lora_alpha) == (2, 4)
    with pytest.raises(UserError, match="--data"):
        sft.read_recipe(["adapter.r=2"], [])
    with pytest.raises(UserError, match="one recipe at a time"):
        sft.read_recipe(["a.toml", "b.toml"], ["a.jsonl"])
    example = Path(__file__).parents[2] / "examples" / "lora.toml"
    assert sft.read_recipe([str(example)], ["a.jsonl"]).adapter is not None
