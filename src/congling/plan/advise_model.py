"""The model: as large as computing time and text allow, in the family that the recipe asks for."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from congling.core.complaints import explained
from congling.core.errors import UserError
from congling.core.units import plural, show_count
from congling.model.config import ModelConfig
from congling.model.families import FAMILIES
from congling.model.presets import PRESETS
from congling.plan import advice_numbers
from congling.plan.advise_batch import compile_pays, training_seconds
from congling.plan.choices import Choices
from congling.plan.corpus_facts import CorpusFacts, MachineFacts
from congling.plan.recipe import Recipe


def given_of(recipe: Recipe) -> dict[str, Any]:
    """What the preset and the recipe fix, the recipe above the preset; with the family under ``family``.

    Raises:
        UserError: there is no such preset or family.
    """
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


def given_beside(recipe: Recipe) -> dict[str, Any]:
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


def sizes(corpus: CorpusFacts, machine: MachineFacts, budget: float) -> tuple[int, advice_numbers.Size]:
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


def model_of(
    recipe: Recipe,
    choices: Choices,
    corpus: CorpusFacts,
    size: advice_numbers.Size,
    context: int,
    *,
    dropout: float,
    passes: float = 0.0,
) -> ModelConfig:
    """The model, from a row of the table of sizes and all that the recipe gives.

    Raises:
        UserError: the recipe's values contradict each other, or are none of the family's.
    """
    context = int(recipe.train.get("max_length", context))
    tiny = corpus.tokens < advice_numbers.TINY_TOKENS
    reason = (
        f"{show_count(corpus.characters)} {plural(corpus.characters, 'character')} of text can fill no "
        "larger model; it will memorise them"
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
        "dropout": dropout_of(choices, corpus, dropout, passes),
    }
    rest = {key: value for key, value in choices.given.items() if key not in arguments and key != "family"}
    choices.take(rest)
    return _built(recipe, choices.given["family"], {"vocab_size": corpus.vocab_size} | arguments, rest)


def _built(recipe: Recipe, family: str, arguments: Mapping[str, Any], rest: Mapping[str, Any]) -> ModelConfig:
    try:
        return FAMILIES[family](**arguments, **rest)
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


def dropout_of(choices: Choices, corpus: CorpusFacts, dropout: float, passes: float) -> float:
    """Dropout for so many passes over the text."""
    tiny = corpus.tokens < advice_numbers.TINY_TOKENS
    why = ", so the model must be kept from memorising it"
    if dropout == 0:
        why = ": to be recited, so nothing holds it back" if tiny else ": nothing to hold back yet"
    return choices.pick("dropout", dropout, f"the text is read {passes:.1f} times{why}")
