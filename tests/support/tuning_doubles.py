"""A tiny base, rows for the ways of tuning it, and what a run that was stopped must come back to."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from congling.core import artifact
from congling.infer.checkpoints import load_checkpoint
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.model.checkpoint import save_model
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.tokenizer import store, training
from congling.tokenizer.config import TokenizerConfig

CHARACTERS = "天地玄黄宇宙洪荒日月盈昃"
TINY = (
    "train.torch_compile=off",
    "train.device=cpu",
    "train.precision=fp32",
    "train.sample_tokens=2",
    "train.save_total_limit=99",
    "train.optimizer.learning_rate=0.02",
)
REWARD = "def plain(row, text):\n    return sum(ord(c) > 127 for c in text) / max(1, len(text)) - 0.2\n"
"""What a model of bytes that has learnt nothing gets right now and then, and not at its likeliest."""


def make_base(root: Path) -> Path:
    """A checkpoint of a model that has learnt nothing, beside the files of rows."""
    training.train(
        TokenizerConfig(kind="character"), lambda: iter([CHARACTERS * 9 + "问答。"]), root / "tokenizer"
    )
    vocabulary = store.load(root / "tokenizer").vocab_size
    config = FAMILIES["qwen3"](
        vocab_size=vocabulary, max_position_embeddings=48, num_hidden_layers=1, hidden_size=64
    )
    model = Transformer(config)
    model.initialise(1)
    with artifact.writing(root / "base", "checkpoint", facts={"chat": True, "step": 1}) as folder:
        save_model(model, folder)
        shutil.copytree(root / "tokenizer", folder / "tokenizer")
    pairs, rated, prompts = [], [], []
    for i, asked in enumerate(CHARACTERS):
        good, bad = "天" * (1 + i % 3), CHARACTERS[1 + i % 5] * (1 + i % 4)
        pairs.append({"prompt": f"问{asked}", "chosen": good, "rejected": bad})
        rated.append({"prompt": f"问{asked}", "completion": good if i % 2 else bad, "label": bool(i % 2)})
        prompts.append({"prompt": f"问{asked}", "answer": "天"})
    for name, rows in (("pairs", pairs), ("rated", rated), ("prompts", prompts)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (root / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (root / "rules.py").write_text(REWARD, encoding="utf-8")
    return root


def make_packed(root: Path) -> Path:
    """The same base in a GGUF file."""
    target = root / "base.gguf"
    if target.exists():
        return target
    loaded = load_checkpoint(root / "base", "cpu")
    facts = {"name": "base", "chat": True}
    foreign = ForeignModel(loaded.model.config, loaded.model.state_dict(), loaded.tokenizer, facts)
    gguf_model.write(foreign, target, "Q8_0")
    return target


def require_same_after(run: Path, places: Sequence[int], again: Callable[[Path], Any], root: Path) -> None:
    """Go on from earlier checkpoints of a finished run: every byte must be the same.

    Args:
        run: saved at every step.
        places: steps after which it is stopped.
        again: goes on with the run in a directory.
        root: where copies are put.
    """
    last = max(path.name for path in (run / "checkpoints").iterdir())
    for place in places:
        copy = root / str(place) / run.name
        shutil.copytree(run, copy)
        for checkpoint in (copy / "checkpoints").iterdir():
            if int(checkpoint.name.partition("-")[2]) > place:
                shutil.rmtree(checkpoint)
        shutil.rmtree(copy / "adapter", ignore_errors=True)
        again(copy)
        files = [
            *(run / "checkpoints" / last).rglob("*"),
            run / "metrics.jsonl",
            run / "samples.jsonl",
            *(run / "adapter").rglob("*"),
        ]
        for file in files:
            if file.is_file() and file.name != "MANIFEST.json":
                name = file.relative_to(run)
                assert (copy / name).read_bytes() == file.read_bytes(), f"{name} after step {place}"


def rows_of(run: Path, name: str) -> list[float]:
    """Values of one measure in a run's log."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row[name] for row in map(json.loads, lines) if name in row]


def factors_norm(run: Path) -> float:
    """How far the adapter that a run hands on is from nothing."""
    from congling.interop import adapter_directory

    found = adapter_directory.read(run / "adapter").factors.values()
    return float(torch.stack([factors.b.abs().max() for factors in found]).max())


def tune(root: Path, out: Path, method: str) -> Any:
    """A short run of one method, in one process or in one of several."""
    from congling.methods import grpo, ppo, preferences

    settings = [*TINY, "train.max_steps=3", "train.optimizer.learning_rate=0.001", "train.eval_steps=9"]
    if method == "dpo":
        recipe = preferences.read_recipe(
            [*settings, "train.per_device_train_batch_size=4"], [str(root / "pairs.jsonl")]
        )
        return preferences.run(root / "base", recipe, out)
    settings += ["rollout.max_completion_length=4", "rollout.prompts_per_step=4", "rollout.num_iterations=2"]
    settings += ["grpo.scale_rewards=batch", "grpo.beta=0.1"] if method == "grpo" else []
    stage: Any = grpo if method == "grpo" else ppo
    recipe = stage.read_recipe(settings, [str(root / "prompts.jsonl")], [f"{root / 'rules.py'}:plain"])
    return stage.run(root / "base", recipe, out)
