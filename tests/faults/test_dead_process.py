"""Of two processes that train together one is killed or hangs: the other names it, and ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("together_program.py")


def together(out, timeout):
    """Two processes in the middle of training."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = os.environ | {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    command = [sys.executable, str(PROGRAM), str(out), str(timeout)]
    found = [
        subprocess.Popen(command, env=shared | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    until = time.monotonic() + 60
    while not (out / "metrics.jsonl").is_file() and time.monotonic() < until:
        time.sleep(0.05)
    return found


@pytest.mark.parametrize(
    ("lost", "number", "timeout"),
    [(0, signal.SIGKILL, 600), (1, signal.SIGSTOP, 8)],
)
def test_the_one_that_is_left_names_the_other_and_how_to_go_on(tmp_path, lost, number, timeout):
    processes = together(tmp_path / "run", timeout)
    try:
        processes[lost].send_signal(number)
        left = processes[1 - lost]
        _, said = left.communicate(timeout=60)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert left.returncode == 1 and "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("congling:")]
    assert len(lines) == 1 and f"process {lost} (on {socket.gethostname()}" in lines[0]
    assert "torchrun --nproc-per-node=2" in said and "newest checkpoint" in said
