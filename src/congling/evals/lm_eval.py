"""lm-eval on the model's Hugging Face export, without a network: the same questions by another program.

The questions become one task of lm-eval (``multiple_choice``) with the prompts of ``choice.py``, the model a
folder that transformers loads. So its ``acc`` is our ``choice/sum`` and its ``acc_norm`` our
``choice/normalised``, and a difference is a fault of the export or of one of the programs.

Only this file imports lm-eval, inside functions: ``pip install 'congling[eval]'``.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from congling.core.errors import UserError
from congling.evals.bench import Bench, draw
from congling.evals.choice import Shots, chance, opening
from congling.evals.questions import Question, questions
from congling.evals.scores import Score, share
from congling.infer.checkpoints import Loaded
from congling.interop.foreign import ForeignModel
from congling.interop.hf import model as hf_model
from congling.quant.stored import dense_state

TASK = "congling_choice"
_METRICS = {"acc": "sum", "acc_norm": "normalised"}


def available() -> bool:
    """Whether lm-eval and what it needs to run a model are installed."""
    return all(find_spec(name) is not None for name in ("lm_eval", "datasets", "transformers", "accelerate"))


def run(bench: Bench) -> list[Score]:
    """``lm-eval/acc`` and ``lm-eval/acc_norm``.

    Raises:
        UserError: lm-eval is not installed, there are no questions, or transformers has no class for this
            model.
    """
    asked = draw(questions(bench.files, bench.findings), bench.limit, bench.seed)
    shots = Shots.of(bench)
    rows = [(shots.before(question) + opening(question), question) for question in asked]
    hits = evaluate(bench.loaded, rows)
    return [
        share(
            f"lm-eval/{metric}",
            hits[metric],
            f"lm-eval, multiple_choice, on the Hugging Face export; the same prompts as choice/{ours}",
            chance=chance(asked),
        )
        for metric, ours in _METRICS.items()
    ]


def evaluate(loaded: Loaded, rows: Sequence[tuple[str, Question]]) -> dict[str, list[bool]]:
    """Whether each question is answered right, by metric (``acc``, ``acc_norm``), as lm-eval sees it.

    Raises:
        UserError: lm-eval is not installed, or the model cannot be exported.
    """
    if not available():
        raise UserError("lm-eval is not installed", hint="pip install 'congling[eval]'")
    facts = dict(loaded.checkpoint.facts)
    foreign = ForeignModel(loaded.model.config, dense_state(loaded.model), loaded.tokenizer, facts)
    with tempfile.TemporaryDirectory(prefix="congling-lm-eval-") as place, _offline():
        folder = Path(place) / "hf"
        hf_model.write(foreign, folder)
        found = _simple_evaluate(folder, task(rows))
    samples = sorted(found["samples"][TASK], key=lambda sample: sample["doc_id"])
    return {metric: [bool(sample[metric]) for sample in samples] for metric in _METRICS}


def task(rows: Sequence[tuple[str, Question]]) -> dict[str, Any]:
    """The configuration of one local task: prompts, options and the number of the right one."""
    records = [
        {"prompt": prompt, "options": list(question.options), "right": question.right}
        for prompt, question in rows
    ]

    def dataset(**_: Any) -> Any:
        import datasets

        return datasets.DatasetDict({"test": datasets.Dataset.from_list(records)})

    def of(key: str) -> Callable[[dict[str, Any]], Any]:
        return lambda record: record[key]

    return {
        "task": TASK,
        "custom_dataset": dataset,
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": of("prompt"),
        "doc_to_choice": of("options"),
        "doc_to_target": of("right"),
        "target_delimiter": "",
        "num_fewshot": 0,
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in _METRICS
        ],
    }


def _simple_evaluate(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    import lm_eval
    import transformers
    from lm_eval.tasks import TaskManager

    transformers.utils.logging.disable_progress_bar()
    evaluate: Any = lm_eval.simple_evaluate  # its decorator hides the arguments from type checkers
    found = evaluate(
        model="hf",
        model_args={"pretrained": str(folder), "dtype": "float32", "trust_remote_code": False},
        tasks=[config],
        task_manager=TaskManager(include_defaults=False),
        batch_size=16,
        device="cpu",
        bootstrap_iters=0,
        log_samples=True,
    )
    if found is None:  # only in a process that is not the first of several
        raise UserError("lm-eval gave no result", value=TASK)
    return dict(found)


@contextmanager
def _offline() -> Iterator[None]:
    """No request leaves the machine, whatever the libraries would like to look up."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_UPDATE_DOWNLOAD_COUNTS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names[:3], "1") | {names[3]: "0"})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
