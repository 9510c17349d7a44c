"""What the contenders of ``tuning`` share: one model in a Hugging Face folder, and rows as ids.

::

    folder/model/            our export of a random model, with its tokenizer and template
    folder/rows.json         sft: ids and which are learnt · pairs: prompt, chosen, rejected · prompts
"""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from congling.data.config import DataConfig
from congling.data.smallworld.rows import RowsConfig, write
from congling.data.tuning import conversations, preferences
from congling.data.tuning.examples import Example
from congling.interop.foreign import ForeignModel
from congling.interop.hf import model as hf_model
from congling.model.counts import parameters
from congling.model.families import llama
from congling.model.transformer import Transformer
from congling.tokenizer import store, training
from congling.tokenizer.config import TokenizerConfig
from measuring import Options
from reporting import Skipped

SIZES: dict[str, dict[str, Any]] = {
    "full": {"vocab_size": 8000, "max_position_embeddings": 512, "num_hidden_layers": 6, "hidden_size": 384,
             "examples": 8, "pairs": 4, "prompts": 4, "group": 4, "new_tokens": 64, "steps": 4, "warm_up": 1},
    "quick": {"vocab_size": 8000, "max_position_embeddings": 512, "num_hidden_layers": 4, "hidden_size": 256,
             "examples": 8, "pairs": 4, "prompts": 4, "group": 4, "new_tokens": 32, "steps": 3, "warm_up": 1},
    "tiny": {"vocab_size": 512, "max_position_embeddings": 128, "num_hidden_layers": 1, "hidden_size": 32,
             "examples": 4, "pairs": 2, "prompts": 2, "group": 2, "new_tokens": 4, "steps": 2, "warm_up": 1},
}  # fmt: skip
"""Shapes of the model; rows of one step for SFT, preferences and GRPO; timed steps and those before them."""
FILES = {"sft": "sft/alpaca_zh.jsonl", "pairs": "preference/dpo_zh.jsonl"}


def prepare(folder: Path, sizes: dict[str, Any], options: Options) -> dict[str, Any]:
    """Write the model and the rows; returns what is to be said about them.

    Raises:
        Skipped: there are no rows; only ``tiny`` makes do with those of the small world.
    """
    files = _small_world(folder) if options.effort == "tiny" else _corpora(options)
    _tokenizer(folder, files, sizes["vocab_size"])
    tokenizer = store.load(folder / "tokenizer")
    config = llama(
        vocab_size=tokenizer.vocab_size,
        max_position_embeddings=sizes["max_position_embeddings"],
        num_hidden_layers=sizes["num_hidden_layers"],
        hidden_size=sizes["hidden_size"],
        num_attention_heads=sizes["hidden_size"] // 32,
    )
    weights = Transformer(config).state_dict()
    hf_model.write(ForeignModel(config, weights, tokenizer, {"name": "random"}), folder / "model")
    steps, context = sizes["steps"], sizes["max_position_embeddings"]
    sft = conversations.read(DataConfig(sources=(files["sft"],)), tokenizer, context - 1).train
    pairs = preferences.read_pairs(DataConfig(sources=(files["pairs"],)), tokenizer, context - 1).train
    asked = preferences.read_questions(
        DataConfig(sources=(files["sft"],)), tokenizer, min(128, context - sizes["new_tokens"])
    ).train
    sft, pairs = sft[: steps * sizes["examples"]], pairs[: steps * sizes["pairs"]]
    rows = {
        "sft": [{"ids": one.input_ids.tolist(), "learnt": one.loss_mask.tolist()} for one in sft],
        "pairs": [_pair(*pair) for pair in pairs],
        "prompts": [
            {"ids": list(one.ids), "messages": [dict(turn) for turn in one.row.prompt]}
            for one in islice(asked, 4 * (steps + sizes["warm_up"]) * sizes["prompts"])
        ],
    }
    (folder / "rows.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    said = {
        "sft": _lengths([one.input_ids for one in sft]),
        "pairs": _lengths([one.input_ids for pair in pairs for one in pair]),
        "prompts": _lengths([one["ids"] for one in rows["prompts"]]),
    }
    return {"parameters": parameters(config), "vocab_size": config.vocab_size, "rows": said}


def example(ids: Sequence[int], learnt: Sequence[bool]) -> Example:
    """An example as its reader made it."""
    return Example(np.array(ids, np.int32), np.array(learnt, bool), 0, "")


def _pair(better: Example, worse: Example) -> dict[str, list[int]]:
    """Two examples as their common beginning and two answers."""
    start = int(better.loss_mask.argmax())
    return {
        "prompt_ids": better.input_ids[:start].tolist(),
        "chosen_ids": better.input_ids[start:].tolist(),
        "rejected_ids": worse.input_ids[start:].tolist(),
    }


def _lengths(rows: Sequence[Sequence[int]]) -> str:
    lengths = [len(row) for row in rows]
    return f"{len(rows)} texts of {min(lengths)}–{max(lengths)} tokens, {np.mean(lengths):.0f} on average"


def _corpora(options: Options) -> dict[str, str]:
    if options.corpora is None:
        raise Skipped("needs rows: set CONGLING_CORPORA or --corpus")
    files = {name: options.corpora / file for name, file in FILES.items()}
    for file in files.values():
        if not file.is_file():
            raise Skipped(f"needs {file.parent.name}/{file.name} in {options.corpora}")
    return {name: str(file) for name, file in files.items()}


def _small_world(folder: Path) -> dict[str, str]:
    for kind, name in (("instructions", "sft"), ("pairs", "pairs")):
        write(RowsConfig(kind=kind, count=80), folder / f"{name}.jsonl")
    return {name: str(folder / f"{name}.jsonl") for name in FILES}


def _tokenizer(folder: Path, files: dict[str, str], size: int) -> None:
    """Learn pieces from everything that is said in the rows."""
    texts = []
    for file in files.values():
        for line in Path(file).read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            said = [turn["content"] for turn in record.get("messages", ())]
            texts += [*said, *(value for value in record.values() if isinstance(value, str))]
    training.train(TokenizerConfig(vocab_size=size), lambda: iter(texts), folder / "tokenizer")
