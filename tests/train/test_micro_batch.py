"""Memory that runs out: one error with numbers and the words to type, or smaller parts of the same step."""

import json

import numpy as np
import pytest
import torch

from congling.core.errors import Interrupted, UserError
from congling.core.out_of_memory import Shortage
from congling.data.batches import CorpusBatches
from congling.data.token_split import TokenSplit
from congling.methods.memory import fitting, measured, shortage_explained
from congling.train import calibrate
from congling.train.backends.single import Single
from congling.train.loop import Trainer
from congling.train.measurement import Calibration
from congling.train.micro_batch import smaller
from congling.train.objectives.next_token import next_token
from congling.train.runs.train import RunParts, train
from support.training_doubles import CONTEXT, VOCABULARY, settings, small_model

CPU = (
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
)


def corpus():
    draw = np.random.default_rng(0)
    tokens = draw.integers(1, VOCABULARY, 4000).astype(np.uint16)
    whole = np.array([4000])
    return TokenSplit(tokens, whole, whole, whole, eos_id=0, vocab_size=VOCABULARY)


def started(path, most_rows, *, error=None, hooks=(), at=0, **changes):
    """A run on a machine whose memory holds micro-batches of ``most_rows`` rows from step ``at`` on."""
    config = settings(
        **{
            "max_steps": 8,
            "per_device_train_batch_size": 8,
            "save_steps": 4,
            "auto_find_batch_size": True,
            **changes,
        }
    )
    rows = []

    def objective(model, batch):
        loss = next_token(model, batch)
        if one.step >= at and len(batch.tokens) > most_rows:
            raise error or RuntimeError(CPU)
        rows.append(len(batch.tokens))
        return loss

    batches = CorpusBatches(
        corpus(),
        context=CONTEXT,
        rows=config.per_device_train_batch_size,
        accumulation=config.gradient_accumulation_steps,
    )
    one = Trainer(small_model(), batches, objective, config, Single(config))

    def go():
        with shortage_explained(small_model().config, config, one.backend, trainer=one):
            return train(one, path, RunParts(config, hooks=hooks))

    return one, rows, go


def test_smaller_parts_hold_as_many_rows_a_step():
    assert [smaller(*one) for one in ((16, 1), (12, 2), (3, 1), (1, 8))] == [(8, 2), (6, 4), (1, 3), None]


def test_the_step_is_made_again_in_smaller_parts_and_the_run_goes_on(tmp_path, capsys):
    one, rows, go = started(tmp_path, 2, at=3)
    run = go()
    assert one.step == 8 and one.micro_batch == (2, 4)
    assert rows == [8] * 3 + [2] * 4 * 5
    found = [row for row in run.log("events").rows() if row["event"] == "smaller micro-batch"]
    assert [(row["step"], row["rows"], row["accumulation"]) for row in found] == [(3, 4, 2), (3, 2, 4)]
    assert (
        "going on with train.per_device_train_batch_size=2 train.gradient_accumulation_steps=4"
        in capsys.readouterr().err
    )
    whole, _, go = started(tmp_path / "whole", 8)
    go()
    for name, value in whole.model.state_dict().items():  # the same steps, rounded otherwise
        assert torch.allclose(value, one.model.state_dict()[name], atol=1e-4), name


def test_a_run_that_goes_on_later_takes_the_same_parts(tmp_path):
    whole, _, go = started(tmp_path / "whole", 4)
    go()

    def cut(one):
        if one.step == 6:
            raise Interrupted("power cut")

    _, _, go = started(tmp_path / "cut", 4, hooks=[cut])
    with pytest.raises(Interrupted):
        go()
    again, rows, go = started(tmp_path / "cut", 8)  # more memory than before: still the same bits
    go()
    assert set(rows) == {4}
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(CPU), MemoryError(), MemoryError("std::bad_alloc"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity"),
        MemoryError("Unable to allocate 7.45 GiB for an array with shape (1, 2)"),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:30],
)  # fmt: skip
def test_without_being_asked_it_is_one_error_with_numbers_and_words_to_type(tmp_path, error):
    _, _, go = started(tmp_path, 4, error=error, auto_find_batch_size=False)
    with pytest.raises(UserError) as caught:
        go()
    text = str(caught.value)
    assert (
        "out of memory in a micro-batch of train.per_device_train_batch_size=8 × train.max_length=12" in text
    )
    assert "are held" in text and "the estimate was" in text
    assert (
        "train.per_device_train_batch_size=" in text
        and "train.gradient_accumulation_steps=" in text
        and "train.auto_find_batch_size=true" in text
    )
    assert [row["event"] for row in map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())][
        -1
    ] == "failed"


def test_one_row_that_does_not_fit_is_an_error_and_so_is_what_follows_a_step(tmp_path):
    one, _, go = started(tmp_path / "a", 0)
    with pytest.raises(UserError, match=r"train\.per_device_train_batch_size=1 × train\.max_length=12"):
        go()
    assert one.step == 0

    def full(one):
        raise MemoryError

    _, _, go = started(tmp_path / "b", 8, hooks=[full])
    with pytest.raises(UserError, match="a sample or a checkpoint at step 1"):
        go()


def test_other_errors_are_left_as_they_are(tmp_path):
    _, _, go = started(tmp_path, 4, error=RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        go()


def test_the_words_name_the_largest_part_that_fits():
    model = small_model(hidden_size=256, num_hidden_layers=4, max_position_embeddings=512).config
    config = settings(per_device_train_batch_size=64, max_length=512)
    tight = Shortage(tried=2 * 10**9, held=10**9, room=2 * 10**9, place="this machine")
    found = fitting(model, config, tight, 4e8, gpu=False)
    assert (
        found is not None
        and found.per_device_train_batch_size * found.gradient_accumulation_steps == 64
        and found.per_device_train_batch_size < 64
    )
    less = fitting(model, config, Shortage(2 * 10**9, 10**9, 6 * 10**8, ""), 4e8, gpu=False)
    assert less is not None and less.per_device_train_batch_size < found.per_device_train_batch_size
    assert fitting(model, config, Shortage(None, 10**9, 3 * 10**8, ""), 4e8, gpu=False) is None


def test_measuring_before_a_run_takes_smaller_parts_or_says_which(monkeypatch):
    tried = []

    def measure(model, train, **options):
        tried.append((train.per_device_train_batch_size, train.gradient_accumulation_steps))
        if train.per_device_train_batch_size > 2:
            raise RuntimeError(CPU)
        return Calibration(1e11, 0.01, 64, 10**8, 0.1)

    monkeypatch.setattr(calibrate, "measure", measure)
    model = small_model().config
    with pytest.raises(UserError, match=r"train\.per_device_train_batch_size=8"):
        measured(model, settings(per_device_train_batch_size=8))
    assert (
        measured(model, settings(per_device_train_batch_size=8, auto_find_batch_size=True)).tokens_per_step
        == 64
    )
    assert tried == [(8, 1), (8, 1), (4, 2), (2, 4)]
