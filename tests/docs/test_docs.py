"""The documentation says what the program does: every verb, key, command, example and warning of it."""

import ast
import inspect
import json
import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import typer

from congling.cli import application
from congling.cli.verbs import VERBS, module_of
from congling.core import manual
from congling.core.config import build, read_toml, with_overrides
from congling.data import command_line
from congling.data.config import DataConfig, SplitConfig
from congling.data.smallworld.config import SmallWorldConfig
from congling.llamacpp_trainers import arguments
from congling.llamacpp_trainers.adapter_options import ExportOptions, FinetuneOptions
from congling.llamacpp_trainers.options import ScratchOptions
from congling.methods import distill, grpo, ppo, preferences, quantize, reward_model, rewards, sft
from congling.methods.recipes import (
    ReinforcementRecipe,
    RewardConfig,
    SFTRecipe,
    TuningRecipe,
)
from congling.methods.tuning import require_sound_table
from congling.model.dense_families import Sizes
from congling.model.families import FAMILIES
from congling.plan import planning
from congling.plan.corpus_facts import CorpusFacts, MachineFacts
from congling.plan.recipe import ModelRecipe, Recipe, separate
from congling.tokenizer.config import TokenizerConfig
from congling.train.config import AdamWConfig, CosineConfig, MuonConfig, TrainConfig, WSDConfig
from congling.train.objectives.config import (
    GRPOConfig,
    PPOConfig,
    PPORolloutConfig,
    PreferenceConfig,
    RolloutConfig,
)
from congling.train.objectives.distill_config import DistillConfig
from congling.transform.config import AdapterConfig, LongLoRAConfig

ROOT = Path(__file__).parents[2]
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
INDEXES = (ROOT / "docs" / "README.md", ROOT / "docs" / "README.zh-CN.md")
GUIDES = {language: sorted((ROOT / "docs" / language).glob("*.md")) for language in ("en", "zh")}
PAGES = [*READMES, *INDEXES, *GUIDES["en"], *GUIDES["zh"]]
PAIRS = [READMES, INDEXES, *zip(GUIDES["en"], GUIDES["zh"], strict=True)]
TABLES = [  # of recipes.md, in order: configuration class and the keys that have tables of their own
    (Recipe, {"data", "tokenizer", "model", "train"}),
    (DataConfig, {"split", "smallworld"}),
    (SplitConfig, set()),
    (SmallWorldConfig, set()),
    (TokenizerConfig, set()),
    (ModelRecipe, set()),
    (None, set()),
    (TrainConfig, set()),
    (MuonConfig, {"kind"}),
    (AdamWConfig, {"kind"}),
    (WSDConfig, {"kind"}),
    (CosineConfig, {"kind"}),
]
TUNING_TABLES = {  # by page, in order
    "finetuning.md": [
        (SFTRecipe, {"data", "adapter", "train", "longlora"}),
        (AdapterConfig, set()),
        (LongLoRAConfig, set()),
    ],
    "distillation.md": [
        (DistillConfig, set()),
    ],
    "preferences.md": [
        (PreferenceConfig, set()),
        (RewardConfig, set()),
    ],
    "reinforcement.md": [
        (ReinforcementRecipe, {*TuningRecipe.model_fields, "rollout"}),
        (RolloutConfig, set()),
        (GRPOConfig, set()),
        (PPOConfig, set()),
    ],
}
KEY_ROW = r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|$"
TUNING = {"sft": sft, "dpo": preferences, "reward": reward_model, "grpo": grpo, "ppo": ppo}
RECIPES = {"lora": sft, "dpo": preferences, "reward": reward_model, "grpo": grpo, "ppo": ppo}
CLASSIC = {  # verbs that read their command line themselves
    "train-text-from-scratch": ScratchOptions,
    "finetune": FinetuneOptions,
    "export-lora": ExportOptions,
}
BOOK = CorpusFacts(
    characters=500_000,
    tokens=400_000,
    documents=70,
    median_tokens=5_000,
    vocab_size=4_800,
    validation_tokens=500_000,
    validation_documents=8,
)
POEM = CorpusFacts(
    characters=1_500,
    tokens=1_200,
    documents=15,
    median_tokens=80,
    vocab_size=400,
    validation_tokens=80,
    validation_documents=1,
)
MACHINE = MachineFacts(cores=2, memory=8 * 10**9, free_disk=10**11, peak=1e11)


def name(path):
    return path.relative_to(ROOT).as_posix() if isinstance(path, Path) else path[0].name


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


