"""What each of several processes does in tests of training together."""

import contextlib
import hashlib
import json
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from congling.core.rundir import RunDirectory
from congling.data.token_split import TokenSplit
from congling.evals import loss
from congling.evals.likelihood import read_rows
from congling.evals.periodic import held_out_loss
from congling.model.checkpoint import save_model
from congling.train.backends.ddp import DDP, build_backend
from congling.train.backends.ordered import GradientTree, total_norm
from congling.train.loop import Trainer
from congling.train.optim import muon
from congling.train.optim.adamw import AdamW
from congling.train.optim.muon import orthogonalise
from congling.train.rl.on_policy_texts import OwnTextBatches
from congling.train.runs.arithmetic import facts, settle
from congling.train.runs.checkpoints import save
from congling.train.runs.guard import SkippedSteps
from congling.train.runs.metrics import Metrics, MetricScales
from congling.train.runs.progress import ProgressLine
from congling.train.runs.resuming import resume
from congling.train.runs.train import RunParts, train
from support.training_doubles import CONTEXT, VOCABULARY, SplitBatches, settings, small_model, trainer


def text(windows):
    """A held-out text of so many windows."""
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, windows * CONTEXT + 1).astype(np.uint16)
    sizes = np.array([len(tokens)])
    return TokenSplit(tokens, sizes, sizes, sizes, 0, VOCABULARY)


def held_out(windows):
    """Held-out numbers of a text, and how many batches of it this process read."""
    backend, read = build_backend(settings()), []

    def counting(*arguments, **how):
        read.append(1)
        return read_rows(*arguments, **how)

    try:
        with mock.patch.object(loss, "read_rows", counting):
            return held_out_loss(text(windows), settings(), backend)(small_model()), len(read)
    finally:
        backend.close()


def own_texts():
    """Weights after three steps on texts that the model writes itself, and the hash of what it wrote."""
    config = settings(
        max_steps=3, per_device_train_batch_size=1, gradient_accumulation_steps=8, sums="ordered"
    )
    backend, rows = build_backend(config), []
    try:
        one = trainer(config, 1, small_model(dropout=0.1), backend=backend)
        one.batches = OwnTextBatches(one.batches, one.model, share=1.0, prefix=4, seed=0, backend=backend)
        one.prefetch = 0
        one.run([lambda found: rows.append(float(found.step_metrics["rows_hash"]))])
        return {name: value.numpy() for name, value in one.model.state_dict().items()}, rows, facts(one)
    finally:
        backend.close()


def whole_run(folder):
    """A run from its start to its end, which is that of its patience, with held-out numbers on the way."""
    config = settings(
        max_steps=20,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=8,
        eval_steps=2,
        save_steps=5,
        early_stopping_patience=2,
        optimizer={"kind": "adamw", "learning_rate": 0.05},
    )
    backend = build_backend(config)
    try:
        one = trainer(config, 1, small_model(), backend=backend)
        evaluate = held_out_loss(text(7), config, backend)
        train(one, folder, RunParts(config, evaluate=evaluate, evaluate_first=True))
        return one.step
    finally:
        backend.close()


class Stop(Exception):
    """Ends a run between two steps."""


def train_until(folder, stop, changes, **sizes):
    """Begin or go on with the run in ``folder`` until a step, and save; how far it equals an unbroken one."""
    config = settings(**changes)
    backend = build_backend(config)
    one = trainer(config, config.per_device_train_batch_size, small_model(**sizes), backend=backend)
    run, first = RunDirectory(Path(folder)), backend.rank == 0
    try:
        start = resume(one, run, {}, write=first)
        found = settle(one, run, start)
        line = ProgressLine(config.max_steps, start)
        hooks = [Metrics(run, MetricScales(), line, SkippedSteps(10), every=1)] if first else []

        def leave(trainer):
            if trainer.step == stop:
                raise Stop

        with contextlib.suppress(Stop):
            one.run([*hooks, leave])
        if first:
            save(one, run, save_model, tokenizer=None, parents={})
        backend.barrier()
        return found
    finally:
        backend.close()


