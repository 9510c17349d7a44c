"""Preference pairs of a model's own answers: of several to a prompt, the best and the worst.

::

    prompts ─ answers sampled ─ rewards ─ best and worst of each prompt ─ rows with chosen and rejected

Prompts whose answers all earn the same teach nothing and are left out.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from congling.core.console import Console
from congling.core.errors import UserError
from congling.core.output import refuse_existing, replacing
from congling.core.progress import track
from congling.data.config import DataConfig, SplitConfig
from congling.data.problems import ReadingLog
from congling.data.tuning.preferences import Question, read_questions
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.infer.completions import complete
from congling.methods import rewards
from congling.methods.ending import show_rows
from congling.methods.rewards import Rewards
from congling.train.rl.rollouts import reward_input

PROMPTS = 32
"""Prompts that are answered at once."""
_LEAST = 1e-6  # by which rewards differ that are not the same


def run(
    model: Path | str,
    data: Sequence[str],
    reward: Sequence[str],
    out: Path | str,
    *,
    answers: int = 8,
    max_new_tokens: int = 128,
    temperature: float = 1.0,
    seed: int = 0,
    overwrite: bool = False,
    console: Console | None = None,
) -> tuple[int, int]:
    """Write the pairs, whole or not at all; returns how many, and of how many prompts.

    Args:
        model: a run, a checkpoint or a GGUF file.
        data: files of prompts.
        reward: names of rewards, see :mod:`congling.methods.rewards`.
        out: the file to write.
        answers: to each prompt, at least two.
        max_new_tokens: longest answer; what it cuts off is left out.
        temperature: of sampling.
        seed: equal seeds give equal files.
        overwrite: replace a file that exists.
        console: where to show what was read; ``None`` is quiet.

    Raises:
        UserError: model, prompts or rewards cannot be used, ``out`` exists, or no prompt gives a pair.
    """
    refuse_existing(Path(out), overwrite=overwrite)
    function = rewards.load(reward)
    loaded = load_checkpoint(model)
    questions, findings = _questions(loaded, data, max_new_tokens)
    if console is not None:
        show_rows(len(questions), 0, "prompt", findings, console)
    sampling = {"group": answers, "new_tokens": max_new_tokens, "temperature": temperature}
    starts, kept, dull = range(0, len(questions), PROMPTS), 0, Counter[str]()
    with (
        replacing(out, overwrite=overwrite) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        for start in track(starts, "answering", total=len(starts)):
            part = questions[start : start + PROMPTS]
            for row in _pairs(loaded, part, function, sampling, seed + start, dull):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                kept += 1
        if not kept:
            why = ", ".join(f"{count} × {kind}" for kind, count in dull.most_common())
            hint = f"found: {why}; take other prompts, more answers, a higher limit, or a graded reward"
            raise UserError("no prompt gives a pair", hint=hint)
    return kept, len(questions)


def _questions(loaded: Loaded, data: Sequence[str], max_new_tokens: int) -> tuple[list[Question], ReadingLog]:
    """All questions that leave room for an answer, in order of the split.

    Raises:
        UserError: a file cannot be read, or none of its rows is such a question.
    """
    context = loaded.model.config.max_position_embeddings
    if max_new_tokens >= context:
        raise UserError(
            "answers fill the whole context",
            where="--max-new-tokens",
            value=max_new_tokens,
            hint=f"the model reads {context} tokens",
        )
    config = DataConfig(sources=tuple(data), split=SplitConfig(validation=1))
    found = read_questions(config, loaded.tokenizer, context - max_new_tokens)
    return [*found.train, *found.validation], found.findings


def _pairs(
    loaded: Loaded,
    questions: Sequence[Question],
    reward: Rewards,
    sampling: dict[str, Any],
    seed: int,
    dull: Counter[str],
) -> Iterator[dict[str, Any]]:
    """The best and the worst answer to each question, where one is better; why not goes to ``dull``."""
    tokenizer = loaded.tokenizer
    prompts, seeds = [question.ids for question in questions], range(seed, seed + len(questions))
    barred = tokenizer.undrawable(loaded.model.config.vocab_size)
    written = complete(
        loaded.model, prompts, stops=tokenizer.stop_ids, seeds=seeds, undrawable=barred, **sampling
    )
    for question, same in zip(questions, written, strict=True):
        # What the limit cut off has no end to be learnt, and empty text is no answer.
        rows = [reward_input(question, one, tokenizer) for one in same if one.ended]
        rows = [row for row in rows if row["text"].strip()]
        valued = zip(reward(rows).tolist(), rows, strict=True)
        known = [(value, row["text"]) for value, row in valued if math.isfinite(value)]
        ranked = sorted(known, key=lambda one: one[0])
        if len(ranked) < 2:
            dull["fewer than two answers that end and have a reward"] += 1
            continue
        (worst, rejected), (best, chosen) = ranked[0], ranked[-1]
        if best - worst < _LEAST:
            dull["all answers earn the same"] += 1
            continue
        messages = [dict(message) for message in question.row.prompt]
        yield {"messages": messages, "chosen": chosen, "rejected": rejected, "rewards": [best, worst]}