def prose(path):
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def commands():
    """Every shell command of every page, once."""
    found = {
        tuple(_words(line)): name(page)
        for page in PAGES
        for block in blocks(page, "bash")
        for line in block.splitlines()
    }
    return [pytest.param(words, id=f"{page}: {' '.join(words)[:60]}") for words, page in found.items()]


def _words(line):
    """A command without comments, and without where its output goes."""
    words = shlex.split(line, comments=True)
    return words[: next((i for i, word in enumerate(words) if word in (">", ">>", "|")), len(words))]


@pytest.mark.parametrize("pair", PAIRS, ids=name)
def test_both_languages_have_equal_headings_commands_and_programs(pair):
    english, chinese = pair
    assert english.name == chinese.name.replace(".zh-CN", "")
    levels = [re.findall(r"^#+(?= )", prose(page), re.M) for page in pair]
    assert levels[0] == levels[1]
    for language in ("bash", "python", "toml"):
        ours, theirs = ([re.sub(r"\s+# .*", "", block) for block in blocks(page, language)] for page in pair)
        assert ours == theirs


@pytest.mark.parametrize("pair", PAIRS, ids=name)
def test_both_languages_have_equal_figures(pair):
    figures = [set(re.findall(r"(?<![\w.])\d+\.\d\d+|\d+,\d{3}", page.read_text("utf-8"))) for page in pair]
    assert figures[0] == figures[1]


def examples():
    """Every command that the help of a verb shows."""
    lines = (line for verb in VERBS for line in manual.examples(import_module(module_of(verb)).__doc__))
    return [pytest.param(_words(line), id=line[:60]) for line in lines]


@pytest.mark.parametrize("words", examples())
def test_examples_of_help_are_true(words):
    _parse(list(words[1:]))


@pytest.mark.parametrize("words", commands())
def test_commands_exist(words):
    if words[0] == "torchrun":
        words = words[words.index("congling") :]
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text("utf-8"), re.M)
    elif words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
            "optional-dependencies"
        ]
        assert words[:3] == ("pip", "install", "-e")
        assert set(re.findall(r"\[(\w+)\]", words[3])) <= set(extras)
    else:
        assert words[0] == "congling"
        _parse(list(words[1:]))


def _parse(words):
    """Parse a command as the program would, with the settings among its arguments, and run nothing."""
    if {"-h", "--help"} & set(words):
        assert set(words) - {"-h", "--help"} <= VERBS.keys()
        return
    command = typer.main.get_command(application(None))
    context = command.make_context("congling", list(words))
    if words[0].startswith("--"):
        return
    rest, verbs = words, []
    while hasattr(command, "resolve_command"):
        verb, command, rest = command.resolve_command(context, rest)
        assert command is not None, f"no such verb: {words}"
        verbs.append(verb)
        context = command.make_context(verb, list(rest), parent=context, resilient_parsing=False)
    if verbs[0] in CLASSIC:
        arguments.parse(CLASSIC[verbs[0]], context.args)
        return
    if verbs[0] == "data":
        _parse_data(verbs[1], context.params)
        return
    if verbs[0] == "distill":
        distill.read_recipe(context.params["recipe"], context.params["overrides"] or [])
        return
    if verbs[0] in TUNING:
        _parse_tuning(TUNING[verbs[0]], context.params)
        return
    inputs, overrides = separate(context.params.get("arguments") or context.params.get("overrides") or [])
    recipes = [path for path in inputs if path.suffix == ".toml" and path.parts[0] == "examples"]
    values = read_toml(ROOT / recipes[0]) if recipes else {"data": {"sources": ["book.txt"]}}
    if context.params.get("budget"):
        overrides.append(f'budget="{context.params["budget"]}"')
    if verbs[0] == "plan" and [path.parts[0] for path in inputs] == ["runs"]:
        method = next(one.partition("=")[2] for one in overrides if one.startswith("method="))
        quantize.chosen(method, [one for one in overrides if not one.startswith("method=")])
    else:
        recipe = build(Recipe, with_overrides(values, overrides))
        planning.make(recipe, BOOK, MACHINE)


def _parse_data(verb, params):
    if verb != "rows":
        command_line.configured(params["sources"])
        return
    command_line.rows_configured(params)


def _parse_tuning(stage, params):
    settings = [
        str(ROOT / word) if word.startswith("examples/") else word for word in params["settings"] or []
    ]
    more = [params["reward"] or []] if "reward" in params else []
    require_sound_table(stage.read_recipe(settings, params["data"] or [], *more))


