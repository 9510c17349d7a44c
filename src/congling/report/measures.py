"""What the numbers of a log are called, in which unit they are, and which of them are of one kind."""

from collections.abc import Mapping
from dataclasses import dataclass

from congling.report.method import objective_of
from congling.report.record import RunRecord, mapping, numeric
from congling.train.config import BETTER

PLACES = frozenset({"step", "tokens", "lr", "rate", "gradient_norm", "skipped"})
"""Columns that say where a row stands, or how training goes, and are no measurement of the model."""


@dataclass(frozen=True)
class Measure:
    """A number that a run logs."""

    title: str
    unit: str
    share: bool = False
    """Whether it lies between 0 and 1, and is shown in percent."""

    def show(self, value: float) -> str:
        """The number as a person reads it, without its unit."""
        if self.share:
            return f"{value:.1%}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


_TOKENS = "nats/token"
_MEASURES = {
    "bits_per_character": Measure("loss", "bits/character"),
    "bits_per_byte": Measure("loss", "bits/byte"),
    "perplexity": Measure("perplexity", "a token"),
    "loss_per_answer": Measure("loss by answer", "nats/token of an answer"),
    "divergence": Measure("divergence from the teacher", _TOKENS),
    "margin": Measure("margin", "better minus worse answer"),
    "accuracy": Measure("accuracy", "share ordered rightly", share=True),
    "chosen": Measure("chosen answers", "log-probability, nats"),
    "rejected": Measure("rejected answers", "log-probability, nats"),
    "drift": Measure("drift", "nats"),
    "reward": Measure("reward", "mean of the answers"),
    "reward_std": Measure("spread of the reward", "standard deviation"),
    "length": Measure("length of answers", "tokens"),
    "ended": Measure("answers that end by themselves", "share", share=True),
    "unjudged": Measure("answers without a reward", "answers a step"),
    "kl": Measure("KL", f"from the base, {_TOKENS}"),
    "entropy": Measure("entropy", _TOKENS),
    "clipped": Measure("clipped tokens", "share", share=True),
    "value_loss": Measure("loss of the value head", "squared error"),
}
FIRST = ("accuracy", "margin", "reward", "bits_per_character", "loss", "loss_per_answer", "divergence")
"""The order of what tells most."""
_PREFERRED = frozenset({"margin", "accuracy", "chosen", "rejected", "drift"})
"""What depends on the objective: two of them measure it differently under one name."""
_OBJECTIVES = {"sft": "answers", "sft by answer": "answers of equal weight", "reward": "reward model"}


def objective(run: RunRecord) -> str:
    """The loss of a run by the name it has in pictures: of text, of answers, or of its method."""
    found = objective_of(run.method, run.config)
    return _OBJECTIVES.get(found, found.upper() if found.isascii() and found != "text" else found)


def measure(run: RunRecord, name: str) -> Measure:
    """What a column is; ``validation_`` before the name does not matter."""
    name = name.removeprefix("validation_")
    if name == "loss":
        return (
            Measure("loss", _TOKENS) if run.method.next_token else Measure(f"{objective(run)} loss", "mean")
        )
    if run.method.verb == "reward" and name in ("chosen", "rejected"):
        return Measure(f"{name} answers", "score")
    if run.method.counted == "rated answer" and name == "accuracy":
        return Measure("accuracy", "share moved the right way", share=True)
    known = _MEASURES.get(name)
    if known is None and name.startswith("reward_"):
        return Measure(f"reward {name.removeprefix('reward_')}", "mean of the answers")
    return known or Measure(name.replace("_", " "), name.replace("_", " "))


def kind_of(run: RunRecord, name: str) -> str:
    """What else a column is a measurement of: columns of other kinds do not belong into one picture.

    A loss is that of an objective, a reward that of its judges; lengths and shares are the same for all.
    """
    name = name.removeprefix("validation_")
    if name in ("loss", "bits_per_character", "loss_per_answer") or name in _PREFERRED:
        return objective(run)
    if name.startswith("reward"):
        rewards = run.config.get("rewards")
        return ", ".join(map(str, rewards)) if isinstance(rewards, list) else ""
    return ""


def called(run: RunRecord, name: str) -> str:
    """A column as it stands among those of other runs: with its kind, where there are several."""
    kind, what = kind_of(run, name), measure(run, name).title if name == "loss" else name.replace("_", " ")
    return what if kind in ("", "text") or kind in what else f"{what} ({kind})"


def columns(run: RunRecord) -> list[str]:
    """Measurements that a run logs, in the order in which they first came up."""
    names = dict.fromkeys(name for row in run.metrics for name in row if numeric(row[name]) is not None)
    return [name for name in names if name not in PLACES]


def points(run: RunRecord, name: str) -> list[tuple[float, float]]:
    """(step, value) of a column."""
    pairs = ((numeric(row.get("step")), numeric(row.get(name))) for row in run.metrics)
    return [(step, value) for step, value in pairs if step is not None and value is not None]


def look_handed_on(run: RunRecord) -> tuple[int, Mapping[str, float]] | None:
    """Step and held-out numbers of the result of a run: the best by ``train.metric_for_best_model``,
    else the last evaluation.
    """
    looks = {step: look for step, look in run.looks.items() if step}
    if not looks:
        return None
    train = mapping(run.config.get("train"))
    name = str(train.get("metric_for_best_model", "loss"))
    measured = {step: look[name] for step, look in looks.items() if name in look}
    if not measured or train.get("load_best_model_at_end") is False:
        return max(looks), looks[max(looks)]
    sign = 1 if BETTER.get(name, "lower") == "lower" else -1
    step = min(measured, key=lambda one: sign * measured[one])
    return step, looks[step]
