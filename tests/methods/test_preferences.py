"""Learning from preferences: every loss lowers itself, and a stopped run goes on with the same bytes."""

import json
from pathlib import Path
from typing import Any

import pytest

from congling.core.errors import UserError
from congling.infer.checkpoints import load_checkpoint
from congling.methods import preferences
from congling.methods.session import Tuned
from support.tuning_doubles import TINY, factors_norm, make_base, make_packed, require_same_after, rows_of

RUN = (
    "train.max_steps=6",
    "train.per_device_train_batch_size=2",
    "train.gradient_accumulation_steps=2",
    "train.save_steps=1",
    "train.eval_steps=3",
)
ADAPTER = ("adapter.r=2", "adapter.lora_dropout=0.1", "train.optimizer.learning_rate=0.05")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("dpo"))


def tuned(
    base: Path, out: Path, *settings: str, loss: str = "dpo", model: Path | None = None, **options: Any
) -> Tuned:
    rows = base / ("rated.jsonl" if loss == "kto" else "pairs.jsonl")
    recipe = preferences.read_recipe([*TINY, *RUN, f"preference.loss_type={loss}", *settings], [str(rows)])
    return preferences.run(model or base / "base", recipe, out, **options)


@pytest.mark.parametrize("loss", ["dpo", "ipo", "orpo", "simpo", "kto"])
def test_every_loss_lowers_itself_and_goes_on_with_the_same_bytes(base: Path, tmp_path: Path, loss: str):
    done = tuned(base, tmp_path / "run", loss=loss)
    assert done.adapter is None
    if loss == "kto":  # one held-out answer has no other to be compared with
        assert rows_of(done.out, "loss")[-1] < rows_of(done.out, "loss")[0]
    else:
        assert done.before is not None and done.after is not None and done.after < done.before
        assert rows_of(done.out, "accuracy")[-1] == 1.0
        assert rows_of(done.out, "margin")[-1] > rows_of(done.out, "margin")[0]
    require_same_after(done.out, [3], lambda out: tuned(base, out, loss=loss, must_resume=True), tmp_path)
    assert load_checkpoint(done.out, "cpu").tuned_for_chat


def test_an_adapter_with_an_average_goes_on_with_the_same_bytes_and_is_handed_on(base: Path, tmp_path: Path):
    settings = (*ADAPTER, "train.ema_decay=0.5")
    done = tuned(base, tmp_path / "run", *settings)
    assert done.adapter == tmp_path / "run/adapter" and factors_norm(done.out) > 0
    load_checkpoint(base / "base", "cpu", adapters=[(done.adapter, 1.0)])
    require_same_after(done.out, [2], lambda out: tuned(base, out, *settings), tmp_path)


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_a_packed_base_takes_an_adapter_and_nothing_else(base: Path, tmp_path: Path, loss: str):
    packed = make_packed(base)
    with pytest.raises(UserError, match="GGUF file cannot be trained themselves"):
        tuned(base, tmp_path / "whole", loss=loss, model=packed)
    done = tuned(base, tmp_path / "run", *ADAPTER, "train.max_steps=3", loss=loss, model=packed)
    assert done.adapter is not None and factors_norm(done.out) > 0
    assert rows_of(done.out, "loss")[-1] < rows_of(done.out, "loss")[0]


def test_a_run_goes_on_only_with_its_own_rows_and_settings(base: Path, tmp_path: Path):
    few = ("train.max_steps=1", "train.eval_steps=9")
    tuned(base, tmp_path / "run", *few)
    with pytest.raises(UserError, match=r"other settings: 'preference\.beta'"):
        tuned(base, tmp_path / "run", *few, "preference.beta=0.2")
    text = (base / "pairs.jsonl").read_text(encoding="utf-8")
    try:
        other = text.replace('"rejected": "地', '"rejected": "玄')
        (base / "pairs.jsonl").write_text(other, encoding="utf-8")
        with pytest.raises(UserError, match="made from other data"):
            tuned(base, tmp_path / "run", *few)
    finally:
        (base / "pairs.jsonl").write_text(text, encoding="utf-8")


def test_what_is_wrong_with_rows_is_counted_and_shown(base: Path, tmp_path: Path):
    from rich.console import Console

    bad: list[Any] = [
        {"prompt": "问", "chosen": "天", "rejected": "天 "},
        {"prompt": "问", "chosen": "天"},
        5,
        {"prompt": "问" * 60, "chosen": "天", "rejected": "地"},
        {"prompt": "问", "chosen": "", "rejected": "天"},
        {"messages": [{"role": "system", "content": "天"}], "chosen": "天", "rejected": "地"},
    ]
    text = (base / "pairs.jsonl").read_text(encoding="utf-8")
    mixed = text + text.splitlines()[0] + "\n" + "".join(json.dumps(row) + "\n" for row in bad)
    (tmp_path / "mixed.jsonl").write_text(mixed, encoding="utf-8")
    recipe = preferences.read_recipe([*TINY, *RUN, "train.max_steps=1"], [str(tmp_path / "mixed.jsonl")])
    console = Console(record=True, width=200)
    preferences.run(base / "base", recipe, tmp_path / "run", console=console)
    shown = console.export_text()
    for part in (
        "12 preferences",
        "1 × chosen equals rejected",
        "2 × no preference",
        "1 × copy",
        "1 × question too long",
        "1 × broken record",
        "1 × no question",
        "mixed.jsonl:14",
    ):
        assert part in shown, part
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bad), encoding="utf-8")
    with pytest.raises(UserError, match=r"nothing to learn(.|\n)*found: 2 × no preference"):
        recipe = preferences.read_recipe([*TINY], [str(tmp_path / "bad.jsonl")])
        preferences.run(base / "base", recipe, tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_kto_needs_company(base: Path, tmp_path: Path):
    with pytest.raises(UserError, match="kto needs at least two answers"):
        tuned(base, tmp_path / "run", "train.per_device_train_batch_size=1", loss="kto")


@pytest.mark.parametrize(("settings", "said"), [
    (["data=3"], "data is a table"), (["smallworld"], "no rows to answer"),
])  # fmt: skip
def test_data_that_are_no_files_of_rows(base: Path, tmp_path: Path, settings: list[str], said: str):
    with pytest.raises(UserError, match=said):
        preferences.run(base / "base", preferences.read_recipe([*TINY, *settings], []), tmp_path / "run")


def test_a_file_where_the_run_should_be(base: Path, tmp_path: Path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        tuned(base, tmp_path / "run")


def test_a_run_that_begins_anew_puts_the_earlier_one_aside(base: Path, tmp_path: Path):
    tuned(base, tmp_path / "run", "train.max_steps=1")
    weights = next((tmp_path / "run").rglob("model.safetensors")).read_bytes()
    with pytest.raises(UserError, match="one begins anew, the other goes on"):
        tuned(base, tmp_path / "run", fresh=True, must_resume=True)
    with pytest.raises(UserError, match="other settings"):
        tuned(base, tmp_path / "run", "train.seed=5", "train.max_steps=1")
    tuned(base, tmp_path / "run", "train.seed=5", "train.max_steps=1", fresh=True)
    kept = next((tmp_path / "run.before-1").rglob("model.safetensors")).read_bytes()
    assert kept == weights and (tmp_path / "run/report/report.html").is_file()