@pytest.mark.parametrize("name", RECIPES)
def test_tuning_recipes_load_and_show_their_command(name):
    file = ROOT / "examples" / f"{name}.toml"
    require_sound_table(RECIPES[name].read_recipe([str(file)], ["rows.jsonl"]))
    purpose, command = file.read_text(encoding="utf-8").splitlines()[:2]
    assert purpose.startswith("# ") and f" examples/{name}.toml " in command
    _parse(shlex.split(command.removeprefix("#   congling ")))


@pytest.mark.parametrize("language", GUIDES)
def test_the_guide_shows_every_verb(language):
    guide = (ROOT / "docs" / language / "guide.md").read_text(encoding="utf-8")
    for file in (ROOT / "src/congling/stages").glob("[a-z]*.py"):
        assert f"\ncongling {file.stem.strip('_').replace('_', '-')} " in guide, file.stem


@pytest.mark.parametrize("readme", READMES, ids=name)
def test_the_readme_is_a_door_with_every_verb_and_extra(readme):
    text = readme.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    tables = re.sub(r"<!-- NUMBERS -->.*?<!-- /NUMBERS -->", "", text, flags=re.S)
    first = [line.strip("|").partition("|")[0] for line in tables.splitlines() if line.startswith("| `")]
    named = [word for cell in first for word in re.findall(r"`([\w-]+)`", cell)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert sorted(named) == sorted([*VERBS, *project["optional-dependencies"]])


@pytest.mark.parametrize("readme", READMES, ids=name)
def test_figures_of_the_readme_stand_in_the_pages_as_well(readme):
    language = "zh" if "zh" in readme.name else "en"
    pages = "".join(page.read_text("utf-8") for page in GUIDES[language])
    (table,) = re.findall(r"<!-- NUMBERS -->\n(.*?)<!-- /NUMBERS -->", readme.read_text("utf-8"), re.S)
    (demo,) = re.findall(r"<!-- DEMO-OUTPUT -->\n(.*?)<!-- /DEMO-OUTPUT -->", readme.read_text("utf-8"), re.S)
    figures = re.findall(r"[+-]?\d+\.\d+(?: %|-\d+\.\d)?", table)
    assert len(figures) >= 20
    assert [figure for figure in figures if figure not in pages] == []
    assert [line for line in demo.splitlines() if line not in pages] == []


@pytest.mark.parametrize("language", GUIDES)
def test_the_page_of_recipes_names_every_recipe_and_family(language):
    text = (ROOT / "docs" / language / "recipes.md").read_text(encoding="utf-8")
    for file in (ROOT / "examples").glob("*.toml"):
        assert f"(../../examples/{file.name})" in text
    for family in FAMILIES:
        assert f"`{family}`" in text


@pytest.mark.parametrize("index", INDEXES, ids=name)
def test_the_index_names_every_page_once(index):
    language = "zh" if "zh" in index.name else "en"
    named = re.findall(rf"\({language}/([\w-]+\.md)\)", index.read_text(encoding="utf-8"))
    assert sorted(named) == [page.name for page in GUIDES[language]]


@pytest.mark.parametrize("language", GUIDES)
def test_recipes_page_has_every_key_with_its_default(language):
    sections = (ROOT / "docs" / language / "recipes.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert len(sections) == len(TABLES)
    for section, (kind, apart) in zip(sections, TABLES, strict=True):
        rows = re.findall(KEY_ROW, section, re.M)
        if kind is None:
            assert {row[0] for row in rows} == _options()
            continue
        assert [row[0] for row in rows] == [key for key in kind.model_fields if key not in apart], kind
        for key, default, _, _ in rows:
            if default != "*plan*":
                assert default == _shown(kind.model_fields[key]), f"{kind.__name__}.{key}"
            else:
                assert kind in (ModelRecipe, TrainConfig)


@pytest.mark.parametrize("language", GUIDES)
@pytest.mark.parametrize("page", TUNING_TABLES)
def test_tuning_pages_have_every_key_with_its_default(language, page):
    text = (ROOT / "docs" / language / page).read_text(encoding="utf-8")
    sections = [re.findall(KEY_ROW, section, re.M) for section in text.split("\n## ")[1:]]
    for rows, (kind, apart) in zip(filter(None, sections), TUNING_TABLES[page], strict=True):
        assert [row[0] for row in rows] == [key for key in kind.model_fields if key not in apart], kind
        assert [row[1] for row in rows] == [_shown(kind.model_fields[row[0]]) for row in rows], kind


@pytest.mark.parametrize("language", GUIDES)
def test_reinforcement_page_says_which_rollouts_ppo_has_of_its_own(language):
    text = (ROOT / "docs" / language / "reinforcement.md").read_text(encoding="utf-8")
    table = text.partition("\n## [rollout]")[2].partition("\n## ")[0]
    told = {
        key: re.findall(r"`ppo` \D*(`.+?`)", meaning)
        for key, _, _, meaning in re.findall(KEY_ROW, table, re.M)
    }
    for key, field in PPORolloutConfig.model_fields.items():
        own = _shown(field)
        assert told[key] == ([] if own == _shown(RolloutConfig.model_fields[key]) else [own]), key


def test_the_reward_functions_of_the_manual_give_what_it_says(tmp_path, monkeypatch):
    (program,) = blocks(ROOT / "docs/en/reinforcement.md", "python")
    (tmp_path / "rules.py").write_text(program, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    row = type("Row", (), {"fields": {"answer": "7"}})
    found = rewards.load(["rules.py:right", "rules.py:short=0.2"])(
        [{"row": row, "text": text} for text in ("7。", "8", "七", "七" * 40)]
    )
    assert found.tolist() == pytest.approx([1.2, 0.3, 0.2, 0.1])


def test_plan_in_the_recipes_page_is_what_the_plan_chooses():
    recipe = build(Recipe, {"data": {"sources": ["book.txt"]}, "budget": 300})
    chosen = {
        choice.key
        for corpus in (BOOK, POEM)
        for choice in planning.make(recipe, corpus, MACHINE).advice.choices
    }
    page = (ROOT / "docs/en/recipes.md").read_text(encoding="utf-8")
    follows = {"max_length"}  # it is max_position_embeddings, and the plan shows it as that
    assert set(re.findall(r"^\| `(\w+)` \| \*plan\* \|", page, re.M)) == chosen | follows


def _options():
    """Arguments of the families that no key of [model] gives."""
    known = {"vocab_size", "sizes", *ModelRecipe.model_fields}
    arguments = {key for family in FAMILIES.values() for key in inspect.signature(family).parameters}
    return (arguments | set(Sizes.__annotations__)) - known


def _shown(field):
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    if value is None:
        return "–"
    if isinstance(value, dict):
        return "`{ " + ", ".join(f"{key} = {json.dumps(item)}" for key, item in value.items()) + " }`"
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)}`"


MODULES = ("plan/checks", "plan/check_costs", "plan/tuning_plan", "report/explain", "evals/collapse")
"""Those that find something."""


@pytest.mark.parametrize("language", GUIDES)
@pytest.mark.parametrize("module", MODULES)
def test_troubleshooting_has_every_finding(language, module):
    tree = ast.parse((ROOT / f"src/congling/{module}.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    codes = {
        node.args[1].value
        for node in calls
        if isinstance(node.func, ast.Name) and node.func.id == "Diagnosis"
    }
    page = (ROOT / "docs" / language / "troubleshooting.md").read_text(encoding="utf-8")
    assert codes
    assert {code for code in codes if f"| `{code}` |" not in page} == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = re.sub(r"<!--.*?-->", "", prose(page), flags=re.S)
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_programs_about_the_small_world_print_what_they_say(capsys):
    page = ROOT / "docs/en/smallworld.md"
    for program in blocks(page, "python"):
        exec(compile(program, "smallworld.md", "exec"), {})
        printed = capsys.readouterr().out
        for promised in re.findall(r"^print\(.*\)  # (.+)$", program, re.M):
            assert promised in printed
    for kind, bits in re.findall(r"^\| (\w+) \| (\d\.\d\d) \|$", page.read_text("utf-8"), re.M):
        assert _floor(kind) == bits
    (long,) = re.findall(r"^\| long .*\| (\d\.\d\d) \|$", page.read_text("utf-8"), re.M)
    assert float(long) == pytest.approx(
        _long_floor().bits_per_character, abs=3 * _long_floor().standard_error
    )


def _long_floor():
    from congling.data.smallworld import entropy_floor

    return entropy_floor(SmallWorldConfig(mix={"long": 1}), documents=60)


def _floor(kind):
    from congling.data.smallworld import entropy_floor

    return f"{entropy_floor(SmallWorldConfig(), documents=2000).by_kind[kind].bits_per_character:.2f}"
