"""Which method made a run, told by what it recorded, and what its numbers are; no torch.

A loss is a number of its own kind: nats per token of a text, of answers, or the loss of a method, which
compares with nothing else. So every measurement has a kind, and only one kind belongs into one picture.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from congling.core.units import plural


@dataclass(frozen=True)
class Method:
    """A way of training, in the words of a report."""

    verb: str
    """The command that begins such a run."""
    what: str
    """What is done, for a subtitle."""
    counted: str = "token"
    """What the log counts under ``tokens``, in the singular."""
    next_token: bool = False
    """Whether the loss is the nats of the next token: such losses have bits per character."""
    corpus: bool = False
    """Whether it learns from running text, whose loss stands beside reference lines."""

    def count(self, number: float) -> str:
        """The noun behind a number."""
        return plural(number, self.counted)


PRETRAIN = Method("pretrain", "pretraining", next_token=True, corpus=True)
METHODS = {
    method.verb: method
    for method in (
        PRETRAIN,
        Method("distill", "distillation from a larger model", next_token=True, corpus=True),
        Method("sft", "supervised fine-tuning", next_token=True),
        Method("dpo", "learning from preferences", "preference"),
        Method("reward", "training of a reward model", "preference"),
        Method("grpo", "reinforcement learning (GRPO)", "answer token"),
        Method("ppo", "reinforcement learning (PPO)", "answer token"),
    )
}
_TABLES = {"ppo": "ppo", "grpo": "grpo", "preference": "dpo", "reward": "reward", "distill": "distill"}
"""Tables that the configuration of one method alone has."""
_COLUMNS = {"value_loss": "ppo", "reward": "grpo", "margin": "dpo", "drift": "dpo", "divergence": "distill"}
"""Columns of the log that tell a method, where the configuration is gone."""


def method_of(config: Mapping[str, Any], recorded: object = None, columns: Collection[str] = ()) -> Method:
    """The method of a run: as it recorded it, else by the tables of its configuration, else by its log."""
    verb = recorded if isinstance(recorded, str) and recorded in METHODS else None
    if verb is None:
        verb = next((verb for table, verb in _TABLES.items() if _table(config, table) is not None), None)
    if verb is None and {"data", "train"} <= config.keys() and "model" not in config:
        verb = "sft"
    if verb is None and not config:
        verb = next((verb for name, verb in _COLUMNS.items() if name in columns), None)
    method = METHODS[verb or "pretrain"]
    if (_table(config, "preference") or {}).get("loss_type") == "kto":
        return replace(method, counted="rated answer")
    if method.verb == "grpo" and (_table(config, "grpo") or {}).get("loss_type") in ("grpo", "dr_grpo"):
        return replace(method, counted="answer")
    return method


def objective_of(method: Method, config: Mapping[str, Any]) -> str:
    """The loss by its name, such as ``simpo``; that of one method compares with that of no other."""
    loss = (_table(config, "preference") or {}).get("loss_type")
    if method.verb == "dpo" and isinstance(loss, str):
        return loss
    if method.verb == "sft" and config.get("loss_reduction") == "answer":
        return "sft by answer"
    return "text" if method.corpus else method.verb


def _table(config: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    found = config.get(name)
    return found if isinstance(found, Mapping) else None
