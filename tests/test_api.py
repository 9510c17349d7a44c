"""What ``import congling`` offers: lazily, and whatever else is imported."""

import inspect
import subprocess
import sys
import typing

import pytest

import congling
from congling import api
from congling.core.errors import UserError
from support import tiny_checkpoint

FUNCTIONS = sorted(api.__all__)


def said(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_functions_are_those_of_the_api():
    assert sorted(congling.__all__) == sorted(["__version__", "methods", *FUNCTIONS])
    assert set(FUNCTIONS) <= set(dir(congling))
    assert all(
        getattr(congling, name) is getattr(api, name)
        for name in FUNCTIONS
        if name not in ("train", "tokenizer")
    )
    with pytest.raises(AttributeError, match="nothing"):
        congling.nothing  # noqa: B018


def test_each_method_is_a_module_with_a_run():
    program = """
import sys, congling
print("torch" in sys.modules, callable(congling.methods))
names = [name for name in congling.methods.__all__ if name != "recipes"]
print(*(callable(getattr(congling.methods, name).run) for name in names))
print(congling.methods.recipes.SFTRecipe.__name__, "sft" in dir(congling.methods))
"""
    assert said(program) == ["False", "False", *["True"] * 10, "SFTRecipe", "True"]
    with pytest.raises(AttributeError, match="nothing"):
        congling.methods.nothing  # noqa: B018


def test_import_loads_nothing_before_it_is_asked_for():
    heavy = "torch", "numpy", "pydantic", "typer", "congling.api"
    program = "import sys, congling; dir(congling); print(*(name for name in %r if name in sys.modules))"
    assert said(program % (heavy,)) == []


@pytest.mark.parametrize("before", ["", "import congling.train.config, congling.tokenizer.store"])
def test_functions_with_the_names_of_packages_work_before_and_after_these_are_loaded(before):
    program = f"""
{before}
import congling
from congling.core.errors import UserError
from support import tiny_checkpoint
for call in (lambda: congling.tokenizer("nothing"), lambda: congling.train("nothing", out="nowhere")):
    try:
        call()
    except UserError as error:
        print(error.value)
import congling.train.config as config
print(config.TrainConfig.__name__, congling.train.config is config)
"""
    assert said(program) == ["nothing", "nothing", "TrainConfig", "True"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_types_and_a_docstring_with_its_errors(name):
    function = getattr(api, name)
    hints = typing.get_type_hints(function)
    assert set(inspect.signature(function).parameters) | {"return"} == hints.keys()
    assert "Raises:" in function.__doc__


@pytest.mark.parametrize("messages", [[], [{"role": "assistant", "content": "好"}], [{"role": "user"}]])
def test_a_conversation_ends_with_a_question(messages):
    with pytest.raises(UserError, match="question of the user"):
        api.chat("nowhere", messages)


def test_a_setting_that_is_none_is_named(tmp_path):
    with pytest.raises(
        UserError, match=r"train\.seed.*a setting is a number|a setting is a number(.|\n)*train\.seed"
    ):
        api.train("smallworld", out=tmp_path, settings={"train": {"seed": None}})


def test_fewer_bits_and_what_they_cost(tmp_path):
    base = tiny_checkpoint.write(tmp_path / "base")
    text = tmp_path / "text.txt"
    text.write_text("云对雨雪对风晚照对晴空学而时习之不亦说乎从零开始" * 60, encoding="utf-8")
    made = congling.quantize(base, tmp_path / "q", "rtn", settings={"bits": 8, "group_size": -1})
    assert made.settings["bits"] == 8 and made.settings["group_size"] == -1 and made.calibration is None
    found = congling.damage(base, made.out, data=[str(text)], limit_tokens=512, layers=False, texts=False)
    assert 0 < found.models[0].damage.kl.value < 0.01
    again = congling.damage(base, [made.out, made.out], data=[str(text)], limit_tokens=512, layers=False)
    assert again.models[0].damage.kl == again.models[1].damage.kl == found.models[0].damage.kl
    with pytest.raises(UserError, match="no such method"):
        congling.quantize(base, tmp_path / "no", "gtpq")
