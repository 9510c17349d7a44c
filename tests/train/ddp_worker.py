"""Program of one process of the DDP test: train a few steps, and let the first process write the weights."""

import sys
from pathlib import Path

from safetensors.torch import save_file

from congling.train.backends.ddp import build_backend
from support.training_doubles import settings, small_model, trainer

if __name__ == "__main__":
    config = settings(max_steps=4)
    backend = build_backend(config)
    assert backend.world == 2
    found = trainer(config, backend=backend, model=small_model(sys.argv[2]))
    rows = []
    found.run([lambda one: rows.append(one.step_metrics)])
    if backend.rank == 0:
        tensors = {name: value.detach() for name, value in found.model.state_dict().items()}
        save_file(tensors | {"loss": rows[-1]["loss"].float(), "tokens": found.tokens.float()}, sys.argv[1])
    backend.close()
    threads = {task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")}
    assert not {name for name in threads if "gloo" in name}, threads  # none may outlive the interpreter
