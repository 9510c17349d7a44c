"""Where rewards come from: rules of ours, a person's Python function, a reward model; or several, weighted.

==================  ==============================================================================
``exact``           1 where the answer is the row's ``answer``: a number by value, else as text
``smallworld``      the rules of the small world, from 0 to 1
``file.py:name``    ``name(row, text) -> float``: the row as it stands in the file, and the answer
a directory         a run of ``congling reward``
==================  ==============================================================================

The code of a file is run, with all that its person may do; it is given copies of rows, and may import files
beside it. Each may be followed by ``=weight``. A function that raises, or gives no finite number, costs the
answer its reward and not the run its life: the answer is left out, counted, and the first case of each kind
is told. A run goes on exactly after an interruption as long as its functions look at nothing but their
arguments.
"""

import contextlib
import copy
import hashlib
import importlib.util
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from congling.core import files, terminal
from congling.core.artifact import opened
from congling.core.errors import UserError
from congling.data.final_answer import same
from congling.data.smallworld import judge

RewardFunction = Callable[[Mapping[str, Any], str], float]
"""(row, answer) to a reward."""
BatchReward = Callable[[Sequence[Mapping[str, Any]]], Sequence[float]]
"""Answers (see :data:`congling.train.rl.rollouts.Reward`) to their rewards."""


@dataclass(frozen=True)
class WeightedReward:
    """One reward and what it weighs."""

    name: str
    weight: float
    function: BatchReward


SAID = 200
"""Characters of what a failing function says that are shown."""


