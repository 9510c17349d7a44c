"""A recipe: one TOML file from text to trained model; whatever it leaves out, the plan chooses and explains.

::

    budget = "15m"                      # wall-clock time of the training run
    samples = ["却说宝玉", "林黛玉"]       # prompts continued during training

    [data]                              # congling.data.config.DataConfig
    sources = ["book.txt"]

    [tokenizer]                         # congling.tokenizer.config.TokenizerConfig
    kind = "bpe"

    [model]                             # ModelRecipe: absent = chosen for the budget and the corpus
    family = "qwen3"

    [train]                             # any key of congling.train.config.TrainConfig; absent = chosen
    per_device_train_batch_size = 16

    [quantization]                      # train in few bits; absent = in floats
    method = "rtn"
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from congling.core.complaints import Table, require_new_keys
from congling.core.config import Config, build, load, with_overrides
from congling.core.errors import UserError
from congling.core.files import exists
from congling.core.text import readable
from congling.core.units import Seconds
from congling.core.words import separate
from congling.data.config import SMALL_WORLD, DataConfig
from congling.interop.targets import Target
from congling.quant.config import TrainedConfig
from congling.tokenizer.config import TokenizerConfig
from congling.train.config import LONGEST_ROW, TrainConfig, checked_train


def _option(value: Any) -> Any:
    """A value of ``[model.options]``, whose meaning the family checks."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    if not all(one is None or isinstance(one, (bool, int, float, str)) for one in parts):
        raise ValueError("a number, a word, or a list of them is expected")
    if any(isinstance(one, int) and not 0 <= one <= LONGEST_ROW for one in parts):
        raise ValueError(f"sizes are whole numbers from 0 to {LONGEST_ROW}")
    return value


class ModelRecipe(Config):
    """The model as a person asks for it; ``None`` means: choose."""

    family: str | None = None
    """A key of ``congling.model.families.FAMILIES``; ``None`` is the preset's, else ``qwen3``."""
    preset: str | None = None
    """A named size of ``congling.model.presets``; the fields below override its values."""
    num_hidden_layers: int | None = Field(default=None, ge=1, le=1000)
    hidden_size: int | None = Field(default=None, ge=1, le=2**16)
    num_attention_heads: int | None = Field(default=None, ge=1, le=2**12)
    num_key_value_heads: int | None = Field(default=None, ge=1, le=2**12)
    intermediate_size: int | None = Field(default=None, ge=1, le=2**20)
    moe_intermediate_size: int | None = Field(default=None, ge=1, le=2**20)
    """Hidden channels of one expert, where these are not as wide as ``intermediate_size``."""
    max_position_embeddings: int | None = Field(default=None, ge=1, le=LONGEST_ROW)
    """Longest sequence in tokens the model is made for."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    tie_word_embeddings: bool | None = None
    """Whether the output head shares the embedding's weights."""
    options: dict[str, Annotated[Any, AfterValidator(_option)]] = Field(default_factory=dict)
    """Further arguments of the family's function, such as the number of experts."""

    @field_validator("options")
    @classmethod
    def _named_as_now(cls, options: dict[str, Any]) -> dict[str, Any]:
        require_new_keys("ModelRecipe.options", options)
        return options

    def given(self) -> dict[str, Any]:
        """Only what was asked for, as arguments of the family's function."""
        fields = self.model_dump(exclude={"family", "preset", "options"})
        return {key: value for key, value in fields.items() if value is not None} | dict(self.options)


__all__ = ["KINDS", "ModelRecipe", "Recipe", "read", "separate"]

KINDS = {"optimizer": "muon", "schedule": "wsd"}
"""Kinds of the tables that name none."""


class Recipe(Config):
    """From text to trained model; every part but the data may be left to the plan."""

    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelRecipe = ModelRecipe()
    train: Annotated[dict[str, Any], Table(TrainConfig)] = Field(default_factory=dict)
    """Values for keys of :class:`~congling.train.config.TrainConfig`, laid over the chosen ones."""
    quantization: TrainedConfig | None = None
    """Train the linear layers of the blocks in few bits; left out, in floats."""
    budget: Seconds | None = Field(default=None, gt=0)
    """Wall-clock seconds for training; ``None`` lets the size of the corpus decide."""
    samples: tuple[str, ...] = ()
    """Prompts continued during training; empty = how paragraphs of held-out documents begin."""
    exports: tuple[Target, ...] = ("gguf", "hf")
    """Formats the model is to be converted into exactly; the plan warns of what stands in the way."""

    @property
    def given_keys(self) -> frozenset[str]:
        """Dotted names of what it says itself, such as ``train.optimizer.learning_rate``; the plan
        chose the rest.
        """
        tables = {"data": self.data, "tokenizer": self.tokenizer, "model": self.model}
        found = {name for table, config in tables.items() for name in _given(config, f"{table}.")}
        for key, value in self.train.items():
            inner = value if isinstance(value, dict) else {}
            found |= {f"train.{key}", *(f"train.{key}.{name}" for name in inner)}
        return frozenset(found)

    @field_validator("train")
    @classmethod
    def _sound(cls, table: dict[str, Any]) -> dict[str, Any]:
        checked_train(table, KINDS)
        return table


def _given(config: Config, prefix: str) -> Iterator[str]:
    """Names of the fields that are not as they are without a word, tables within tables included."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Config):
            yield from _given(value, f"{prefix}{name}.")
        elif value != field.get_default(call_default_factory=True):
            yield prefix + name


def read(inputs: Sequence[Path | str], overrides: Iterable[str] = ()) -> Recipe:
    """Make a recipe from what stands on the command line: one ``.toml`` file, or text files and folders.

    Raises:
        UserError: no input, a missing file, several recipes, or a recipe that does not fit :class:`Recipe`.
    """
    if not inputs:
        raise UserError("nothing to train on", hint="name a text file, a folder, or a recipe (.toml)")
    recipes = [path for path in inputs if Path(path).suffix == ".toml"]
    if recipes and len(inputs) > 1:
        raise UserError("a recipe names its own texts; give it alone", value=[str(path) for path in inputs])
    if recipes:
        return load(Recipe, recipes[0], overrides)
    missing = [str(path) for path in inputs if str(path) != SMALL_WORLD and not exists(path)]
    if missing:
        raise UserError("no such file or folder", value=missing[0])
    values = with_overrides({"data": {"sources": [readable(str(path)) for path in inputs]}}, overrides)
    return build(Recipe, values, where="command line")