def hashes(folder):
    """SHA-256 of what a run learnt, its moments and its metrics, at its newest checkpoint."""
    run = RunDirectory(Path(folder))
    newest = run.checkpoints()[0]
    files = [newest / "model.safetensors", *sorted((newest / "state").glob("*.safetensors"))]
    found = {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in files}
    return found | {"metrics": hashlib.sha256(run.log("metrics").path.read_bytes()).hexdigest()}


def metrics(folder):
    """Rows of ``metrics.jsonl``."""
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def weights_with(fault):
    """Weights after three steps with a fault planted, and what each step measured."""
    backend, rows = build_backend(PLANTED), []
    place, name, faulty = FAULTS.get(fault, (Trainer, "run", Trainer.run))
    try:
        with mock.patch.object(place, name, faulty):
            one = trainer(PLANTED, 1, small_model(dropout=0.1), backend=backend)
            one.run([lambda found: rows.append(found.step_metrics)])
        return (
            {name: value.numpy() for name, value in one.model.state_dict().items()},
            [(float(row["loss"]), float(row["gradient_norm"]), float(row["rows_hash"])) for row in rows],
        )
    finally:
        backend.close()


def _counted_alone(backend, values):
    """The count of targets of this process's part in place of all processes' one."""
    alone = isinstance(values, torch.Tensor) and values.ndim == 0 and values == values.round() and values > 1
    return values if alone else SUM(backend, values)


def _clipped_too_soon(tree):
    nn.utils.clip_grads_with_norm_(tree.parameters, 1.0, total_norm(one.grad for one in tree.parameters))
    EXCHANGE(tree)


def _without_the_last_rows(tree):
    EXCHANGE(tree)
    for parameter in tree.parameters:
        if parameter.ndim > 1:
            parameter.grad[-1] = 0


def _norm_of_a_part(backend, gradients):
    return total_norm(list(gradients)[backend.rank :: 2])


def _orthogonalised_in_parts(backend, function, matrices):
    return torch.cat([function(part) for part in matrices.chunk(2, dim=1)], dim=1)


def matrices_made():
    """How many matrices this process made orthogonal in a step, and the shapes of what it gathered for it."""
    made, gathered = [], []

    def counting(matrices, **how):
        made.append(len(matrices))
        return orthogonalise(matrices, **how)

    def gathering(every, own):
        gathered.append(tuple(own.shape[1:]))
        return GATHER(every, own)

    backend = build_backend(PLANTED)
    try:
        with mock.patch.object(muon, "orthogonalise", counting):
            one = trainer(PLANTED, 1, small_model(num_hidden_layers=3), backend=backend)
        one.train_step(one.batches(0, backend.rank, backend.world))
        made.clear()
        with mock.patch.object(dist, "all_gather", gathering):
            one.optimizers[0].step(0, 1.0, torch.tensor(0.0))
        return sum(made), gathered, {name: len(one) for name, one in one.optimizers[0].tensors().items()}
    finally:
        backend.close()


PLANTED = settings(
    max_steps=3,
    per_device_train_batch_size=1,
    gradient_accumulation_steps=8,
    max_grad_norm=0.05,
    sums="ordered",
)
ROWS, SUM, EXCHANGE = SplitBatches.__call__, DDP.all_reduce_sum, GradientTree.exchange
STEP, GATHER = AdamW.step, dist.all_gather
FAULTS = {
    "no synchronisation": (GradientTree, "exchange", lambda tree: None),
    "double division": (DDP, "backward", lambda backend, loss: (loss / backend.world).backward()),
    "mean of means": (DDP, "all_reduce_sum", _counted_alone),
    "norm of a part": (DDP, "norm", _norm_of_a_part),
    "the same dropout in all processes": (DDP, "seed_of", lambda backend, index, count: index),
    "another process's rows": (
        SplitBatches,
        "__call__",
        lambda one, step, rank, world: ROWS(one, step, 0, world),
    ),
    "two owners of the rate": (AdamW, "step", lambda one, step, rate, skip: STEP(one, step, rate / 2, skip)),
    "Muon on shards": (DDP, "each_matrix", _orthogonalised_in_parts),
    "clipped twice": (GradientTree, "exchange", _clipped_too_soon),
    "last rows never trained": (GradientTree, "exchange", _without_the_last_rows),
}
"""Mistakes of programs that train together: class, method, and what it does then."""
