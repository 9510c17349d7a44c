"""Choose everything a recipe leaves open, and say why: the model, the batch, the rates, the horizon.

The arithmetic behind it: time = tokens · FLOPs per token ÷ (utilisation · peak), less start-up, compiling,
held-out losses and samples. When the budget affords fewer than about four passes over the data, compute is
the limit and the model is sized for the compute; beyond, the data are, and regularisation is chosen for the
number of passes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from congling.core.complaints import explained
from congling.core.config import build
from congling.core.errors import UserError
from congling.core.units import plural, show_count, show_seconds
from congling.model.config import ModelConfig, flops_per_token
from congling.model.families import FAMILIES
from congling.model.presets import PRESETS
from congling.plan import advice_numbers
from congling.plan.corpus_facts import CorpusFacts, MachineFacts
from congling.plan.recipe import Recipe
from congling.train.config import TrainConfig


@dataclass(frozen=True)
class Choice:
    """One value and where it comes from."""

    key: str
    value: str
    why: str


@dataclass(frozen=True)
class Advice:
    """A complete configuration, with a reason for every choice."""

    model: ModelConfig
    train: TrainConfig
    choices: tuple[Choice, ...]
    budget: float
    """Wall-clock seconds the advice was made for."""

    def with_choice(self, choice: Choice) -> "Advice":
        """The same, and one choice more."""
        return replace(self, choices=(*self.choices, choice))


class _Choices:
    """Collects choices; a value the recipe gives wins over the advised one and is reported as given."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given, self.made = given, []

    def pick(self, key: str, advised: Any, why: str) -> Any:
        value = self.given.get(key, advised)
        self.made.append(Choice(key, _shown(value), "given in the recipe" if key in self.given else why))
        return value

    def complete(self, key: str, advised: dict[str, Any], why: str) -> Any:
        """Pick a table: the recipe's values laid over the advised ones."""
        given = self.given.get(key, {})
        value = advised | given if isinstance(given, dict) else given
        self.made.append(Choice(key, _shown(value), "given in the recipe, completed" if given else why))
        return value


def advise(
    recipe: Recipe,
    corpus: CorpusFacts,
    machine: MachineFacts,
    *,
    seconds_per_step: float | None = None,
    start: ModelConfig | None = None,
    spent: float = 0.0,
    squeeze: float = 1.0,
) -> Advice:
    """Complete a recipe for this corpus and machine.

    ``seconds_per_step`` is a time measured with the advised model and batch; the horizon then follows it.
    ``start`` is a model that is trained already and begun from. ``spent`` seconds of the budget are used up;
    ``squeeze`` is the share of the time for steps that they may really take.

    Raises:
        UserError: an unknown family or preset, or values that contradict each other or ``start``.
    """
    budget = max(LEAST_SECONDS, float(recipe.budget or advice_numbers.DEFAULT_BUDGET) - spent)
    model_choices = _Choices(_model_given(recipe) if start is None else _given_beside(recipe))
    train_choices = _Choices(dict(recipe.train))
    context, size = _sizes(recipe, corpus, machine, budget)
    if start is None:
        model = _model(recipe, model_choices, corpus, size, context, dropout=0.0)
        context = model.max_position_embeddings
    else:
        model, context = start, min(start.max_position_embeddings, context)
    train = _batch(train_choices, model, context, corpus, size, machine, budget, seconds_per_step)
    room = squeeze * training_seconds(budget, compiled=train["torch_compile"] == "on")
    steps = _affordable_steps(model, train, machine, room, seconds_per_step)
    steps, why = _horizon(
        steps,
        train["max_length"] * train["per_device_train_batch_size"] * train["gradient_accumulation_steps"],
        corpus,
        budget,
    )
    train["max_steps"] = train_choices.pick("max_steps", steps, why)
    passes = (
        train["max_steps"]
        * train["max_length"]
        * train["per_device_train_batch_size"]
        * train["gradient_accumulation_steps"]
        / max(1, corpus.tokens)
    )
    rules = advice_numbers.regularisation_for(0 if corpus.tokens < advice_numbers.TINY_TOKENS else passes)
    model_choices.made.clear()
    if start is None:
        model = _model(recipe, model_choices, corpus, size, context, dropout=rules.dropout, passes=passes)
    else:
        model = start.replace(dropout=_dropout(model_choices, corpus, rules.dropout, passes))
    share = 1.0 if start is None else advice_numbers.START_SHARE
    train["optimizer"] = _optimizer(train_choices, model, train["max_steps"], rules, passes, share)
    train["schedule"] = _schedule(train_choices, rules, train["max_steps"])
    train |= _against_overfitting(train_choices, train["max_steps"], rules)
    train |= _looks(train_choices, recipe, train, corpus, budget)
    rest = {key: value for key, value in recipe.train.items() if key not in train}
    train_choices.made += [Choice(key, _shown(value), "given in the recipe") for key, value in rest.items()]
    config = build(TrainConfig, train | rest, where="recipe", under="train")
    return Advice(model, config, tuple(model_choices.made + train_choices.made), budget)


