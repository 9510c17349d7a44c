"""The tasks of ``congling eval --tasks``: one row each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from congling.core.errors import UserError
from congling.evals import (
    baselines,
    choice,
    continuation,
    copying_at_distance,
    domains,
    length,
    lm_eval,
    memorisation,
    needles,
    repetition,
    world,
)
from congling.evals.bench import Bench
from congling.evals.scores import Score


@dataclass(frozen=True)
class Task:
    """Something to measure."""

    summary: str
    run: Callable[[Bench], list[Score]]
    needs: str
    """What it measures with."""

    @property
    def reads_files(self) -> bool:
        """Whether files can be named for it."""
        return self.needs != "nothing"

    @property
    def shows_solved(self) -> bool:
        """Whether solved questions can be shown before its own."""
        return self.needs == "questions"


TASKS: dict[str, Task] = {
    "domains": Task("loss of texts, told apart by a field of their records", domains.run, "texts"),
    "continuation": Task("prefixes of held-out texts continued, beside the truth", continuation.run, "texts"),
    "questions": Task(
        "small world: questions about stories", partial(world.run, kind="questions"), "nothing"
    ),
    "arithmetic": Task("small world: sums", partial(world.run, kind="arithmetic"), "nothing"),
    "couplets": Task("small world: lower lines of couplets", partial(world.run, kind="couplets"), "nothing"),
    "world-choice": Task("small world: the right answer among wrong ones", world.choice, "nothing"),
    "choice": Task("multiple choice by likelihood of the options", choice.run, "questions"),
    "letter": Task("multiple choice by the letter written", choice.letters, "questions"),
    "baselines": Task("bits/character beside n-grams and compressors", baselines.run, "texts, documents"),
    "repetition": Task("how much written texts repeat themselves", repetition.run, "texts"),
    "memorisation": Task("training texts continued word for word", memorisation.run, "texts, documents"),
    "length": Task("loss of the same tokens behind more and more text", length.run, "long texts"),
    "copying-at-distance": Task(
        "random tokens copied from further and further before", copying_at_distance.run, "nothing"
    ),
    "needles": Task("small world: facts hidden in longer and longer texts", needles.run, "nothing"),
    "lm-eval": Task("multiple choice by lm-eval on the Hugging Face export", lm_eval.run, "questions"),
}


def named(text: str) -> list[str]:
    """Task names from a list separated by commas.

    Raises:
        UserError: one is unknown, or there is none.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in TASKS:
            raise UserError("no such task", value=name, hint=f"tasks are {', '.join(TASKS)}")
    if not names:
        raise UserError("no task is named", hint=f"tasks are {', '.join(TASKS)}")
    return names


def run(bench: Bench, names: Sequence[str], files: Sequence[str] = ()) -> list[Score]:
    """Measure one task after the other.

    ``files`` are for every task that reads any; ``task=file`` is for that task alone.

    Raises:
        UserError: a task lacks what it measures with, or a file is for no task that is run.
    """
    own, common = _shared_out(files, names)
    _check_shots(bench, names)
    _check_length(bench, names)
    scores: list[Score] = []
    for name in names:
        given = own.get(name, common) if TASKS[name].reads_files else []
        found = TASKS[name].run(replace(bench, files=given))
        data = " + ".join(Path(file).name for file in given)
        shots = bench.shots if TASKS[name].shows_solved else 0
        scores += [replace(score, data=data, shots=shots) for score in found]
    return scores


def _check_shots(bench: Bench, names: Sequence[str]) -> None:
    """Refuse solved questions that nobody would see."""
    if not bench.examples and not bench.shots:
        return
    if not any(TASKS[name].shows_solved for name in names):
        readers = ", ".join(name for name, task in TASKS.items() if task.shows_solved)
        raise UserError(
            "solved questions, but no task that shows any",
            value=", ".join(names),
            hint=f"--few-shot and --shots are for {readers}",
        )
    if not bench.examples:
        raise UserError(
            "solved questions are to be shown, but none are given",
            value=f"--shots {bench.shots}",
            hint="name a file of them with --few-shot",
        )
    if not bench.shots:
        raise UserError(
            "solved questions are given, but none are to be shown",
            value=" ".join(bench.examples),
            hint="say how many with --shots",
        )


def _check_length(bench: Bench, names: Sequence[str]) -> None:
    """Refuse what only the length task looks at."""
    for option, value in (("--base", bench.base), ("--context", bench.context)):
        if value is not None and length.NAME not in names:
            what = f"{option} is for the task {length.NAME}"
            raise UserError(what, value=str(value), hint=f"add it to --tasks, or leave {option} out")


def _shared_out(files: Sequence[str], names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    own: dict[str, list[str]] = {}
    common: list[str] = []
    for file in files:
        name, sign, path = file.partition("=")
        if not sign or name not in TASKS:
            common.append(file)
        elif name not in names:
            raise UserError("a file for a task that is not run", value=file, hint=f"add {name} to --tasks")
        else:
            own.setdefault(name, []).append(path)
    unread = next((f"{name}={own[name][0]}" for name in own if not TASKS[name].reads_files), None)
    if common and not any(TASKS[name].reads_files and name not in own for name in names):
        unread = common[0]
    if unread is not None:
        readers = ", ".join(name for name, task in TASKS.items() if task.reads_files)
        raise UserError("a file that no task reads", value=unread, hint=f"files are for {readers}")
    return own, common
