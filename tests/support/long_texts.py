"""Held-out texts of known lengths on a bench, for tasks that need long ones."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from congling.core.artifact import Artifact
from congling.evals.bench import Bench
from congling.infer.checkpoints import Loaded
from congling.model.transformer import Transformer
from congling.tokenizer.character import CharacterTokenizer

LETTERS = "从零开始学写字而时习之不亦说乎天地玄黄宇宙洪荒日月盈昃辰宿列张云对雨雪风晚照晴空来鸿去燕宿鸟鸣虫"
TOKENIZER = CharacterTokenizer(LETTERS)


def returning(period: int, length: int, start: int = 0) -> str:
    """Different letters that return after ``period``."""
    letters = (LETTERS[start:] + LETTERS[:start])[:period]
    return (letters * (length // period + 1))[:length]


def bench_of(
    model: Transformer,
    texts: Sequence[str],
    folder: Path,
    facts: dict[str, Any] | None = None,
    **settings: Any,
) -> Bench:
    """A bench with the model and a file of texts."""
    file = folder / "texts.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    checkpoint = Artifact(folder / "model", "checkpoint", "", {}, {}, facts or {})
    return Bench(Loaded(model, TOKENIZER, checkpoint), files=[str(file)], **settings)