def _model_given(recipe: Recipe) -> dict[str, Any]:
    """What the preset and the recipe fix, the recipe above the preset; with the family under ``family``."""
    name = recipe.model.preset
    if name is not None and name not in PRESETS:
        raise UserError("unknown preset", value=name, hint=f"one of {', '.join(PRESETS)}")
    named = dict(PRESETS[name]) if name is not None else {}
    given = {"family": "qwen3"} | named | recipe.model.given()
    if recipe.model.family is not None:
        given["family"] = recipe.model.family
    if given["family"] not in FAMILIES:
        raise UserError("unknown model family", value=given["family"], hint=f"one of {', '.join(FAMILIES)}")
    return given


def _given_beside(recipe: Recipe) -> dict[str, Any]:
    """What the recipe says of a model that exists already: its dropout at most.

    Raises:
        UserError: it says more.
    """
    asked = recipe.model.model_dump(exclude_none=True, exclude_defaults=True)
    if wrong := sorted(asked.keys() - {"dropout"}):
        raise UserError(
            "the model is that of the checkpoint",
            where="[model]",
            value=", ".join(wrong),
            hint="leave these keys out, or start from random weights",
        )
    return asked


def training_seconds(budget: float, *, compiled: bool) -> float:
    """Part of a budget left for training steps."""
    fixed = advice_numbers.STARTUP_SECONDS + (advice_numbers.COMPILE_SECONDS if compiled else 0)
    return max(0.3 * budget, (budget - fixed) * (1 - advice_numbers.OVERHEAD))


def compile_pays(stepping: float, machine: MachineFacts) -> bool:
    """Whether compiling saves more than it costs in a run whose steps take so many seconds in all."""
    kind = "gpu" if machine.accelerator is not None else machine.precision
    return stepping >= advice_numbers.COMPILE_PAYS_FROM[kind]


def most_steps(tokens_per_step: int, corpus: CorpusFacts) -> int:
    """Steps after which more passes over the text only overfit."""
    return max(LEAST_STEPS, math.ceil(_most_passes(corpus) * corpus.tokens / tokens_per_step))


def _most_passes(corpus: CorpusFacts) -> int:
    return (
        advice_numbers.MOST_PASSES_TINY
        if corpus.tokens < advice_numbers.TINY_TOKENS
        else advice_numbers.MOST_PASSES
    )


def _sizes(
    recipe: Recipe, corpus: CorpusFacts, machine: MachineFacts, budget: float
) -> tuple[int, advice_numbers.Size]:
    """Context and table row: as large as compute, text and documents allow."""
    compiled = compile_pays(training_seconds(budget, compiled=True), machine)
    room = training_seconds(budget, compiled=compiled)
    share = advice_numbers.utilisation(machine, 192, compiled=compiled)
    size = advice_numbers.size_for(room * share * machine.peak)
    limit = advice_numbers.PARAMETERS_PER_CHARACTER * corpus.characters
    smaller = [
        row
        for row in advice_numbers.SIZES
        if row.compute <= size.compute and 12 * row.layers * row.width**2 <= limit
    ]
    size = smaller[-1] if smaller else advice_numbers.SIZES[0]
    longest = max(32, 2 ** math.ceil(math.log2(max(2, corpus.median_tokens))))
    wanted = max(size.context, advice_numbers.REACH) if _long(corpus) else size.context
    return min(wanted, longest), size


