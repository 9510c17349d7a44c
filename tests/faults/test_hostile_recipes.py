"""Recipes of any content end in a plan or in one error that names the key, at once."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from pydantic import BaseModel

from congling.core.complaints import tables_of
from congling.core.config import build, read_toml, with_overrides
from congling.core.errors import UserError
from congling.data import corpus
from congling.data.problems import ReadingLog
from congling.methods.recipes import TuningRecipe, read_recipe
from congling.methods.tuning import require_sound_table
from congling.plan import corpus_facts, planning
from congling.plan.recipe import Recipe, read

WILD = (
    "2026-01-01", "2026-01-01T00:00:00Z", "07:30:00", "nan", "inf", "-inf", "-1", "0", "1", "1.5", "1e300",
    "5e-324", "9" * 18, "9" * 19, "9" * 5000, "0x" + "f" * 5000, "true", "''", "'x'", f"'{'x' * 5000}'", "[]",
    "{}", "['']", "[1, 2, 3]", "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]", "{a = 1}", "{kind = 1}", "{kind = 'adam'}",
    "'\\u0000'", "'../../etc/passwd'", "[1e400]", "1_000_000", "'1m'", "'1TB'", "'99999999999999999999d'",
)  # fmt: skip
TRIES = 1500


def keys(kind: type[BaseModel], depth: int = 5) -> Iterator[str]:
    """All keys of a table and of those in it."""
    for name, field in kind.model_fields.items():
        yield name
        for inner in tables_of(field) if depth else ():
            yield from (f"{name}.{key}" for key in keys(inner, depth - 1))


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "book.txt"
    path.write_text("第一回 云对雨\n雪对风，晚照对晴空。\n" * 40, encoding="utf-8")
    return path


def planned(values: dict[str, Any]) -> None:
    """Check and plan a recipe as `congling plan --no-measure` does."""
    recipe = build(Recipe, values, where="recipe")
    documents = (one for one, _ in corpus.prepared(recipe.data, ReadingLog(), lambda *_: None))
    split = recipe.data.split
    found = corpus_facts.facts_of_text(
        documents,
        kind=recipe.tokenizer.kind,
        vocab_size=recipe.tokenizer.vocab_size,
        validation=split.validation,
        test=split.test,
    )
    planning.make(recipe, found, corpus_facts.this_machine(".")).to_text()


def survives(attempt: Any, key: str, text: str) -> None:
    try:
        attempt()
    except UserError as error:
        assert str(error) and len(str(error)) < 3000
    except BaseException as error:
        raise AssertionError(f"{key} = {text[:80]}") from error


def test_any_value_of_any_key_is_planned_or_refused(book: Path) -> None:
    known, draw = [key for key in keys(Recipe) if not key.startswith("data.sources")], random.Random(1)
    for _ in range(TRIES):
        key, text = draw.choice(known), draw.choice(WILD)
        values = {"data": {"sources": [str(book)]}}
        survives(lambda v=values, k=key, t=text: planned(with_overrides(v, [f"{k}={t}"])), key, text)


def test_any_value_of_any_key_of_a_tuning_recipe_is_taken_or_refused(book: Path) -> None:
    known, draw = list(keys(TuningRecipe)), random.Random(2)

    def taken(key: str, text: str) -> None:
        require_sound_table(read_recipe(TuningRecipe, [f"{key}={text}"], [str(book)]))

    for _ in range(TRIES):
        key, text = draw.choice(known), draw.choice(WILD)
        survives(lambda k=key, t=text: taken(k, t), key, text)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("train.optimizer.learning_rate=-1", "key train.optimizer.learning_rate)"),
        ("train.optimizer={kind='adamw',betas=[0.9,2]}", "key train.optimizer.betas[1])"),
        ("train.optimizer.kind=adam", "key train.optimizer.kind)\n  help: did you mean 'adamw'?"),
        (
            "train.optimizer.learnin_rate=1",
            "'train.optimizer.learnin_rate' (in recipe)\n  help: did you mean 'learning_rate'?",
        ),
        ("train.schedule.decay_type=round", "key train.schedule.decay_type)"),
        (
            "train.max_steps=2026-01-01",
            "no setting is a date or a time: 2026-01-01 (in recipe, key train.max_steps)",
        ),
        ("train.max_steps=1e400", "a finite number is expected: inf (in recipe, key train.max_steps)"),
        (
            "train.per_device_train_batch_size=99999999999999999999",
            "too large: 99999999999999999999 (in recipe, key train.per_device_train_batch_size)",
        ),
        (
            "model.num_hidden_layers=1000000",
            "must be less than or equal to 1000: 1000000 (in recipe, key model.num_hidden_layers)",
        ),
        ("model.max_steps=10", "did you mean train.max_steps?"),
        ("max_steps=10", "did you mean train.max_steps?"),
        ("data.sources=['']", "a source is a file, a folder or 'smallworld', and this is none"),
        ("data.documents=lines", "key data.documents)\n  help: did you mean 'line'?"),
        ("data.smallworld.mix.stories=1", "did you mean 'story'?"),
        ("model.options.head_dim.x=1", "key model.options.head_dim)"),
        ("model.options={rope_theta='x'}", "key model.options.rope_theta)"),
        ("model.options={num_experts='x'}", "no such option"),
        ("model={num_attention_heads=3,hidden_size=64}", "this model cannot be built: "),
    ],
)
def test_errors_name_the_key_as_it_is_typed(book: Path, setting: str, named: str) -> None:
    with pytest.raises(UserError) as refused:
        planned(with_overrides({"data": {"sources": [str(book)]}}, [setting]))
    assert named in str(refused.value)


@pytest.mark.parametrize(
    "codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030"]
)
def test_recipes_are_read_as_editors_save_them(tmp_path: Path, book: Path, codec: str) -> None:
    file = tmp_path / "recipe.toml"
    text = tomli_w.dumps({"samples": ["云对雨", "雪对风"], "data": {"sources": [str(book)]}})
    file.write_bytes(text.encode(codec))
    assert read([file]).samples == ("云对雨", "雪对风")


@pytest.mark.parametrize("content", [
    b"", b"\xff\xfe", b"\xef\xbb\xbf", b"\0" * 99, b"\xff" * 99, b"steps = " + b"[" * 9999, b"a" * 99_999,
    b"steps = " + b"9" * 9999, b"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p = 1", b"[" + b"a." * 3000 + b"b]",
    b"# " * 3_000_000,
    b"x = [" + b"[" * 200 + b"]" * 200 + b"]", b"steps = 1\nsteps = 2", b"\xfe\xff\0a",
])  # fmt: skip
def test_files_that_are_no_recipes_are_one_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "recipe.toml"
    file.write_bytes(content)
    with pytest.raises(UserError):
        read([file])


@pytest.mark.parametrize("path", ["/proc/self/environ", "/proc/self/mem", "/dev/zero", "/dev/tty"])
def test_what_the_system_shows_is_no_recipe(path: str) -> None:
    with pytest.raises(UserError):
        read_toml(path)