class Rewards:
    """The weighted sum of several rewards; an answer that one of them gives none has none.

    Attributes:
        faults: how often each function failed, by its name and how.
        means: of several rewards, that of each over the last answers, unweighted, by short name.
    """

    def __init__(self, rewards: Sequence[WeightedReward]) -> None:
        self.rewards, self.faults = rewards, Counter[str]()
        self.means: dict[str, float] = {}

    def __call__(self, answers: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """(A,) rewards; not a number where there is none."""
        total = np.zeros(len(answers))
        for reward in self.rewards:
            values = np.array(self._values(reward, answers), np.float64)
            if len(self.rewards) > 1:
                self.means[_short(reward.name)] = (
                    float(values[known].mean()) if (known := np.isfinite(values)).any() else 0.0
                )
            if reward.weight:  # one of weight 0 is watched, and its failures cost nothing
                total += reward.weight * values
        return total

    def _values(self, reward: WeightedReward, answers: Sequence[Mapping[str, Any]]) -> list[float]:
        found = []
        for value in reward.function(answers):
            if isinstance(value, _Failure):
                self._tell(reward.name, value)
                value = math.nan
            found.append(float(value))
        return found

    def _tell(self, name: str, failure: "_Failure") -> None:
        self.faults[f"{name} {failure.kind}"] += 1
        if self.faults[f"{name} {failure.kind}"] == 1:
            said = f"{failure.kind}: {failure.reason}"[:SAID]
            terminal.say(f"\nwarning: the reward {name} {said}; such answers are left out")


class _Failure(float):
    """Not a number, and why: in a few words, under which failures are counted, and in this case."""

    kind: str
    reason: str

    def __new__(cls, kind: str, reason: str) -> "_Failure":
        self = super().__new__(cls, math.nan)
        self.kind, self.reason = kind, reason
        return self


def load(names: Sequence[str], device: Any = None) -> Rewards:
    """Open rewards by the names above.

    Raises:
        UserError: there is none, or one cannot be opened.
    """
    if not names:
        hint = "--reward smallworld, exact, a file.py:function, or a run of `congling reward`"
        raise UserError("nothing says which answers are good", hint=hint)
    return Rewards([_reward(name, device) for name in names])


def identity(names: Sequence[str]) -> str:
    """What tells rewards from others on resume: names, texts of functions, weights of reward models."""
    texts = []
    for name in names:
        plain = _parted(name)[0]
        place, content = Path(plain.rpartition(":")[0] or "·"), ""
        if files.exists(place) and place.is_file():
            content = files.content(place).decode("utf-8", "replace")
        elif files.exists(plain) and Path(plain).is_dir():
            from congling.interop.source import locate_checkpoint

            content = opened(locate_checkpoint(plain), "checkpoint").fingerprint
        texts.append(name + content)
    return "\n".join(texts)


def _short(name: str) -> str:
    """A reward in a word: the function, or the last part of a path."""
    return name.rpartition(":")[2].rstrip("/").rpartition("/")[2]


def _parted(name: str) -> tuple[str, float]:
    """A name and its weight."""
    before, sign, after = name.rpartition("=")
    if not sign or files.exists(name):
        return name, 1.0
    try:
        weight = float(after)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise UserError("the weight of a reward is a finite number", value=name)
    return before, weight


def _reward(text: str, device: Any) -> WeightedReward:
    name, weight = _parted(text)
    if name == "exact":
        return WeightedReward(name, weight, lambda answers: [_exact(answer) for answer in answers])
    if name == "smallworld":
        return WeightedReward(name, weight, _each(judge.reward))
    file, _, function = name.rpartition(":")
    if file.endswith(".py"):
        return WeightedReward(name, weight, _each(_on_copies(_function(Path(file), function))))
    if name and files.exists(name) and Path(name).is_dir():
        return WeightedReward(name, weight, _trained(name, device))
    hint = "exact, smallworld, file.py:function, or a run of `congling reward`"
    raise UserError("no such reward", value=name, hint=hint)


def _each(function: RewardFunction) -> BatchReward:
    """A scorer that asks a function of one answer about each."""

    def rewards(answers: Sequence[Mapping[str, Any]]) -> list[float]:
        return [_called(function, answer["row"].fields, answer["text"]) for answer in answers]

    return rewards


def _on_copies(function: RewardFunction) -> RewardFunction:
    """A person's function, given a copy of each row: what it does to it stays its own."""
    return lambda row, text: function(copy.deepcopy(dict(row)), text)


def _called(function: RewardFunction, row: Mapping[str, Any], text: str) -> float:
    try:
        value = function(row, text)
    except UserError as error:
        return _Failure("refuses", error.what)
    except (Exception, SystemExit) as error:  # a person's own code: whatever it does, the run goes on
        return _Failure(f"raises {type(error).__name__}", _shown(error, str))
    try:
        number = float(value) if isinstance(value, bool | int | float | np.number | np.bool_) else math.nan
    except (OverflowError, TypeError):
        number = math.nan
    if math.isfinite(number):
        return number
    return _Failure("gives no finite number", _shown(value, repr))


def _shown(value: Any, how: Callable[[Any], str]) -> str:
    """What an object of a person's own says of itself."""
    try:
        return how(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _exact(answer: Mapping[str, Any]) -> float:
    wanted = answer["row"].answer
    if wanted is None:
        return _Failure("refuses", "the row has no answer to compare with")
    return float(same(answer["text"], wanted))


def _function(file: Path, name: str) -> RewardFunction:
    """Load a function from a file of the person's own."""
    if not files.exists(file) or not file.is_file():
        raise UserError("the file of the reward function does not exist", value=str(file))
    place = file.resolve()
    mark = hashlib.sha256(str(place).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"congling_reward_{mark}", place)
    assert spec is not None and spec.loader is not None
    if spec.name not in sys.modules:
        terminal.say(f"note: the reward runs the code of {file}, which may do all that you may")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and the like look their module up
    try:
        with _beside(place.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(spec.name, None)
        said = _shown(error, str)[:SAID]
        what = f"the file of the reward function does not load: {type(error).__name__}: {said}"
        raise UserError(what, where=file) from None
    function: Any = getattr(module, name, None)
    if not callable(function):
        hint = f"define `def {name or 'reward'}(row, text): ... return number`"
        raise UserError("the file has no such function", where=file, value=name, hint=hint)
    found: Any = function
    return found


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Let a file import those beside it, as if it were run; later ones are found behind all others."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def _trained(name: str, device: Any) -> BatchReward:
    from congling.infer.reward_model import load_reward_model

    model = load_reward_model(name, device)

    def rewards(answers: Sequence[Mapping[str, Any]]) -> Sequence[float]:
        # An empty answer has no text to render: it is scored as a full stop, which no reward model likes.
        said = [answer["text"].strip() or "。" for answer in answers]
        return model(
            [
                [*answer["messages"], {"role": "assistant", "content": text}]
                for answer, text in zip(answers, said, strict=True)
            ]
        )

    return rewards