def _long(corpus: CorpusFacts) -> bool:
    """Whether documents are so long that texts shall be, too."""
    return corpus.median_tokens >= 2 * advice_numbers.REACH


def _model(
    recipe: Recipe,
    choices: _Choices,
    corpus: CorpusFacts,
    size: advice_numbers.Size,
    context: int,
    *,
    dropout: float,
    passes: float = 0.0,
) -> ModelConfig:
    context = int(recipe.train.get("max_length", context))
    tiny = corpus.tokens < advice_numbers.TINY_TOKENS
    reason = (
        f"{show_count(corpus.characters)} {plural(corpus.characters, 'character')} of text can fill no "
        "larger model; it will learn them by heart"
        if tiny
        else "the size that reaches the lowest loss for this much computing time"
    )
    arguments: dict[str, Any] = {
        "num_hidden_layers": choices.pick("num_hidden_layers", size.layers, reason),
        "hidden_size": choices.pick("hidden_size", size.width, reason),
        "max_position_embeddings": choices.pick(
            "max_position_embeddings",
            context,
            f"the median document has {corpus.median_tokens} {plural(corpus.median_tokens, 'token')}, and "
            + (
                "what a model reads is all it can write in llama.cpp and Ollama; more costs some loss in so "
                "short a run (train.max_length asks for it)"
                if _long(corpus) and context <= advice_numbers.REACH
                else "short rows make cheap attention and more updates"
            ),
        ),
        "tie_word_embeddings": choices.pick(
            "tie_word_embeddings",
            size.width >= 512,
            "a shared embedding saves memory in large models; in small "
            "ones a head of its own, with its own rate, learns faster",
        ),
        "dropout": _dropout(choices, corpus, dropout, passes),
    }
    family = choices.given["family"]
    rest = {key: value for key, value in choices.given.items() if key not in arguments and key != "family"}
    for key, value in rest.items():
        choices.made.append(Choice(key, _shown(value), "given in the recipe"))
    try:
        return FAMILIES[family](vocab_size=corpus.vocab_size, **arguments, **rest)
    except TypeError as error:
        if "keyword argument" not in str(error):  # a word where the family calculates with a number
            raise UserError(
                f"this model cannot be built: {error}", where="recipe, key model.options"
            ) from None
        raise UserError(
            f"the family {family} has no such option ({str(error).rpartition('() ')[2]})",
            where="recipe, key model.options",
        ) from None
    except ValidationError as error:
        told, asked = explained(ModelConfig, error, "recipe, key model"), error.errors()[0].get("input")
        given = recipe.model.options
        name = next((key for key, value in rest.items() if value is asked or value == asked), None)
        where = (
            f"recipe, key model{'.options' if name in given else ''}.{name}" if name else "recipe, key model"
        )
        raise UserError(f"this model cannot be built: {told.what}", where=where, value=told.value) from None
    except ArithmeticError as error:
        raise UserError(f"this model cannot be built: {error}", where="recipe, key model") from None


def _dropout(choices: _Choices, corpus: CorpusFacts, dropout: float, passes: float) -> float:
    tiny = corpus.tokens < advice_numbers.TINY_TOKENS
    why = ", so the model must be kept from memorising it"
    if dropout == 0:
        why = ": to be recited, so nothing holds it back" if tiny else ": nothing to hold back yet"
    return choices.pick("dropout", dropout, f"the text is read {passes:.1f} times{why}")


