"""Let a model answer prompts several times, and keep its best and its worst answer as a preference.

Reads prompts and rewards (as ``grpo`` does), writes rows with ``chosen`` and ``rejected`` for ``dpo``::

    congling pairs runs/sft --data prompts.jsonl --reward exact --out pairs.jsonl
    congling dpo runs/sft --data pairs.jsonl --out runs/dpo

Prompts whose answers all earn the same teach nothing and are left out.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from congling.core.errors import UserError

if TYPE_CHECKING:
    from congling.data.preferences import Question
    from congling.infer.checkpoints import Loaded

PROMPTS = 32
"""Prompts that are answered at once."""
_LEAST = 1e-6  # by which rewards differ that are not the same


def command(
    model: Annotated[Path, typer.Argument(help="A run, a checkpoint, or a GGUF file.")],
    data: Annotated[list[str], typer.Option(help="Prompts; repeatable.")],
    reward: Annotated[
        list[str],
        typer.Option(help="exact, smallworld, file.py:function or a reward run; repeatable, each =weight."),
    ],
    out: Annotated[Path, typer.Option(help="The file of pairs to write.")] = Path("pairs.jsonl"),
    answers: Annotated[int, typer.Option(min=2, help="Answers to each prompt.")] = 8,
    new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of sampling.")] = 1.0,
    seed: int = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that exists.")] = False,
) -> None:
    """Make preference pairs of a model's own answers."""
    kept, asked = run(
        model, data, reward, out, answers=answers, new_tokens=new_tokens, temperature=temperature, seed=seed,
        overwrite=overwrite,
    )  # fmt: skip
    print(f"wrote {kept:,} pairs from {asked:,} prompts to {out}")


def run(
    model: Path | str, data: Sequence[str], reward: Sequence[str], out: Path | str, *, answers: int = 8,
    new_tokens: int = 128, temperature: float = 1.0, seed: int = 0, overwrite: bool = False,
) -> tuple[int, int]:  # fmt: skip
    """Write the pairs, whole or not at all; returns how many, and of how many prompts.

    Raises:
        UserError: model, prompts or rewards cannot be used, ``out`` exists, or no prompt gives a pair.
    """
    from congling.core.output import replacing
    from congling.core.progress import track
    from congling.data.config import DataConfig, SplitConfig
    from congling.data.preferences import read_questions
    from congling.infer.checkpoints import load_checkpoint
    from congling.methods import rewards

    loaded = load_checkpoint(model)
    room = loaded.model.config.context - new_tokens
    if room < 1:
        raise UserError("answers fill the whole context", where="--new-tokens", value=new_tokens,
                        hint=f"the model reads {loaded.model.config.context} tokens")  # fmt: skip
    config = DataConfig(sources=tuple(data), split=SplitConfig(validation=1))
    found = read_questions(config, loaded.tokenizer, room)
    questions = [*found.train, *found.validation]
    for kind, count in found.findings.counts.most_common():
        print(f"  {count} × {kind}")
    judge = rewards.load(reward)
    starts = range(0, len(questions), PROMPTS)
    kept = 0
    with replacing(out, overwrite=overwrite) as temporary, temporary.open("w", encoding="utf-8") as file:
        for start in track(starts, "answering", total=len(starts)):
            part = questions[start : start + PROMPTS]
            sampling = {"group": answers, "new_tokens": new_tokens, "temperature": temperature}
            for row in _pairs(loaded, part, judge, sampling, seed + start):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                kept += 1
        if not kept:
            hint = "take harder or easier prompts, more answers, or a graded reward"
            raise UserError("no prompt gives a pair: its answers all earn the same", hint=hint)
    return kept, len(questions)


def _pairs(
    loaded: "Loaded", questions: "Sequence[Question]", judge: Any, sampling: dict[str, Any], seed: int
) -> Iterator[dict[str, Any]]:
    """The best and the worst answer to each question, where one is better."""
    from congling.infer.completions import complete
    from congling.train.rollout import judged_row

    tokenizer = loaded.tokenizer
    prompts, seeds = [question.ids for question in questions], range(seed, seed + len(questions))
    written = complete(loaded.model, prompts, stops=tokenizer.stop_ids, seeds=seeds, **sampling)
    for question, same in zip(questions, written, strict=True):
        # What the limit cut off has no end to be learnt, and empty text is no answer.
        rows = [judged_row(question, one, tokenizer) for one in same if one.ended]
        rows = [row for row in rows if row["text"].strip()]
        judged = zip(judge(rows).tolist(), rows, strict=True)
        known = [(value, row["text"]) for value, row in judged if math.isfinite(value)]
        ranked = sorted(known, key=lambda one: one[0])
        if len(ranked) < 2 or ranked[-1][0] - ranked[0][0] < _LEAST:
            continue
        (worst, rejected), (best, chosen) = ranked[0], ranked[-1]
        messages = [dict(message) for message in question.row.messages]
        yield {"messages": messages, "chosen": chosen, "rejected": rejected, "rewards": [best, worst]}
