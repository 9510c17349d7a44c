"""What a rival's own Python runs: folders quantised by llm-compressor or AutoRound from the same rows of ids.

``python rival_quantisers.py < order.json``: ``program``, ``model``, ``rows`` (a .npy of ids (R, T)) and
``jobs``, each with ``out``, ``method`` (rtn, gptq, awq; of AutoRound rtn, tuned), ``bits``, ``group_size``
and ``sym``. A line of JSON a job: its seconds, or why there is none. Nothing of congling is imported.
"""

import json
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

TUNED = 200
"""Iterations of AutoRound's tuning, its default."""


def llm_compressor(model: str, rows: np.ndarray, job: dict[str, Any]) -> float:
    """W{bits}A16 by ``oneshot``, in float32; returns its seconds."""
    modifiers = import_module("llmcompressor.modifiers.quantization")
    kinds = {"rtn": modifiers.QuantizationModifier, "gptq": modifiers.GPTQModifier}
    kinds |= {"awq": import_module("llmcompressor.modifiers.awq").AWQModifier}
    by_row = job["group_size"] == -1
    weights = {
        "num_bits": job["bits"],
        "type": "int",
        "symmetric": job["sym"],
        "dynamic": False,
        "strategy": "channel" if by_row else "group",
        "group_size": None if by_row else job["group_size"],
    }
    group = {"targets": ["Linear"], "weights": weights}
    recipe = kinds[job["method"]](config_groups={"group_0": group}, ignore=["lm_head"])
    transformers = import_module("transformers")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    words = transformers.AutoTokenizer.from_pretrained(model)
    columns = {"input_ids": rows.tolist(), "attention_mask": np.ones_like(rows).tolist()}
    text = {
        "dataset": import_module("datasets").Dataset.from_dict(columns),
        "num_calibration_samples": len(rows),
        "max_seq_length": rows.shape[1],
    }
    begun = time.perf_counter()
    import_module("llmcompressor").oneshot(
        model=loaded, processor=words, recipe=recipe, **({} if job["method"] == "rtn" else text)
    )
    taken = time.perf_counter() - begun
    loaded.save_pretrained(job["out"], save_compressed=True)
    words.save_pretrained(job["out"])
    return taken


def auto_round(model: str, rows: np.ndarray, job: dict[str, Any]) -> float:
    """A folder of GPTQ's format; returns its seconds."""
    tuned = job["method"] == "tuned"
    settings = {"iters": TUNED, "seqlen": rows.shape[1], "nsamples": len(rows)} if tuned else {"iters": 0}
    settings |= {} if tuned else {"disable_opt_rtn": True}
    grid = {key: job[key] for key in ("bits", "group_size", "sym")}
    begun = time.perf_counter()
    rounding = import_module("auto_round").AutoRound(
        model,
        dataset=[torch.from_numpy(row)[None] for row in rows],
        device_map="cpu",
        enable_torch_compile=False,
        **grid,
        **settings,
    )
    rounding.quantize_and_save(job["out"], format="auto_gptq")
    return time.perf_counter() - begun


def main() -> None:
    """Run every job in turn; one that fails is told and left out."""
    order = json.load(sys.stdin)
    torch.set_num_threads(order.get("threads", 1))
    told, sys.stdout = sys.stdout, sys.stderr
    rows = np.load(order["rows"])
    if not torch.accelerator.is_available():  # llm-compressor's AWQ pins memory all the same
        tensors: Any = torch.Tensor
        tensors.pin_memory = lambda tensor, *_: tensor
    run = {"llm-compressor": llm_compressor, "AutoRound": auto_round}[order["program"]]
    for job in order["jobs"]:
        Path(job["out"]).parent.mkdir(parents=True, exist_ok=True)
        try:
            answer: dict[str, Any] = {"seconds": run(order["model"], rows, job)}
        except Exception as error:  # whatever a rival raises: the others go on
            traceback.print_exc()
            answer = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
        print(json.dumps(answer | {"out": job["out"]}), file=told, flush=True)


if __name__ == "__main__":
    main()
