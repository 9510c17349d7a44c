"""What one order of sums costs, and what processes that train together gain: steps in turns, in one run.

Each way has processes of its own, which wait while another way makes its step, so that what else the machine
does meets all of them. A ratio is that of two steps made one right after the other.
"""

import multiprocessing
import os
import socket
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from measuring import Effort, Options, ratios
from reporting import Report, Table

TURNS = {"full": 15, "quick": 7, "tiny": 1}
SIZES = {
    "full": ((4, 128, 4), (4, 256, 8), (6, 384, 8)),
    "quick": ((4, 128, 4), (4, 256, 8)),
    "tiny": ((1, 32, 1),),
}
"""Layers, width, and rows of a micro-batch."""
VOCABULARY, CONTEXT = 4096, 128
SUMS = ((1, 1), (1, 8), (2, 2), (4, 4))
"""Processes and micro-batches of a step."""


@dataclass(frozen=True)
class Way:
    """How a step is made."""

    sums: str
    world: int = 1
    threads: int = 1
    accumulation: int = 1
    shape: tuple[int, int, int] = (1, 32, 1)


class Group:
    """The processes of one way, ready for their first step."""

    def __init__(self, way: Way) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context, self.ends, self.started = multiprocessing.get_context("forkserver"), list[Connection](), []
        context.set_forkserver_preload(["congling.train.loop"])  # one import for all processes
        for rank in range(way.world):
            here, there = context.Pipe()
            environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": way.world}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": way.threads}
            process = context.Process(target=_work, args=(there, way, environment), daemon=True)
            process.start()
            self.started.append(process)
            self.ends.append(here)
        for end in self.ends:
            end.recv()

    def step(self) -> tuple[float, float]:
        """Seconds of a step, and processor seconds of all its processes."""
        start = time.perf_counter()
        for end in self.ends:
            end.send(True)
        used = [end.recv() for end in self.ends]
        return time.perf_counter() - start, sum(used)

    def close(self) -> None:
        """End the processes."""
        for end in self.ends:
            end.send(False)
        for process in self.started:
            process.join()


def _work(pipe: Connection, way: Way, environment: dict[str, object]) -> None:
    os.environ.update({name: str(value) for name, value in environment.items()})
    import numpy as np
    import torch

    from congling.data.batches import Batch, shard_rows
    from congling.model.families import FAMILIES
    from congling.model.transformer import Transformer
    from congling.train.backends.ddp import build_backend
    from congling.train.config import TrainConfig
    from congling.train.loop import Trainer
    from congling.train.objectives.next_token import next_token

    torch.set_num_threads(way.threads)
    layers, width, rows = way.shape
    model = Transformer(
        FAMILIES["qwen3"](
            vocab_size=VOCABULARY,
            max_position_embeddings=CONTEXT,
            num_hidden_layers=layers,
            hidden_size=width,
        )
    )
    model.initialise(1)

    def batches(step: int, rank: int, world: int) -> list[Batch]:
        tokens = np.random.default_rng(step).integers(0, VOCABULARY, (rows * way.accumulation, CONTEXT + 1))
        shares = shard_rows(0, rows, way.accumulation, rank, world)
        return [Batch(tokens[one, :-1], tokens[one, 1:], count=float(one.size * CONTEXT)) for one in shares]

    config = TrainConfig(
        max_steps=10**6,
        max_length=CONTEXT,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=way.accumulation,
        device="cpu",
        precision="fp32",
        sums="ordered" if way.sums == "ordered" else "sequential",
    )
    backend = build_backend(config)
    trainer = Trainer(model, batches, next_token, config, backend, prefetch=0)
    pipe.send(True)
    while pipe.recv():
        micro, start = batches(trainer.step, backend.rank, backend.world), time.process_time()
        trainer.train_step(micro)
        pipe.send(time.process_time() - start)
    backend.close()


def turns(effort: Effort, *ways: Way) -> list[list[tuple[float, float]]]:
    """Steps of each way, in turns; the first of each is not counted."""
    groups = [Group(way) for way in ways]
    found: list[list[tuple[float, float]]] = [[] for _ in ways]
    for turn in range(TURNS[effort] + 1):
        for group, steps in zip(groups, found, strict=True):
            made = group.step()
            steps += [made] if turn else []
    for group in groups:
        group.close()
    return found


def run(options: Options) -> Report:
    """Two tables: ordered by sequential, and two processes by two threads."""
    columns = ("layers × width", "processes", "micro-batches", "step, ms", "time", "processor time")
    order = Table("One order of sums (train.sums=ordered) by sequential sums, Muon", columns)
    gain = Table("2 processes of 1 thread by 1 process of 2 threads, ordered sums", columns)
    for shape in SIZES[options.effort]:
        for world, accumulation in SUMS[:3:2] if options.effort == "tiny" else SUMS:
            ways = [Way(sums, world, 1, accumulation, shape) for sums in ("ordered", "sequential")]
            order.rows.append(_row(options.effort, *ways))
        ways = [Way("ordered", world, 2 // world, 2, shape) for world in (2, 1)]
        gain.rows.append(_row(options.effort, *ways))
    order.notes.append(f"Rows of {CONTEXT} tokens, {VOCABULARY} ids; median and range of the turns.")
    return Report([order, gain], {"tables": [order.rows, gain.rows]})


def _row(effort: Effort, ours: Way, theirs: Way) -> tuple[str, ...]:
    one, other = turns(effort, ours, theirs)
    wall, work = (ratios([step[i] for step in one], [step[i] for step in other]) for i in (0, 1))
    layers, width, rows = ours.shape
    step = sorted(seconds for seconds, _ in one)[len(one) // 2]
    return (
        f"{layers} × {width}",
        str(ours.world),
        f"{ours.accumulation} of {rows} rows",
        f"{1000 * step:,.0f}",
        wall.show("{:.2f}"),
        work.show("{:.2f}"),
    )