def _batch(
    choices: _Choices,
    model: ModelConfig,
    context: int,
    corpus: CorpusFacts,
    size: advice_numbers.Size,
    machine: MachineFacts,
    budget: float,
    seconds_per_step: float | None,
) -> dict[str, Any]:
    context = int(choices.given.get("max_length", context))
    rows = size.rows * max(1, size.context // context // 2)
    if (
        context == advice_numbers.REACH > size.context and "max_length" not in choices.given
    ):  # as many tokens a step
        rows = max(1, size.rows * size.context // context)
    most = max(1, corpus.tokens // (8 * context))  # a step should see at most an eighth of the corpus
    rows = max(1, min(rows, 1 << int(most).bit_length() - 1))
    found: dict[str, Any] = {
        "max_length": context,
        "per_device_train_batch_size": choices.pick(
            "per_device_train_batch_size",
            rows,
            "few tokens a step give many updates in a short run"
            if budget <= 3600
            else "larger batches use the machine better over a long run",
        ),
        "gradient_accumulation_steps": choices.pick(
            "gradient_accumulation_steps", 1, "the whole batch fits in memory at once"
        ),
    }
    step = seconds_per_step or _guessed_step(model, found | {"torch_compile": "off"}, machine)
    tokens_per_step = context * found["per_device_train_batch_size"] * found["gradient_accumulation_steps"]
    steps = min(training_seconds(budget, compiled=True) / step, most_steps(tokens_per_step, corpus))
    stepping = int(choices.given.get("max_steps", steps)) * step
    pays = compile_pays(stepping, machine)
    return found | {
        "torch_compile": choices.pick(
            "torch_compile",
            "on" if pays else "off",
            f"makes steps shorter, costs about {advice_numbers.COMPILE_SECONDS:.0f} s at the start: "
            + ("worth it" if pays else "not worth it")
            + f" for {show_seconds(stepping)} of steps",
        ),
        "precision": choices.pick(
            "precision",
            machine.precision,
            "products of matrices in bf16, weights in fp32: this machine has units for it"
            if machine.precision == "bf16"
            else "this machine has no units for bf16 products",
        ),
    }


def _affordable_steps(
    model: ModelConfig,
    train: dict[str, Any],
    machine: MachineFacts,
    room: float,
    seconds_per_step: float | None,
) -> int:
    step = _guessed_step(model, train, machine) if seconds_per_step is None else seconds_per_step
    return max(LEAST_STEPS, int(room / step))


def _guessed_step(model: ModelConfig, train: Mapping[str, Any], machine: MachineFacts) -> float:
    """Seconds of a step, before any was measured."""
    share = advice_numbers.utilisation(machine, model.hidden_size, compiled=train["torch_compile"] == "on")
    tokens = train["max_length"] * train["per_device_train_batch_size"] * train["gradient_accumulation_steps"]
    return flops_per_token(model, train["max_length"]) * tokens / (share * machine.peak)


def _horizon(steps: int, tokens_per_step: int, corpus: CorpusFacts, budget: float) -> tuple[int, str]:
    """Limit the steps by the passes that still teach something."""
    limit = most_steps(tokens_per_step, corpus)
    if limit < steps:
        return (
            limit,
            f"{_most_passes(corpus)} passes over the text; the time of {show_seconds(budget)} would allow "
            "more, but they only overfit",
        )
    return steps, f"what fits into {show_seconds(budget)}"


def _optimizer(
    choices: _Choices,
    model: ModelConfig,
    steps: int,
    rules: advice_numbers.Regularisation,
    passes: float,
    share: float,
) -> dict[str, Any]:
    """Optimizer with its rates, of which weights trained before get a ``share``."""
    given = choices.given.get("optimizer", {})
    if isinstance(given, dict) and given.get("kind") == "adamw":
        advised: dict[str, Any] = {
            "kind": "adamw",
            "learning_rate": round(
                advice_numbers.ADAMW_RATE * math.sqrt(128 / max(64, model.hidden_size)), 5
            ),
            "weight_decay": max(0.1, rules.weight_decay),
        }
    else:
        advised = {
            "kind": "muon",
            "learning_rate": advice_numbers.MUON_RATE,
            "embedding_learning_rate": rules.embedding_rate,
            "head_learning_rate": advice_numbers.HEAD_RATE,
            "scalar_learning_rate": advice_numbers.SCALAR_RATE,
            "weight_decay": rules.weight_decay,
            "embedding_weight_decay": advice_numbers.TABLE_DECAY if rules.ema else 0.0,
            "momentum_warmup_steps": min(150, max(1, steps // 2)),
        }
    why = (
        "orthogonal updates need fewer steps than AdamW's; rates measured on small Chinese "
        f"corpora; weight decay for {passes:.1f} passes"
    )
    if share != 1:
        advised |= {
            key: round(value * share, 6) for key, value in advised.items() if key.endswith("learning_rate")
        }
        why += f"; {share:g} of the rates for random weights, as these know something already"
    return choices.complete("optimizer", advised, why)


def _schedule(choices: _Choices, rules: advice_numbers.Regularisation, steps: int) -> dict[str, Any]:
    given = choices.given.get("schedule", {})
    if isinstance(given, dict) and given.get("kind", "wsd") != "wsd":
        return choices.complete("schedule", {}, "")
    warmup = max(0.02, round(least_warmup(steps), 3))
    advised = {
        "kind": "wsd",
        "warmup_ratio": warmup,
        "decay_ratio": 0.6 if rules.ema else 0.5,
        "decay_type": "linear",
    }
    return choices.complete(
        "schedule", advised, "a short warm-up for random weights, then a long fall to zero"
    )


def _against_overfitting(
    choices: _Choices, steps: int, rules: advice_numbers.Regularisation
) -> dict[str, Any]:
    """What is set by the number of passes alone; dropout belongs to the model, decay to the optimizer."""
    average = round(min(0.999, max(0.9, 1 - 1 / (0.1 * steps + 1))), 4)
    return {
        "ema_decay": choices.pick(
            "ema_decay",
            average if rules.ema else None,
            "averages the last tenth of the run, which generalises better when data repeat"
            if rules.ema
            else "the falling rate already averages; worth its memory only when data repeat",
        ),
        "token_split_prob": choices.pick(
            "token_split_prob",
            rules.split_pieces,
            "the text is read in other pieces each time, so that it is harder to learn by heart"
            if rules.split_pieces
            else "each piece is met too rarely to break it up",
        ),
        "token_noise_prob": choices.pick(
            "token_noise_prob",
            rules.noise,
            "some inputs are other tokens of the text, so that no context can be learnt by heart"
            if rules.noise
            else "other means hold the model back enough",
        ),
    }


def _looks(
    choices: _Choices, recipe: Recipe, train: dict[str, Any], corpus: CorpusFacts, seconds: float
) -> dict[str, Any]:
    """How often and on how much text to evaluate: often enough to see the curve, in a twelfth of the
    training time."""
    steps = train["max_steps"]
    looks = min(steps, max(2, min(LOOKS, steps // 20)))
    budget = (
        steps
        * train["max_length"]
        * train["per_device_train_batch_size"]
        * train["gradient_accumulation_steps"]
        / 12
    )
    affordable = int(budget * 3 / looks)  # scoring a token costs a third of training on it
    result = {
        "eval_steps": choices.pick("eval_steps", math.ceil(steps / looks), f"{looks} points on the curve"),
        "sample_steps": choices.pick(
            "sample_steps",
            max(50, math.ceil(steps / SAMPLES)),
            "writing takes time, and fewer steps change little; there is always a sample at the end",
        ),
        "save_steps": choices.pick(
            "save_steps",
            math.ceil(steps / _saves(seconds)),
            "checkpoints to go on from after an interruption, in a fiftieth of the time",
        ),
    }
    if affordable < corpus.validation_tokens:
        least = min(corpus.validation_tokens, max(2000, affordable))
        result["eval_tokens"] = choices.pick(
            "eval_tokens",
            least,
            "the part of the held-out text that a twelfth of "
            "the time can score at every point; all of it is scored at the end",
        )
    if corpus.tokens < advice_numbers.TINY_TOKENS:
        result["load_best_model_at_end"] = choices.pick(
            "load_best_model_at_end",
            False,
            "the text can only be learnt by heart: held-out loss says nothing",
        )
    if recipe.samples:
        result["sample_prompts"] = recipe.samples
    return result


def _saves(seconds: float) -> int:
    """Checkpoints of a run that takes so long."""
    return max(2, min(SAVES, int(seconds / 50 / advice_numbers.SECONDS_PER_CHECKPOINT)))


LOOKS, SAMPLES, SAVES = 12, 6, 20
"""Held-out losses, samples and checkpoints during a run, at most."""
LEAST_STEPS = 20
"""Fewer are never planned, however short the budget."""
LEAST_SECONDS = 0.01
"""What a plan is made for where nothing of the budget is left; it is then refused."""
WARMUP_STEPS = 2
"""A warm-up of fewer is none."""


def least_warmup(steps: int) -> float:
    """Share of so many steps that makes a warm-up; 0 of a run too short for one."""
    return WARMUP_STEPS / steps if steps >= LEAST_STEPS else 0.0


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        kind = value.get("kind", "")
        return f"{kind} " + ", ".join(f"{key} {_shown(item)}" for key, item in value.items() if key != "kind")
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
