"""The page about the architecture says what is there: every package, the layers, the files to read."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "congling"
PLANNED = {"en": "(planned)", "zh": "（计划中）"}
LATER = {
    "infer/engine",
    "serve",
    "track",
    "train/backends/fsdp",
    "train/backends/deepspeed",
    "data/filters",
    "data/near",
    "data/parts",
}


def page(language):
    return (ROOT / "docs" / language / "architecture.md").read_text(encoding="utf-8")


def tree(language):
    """Paths below src/congling that the tree shows, with what stands beside each."""
    (block,) = re.findall(r"^```text\nsrc/congling/\n(.*?)^```", page(language), re.M | re.S)
    found, above = {}, []
    for line in block.splitlines():
        indent, name, said = re.fullmatch(r"([│ ]*)[├└]── (\S+) +(.+)", line).groups()
        above = [*above[: len(indent) // 4], name.rstrip("/")]
        found["/".join(above)] = said
    return found


@pytest.mark.parametrize("language", PLANNED)
def test_the_tree_has_every_package(language):
    packages = {file.parent.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("*.py")} - {"."}
    there = {path for path, said in tree(language).items() if not said.startswith(PLANNED[language])}
    assert {path for path in there if not path.endswith(".py")} == packages
    assert [path for path in there if path.endswith(".py") and not (SOURCE / path).is_file()] == []


@pytest.mark.parametrize("language", PLANNED)
def test_planned_places_are_marked_until_something_stands_there(language):
    planned = {path for path, said in tree(language).items() if said.startswith(PLANNED[language])}
    assert planned == {path for path in LATER if not (SOURCE / path).exists()}
    assert {path for path in planned if (SOURCE / f"{path}.py").exists()} == set()


@pytest.mark.parametrize("language", PLANNED)
def test_layers_are_those_that_are_checked(language):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = next(one["layers"] for one in settings["contracts"] if one["type"] == "layers")
    for text in (page(language), (ROOT / "CONTRIBUTING.md").read_text("utf-8")):
        (told,) = re.findall(r"^`?(cli → .*?)`?$", text, re.M)
        assert told.split(" → ") == [layer for layer in layers if layer != "__main__"]


def test_hooks_before_a_commit_are_rules_of_make_check():
    entries = re.findall(
        r"entry: \.venv/bin/(\S+(?: [a-z]+)?)", (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    )
    rules = (ROOT / "Makefile").read_text("utf-8").partition("\ncheck:")[2].partition("\n\n")[0]
    assert len(entries) == 3
    assert [entry for entry in entries if f"/{entry}" not in rules] == []


@pytest.mark.parametrize("language", PLANNED)
def test_eight_files_are_read_in_half_an_hour(language):
    table = page(language).split("\n## ")[1]
    files = [ROOT / "docs" / language / target for target in re.findall(r"\]\((\.\./.*?\.py)\)", table)][:8]
    assert len(re.findall(r"^\| \d \|", table, re.M)) == 8
    assert sum(len(file.read_text("utf-8").splitlines()) for file in files) <= 30 * 45
