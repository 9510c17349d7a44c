"""Two processes tune to the weights of one, rollouts included."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from support.tuning_doubles import make_base, tune


@pytest.mark.parametrize("method", ["dpo", "grpo", "ppo"])
def test_two_processes_tune_the_weights_of_one(tmp_path: Path, method: str):
    root = make_base(tmp_path)
    tune(root, root / "alone", method)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    worker = str(Path(__file__).with_name("tuning_worker.py"))
    command = [sys.executable, worker, str(root), str(root / "together"), method]
    processes = [subprocess.Popen(command, env=together | {"RANK": str(rank)}) for rank in range(2)]
    try:
        assert [process.wait(timeout=200) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    ours, theirs = (
        load_file(root / place / "checkpoints/step-00000003/model.safetensors")
        for place in ("alone", "together")
    )
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=2e-6)
    base = load_file(root / "base/model.safetensors")
    assert max(float((base[name] - value).abs().max()) for name, value in ours.items()) > 1e-3
