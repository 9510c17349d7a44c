"""Several processes that train together, started without torchrun: one interpreter is made ready, others fork
from it, so that a test of four processes costs no four imports."""

import multiprocessing
import os
import pickle
import socket
import traceback
from functools import partial

import torch


def together(world, work, *arguments, timeout=300, **named):
    """What ``work(*arguments, **named)`` returns in each of ``world`` processes, by rank.

    ``work`` is a function at the top of a module. What one raises is raised here, with its text.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["congling.train.loop", "congling.train.runs.train", "torch.distributed"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ends = []
    for rank in range(world):
        here, there = context.Pipe(duplex=False)
        started = context.Process(
            target=_run, args=(there, rank, world, port, partial(work, *arguments, **named)), daemon=True
        )
        started.start()
        there.close()
        ends.append((started, here))
    try:
        found = [_received(here, timeout) for _, here in ends]
    finally:
        for started, _ in ends:
            started.kill()
            started.join()
    for kind, value in found:
        if kind == "error":
            raise AssertionError(value)
    return [value for _, value in found]


def _received(pipe, timeout):
    try:
        return pickle.loads(pipe.recv_bytes()) if pipe.poll(timeout) else ("error", "no answer")
    except EOFError:
        return "error", "a process ended without a word"


def _run(pipe, rank, world, port, work):
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        found = "result", work()
    except BaseException:
        found = "error", f"process {rank}:\n{traceback.format_exc()}"
    pipe.send_bytes(pickle.dumps(found))
