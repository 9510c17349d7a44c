"""The wheel: everything of the source is in it, and the program runs from it alone."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import congling

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]


def done(*words, **options):
    called = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    assert called.returncode == 0, called.stdout + called.stderr
    return called.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left in the source."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    done(*PIP, "wheel", copy, "--no-deps", "--no-build-isolation", "--no-index", "-w", out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    target = tmp_path_factory.mktemp("target")
    done(*PIP, "install", "--no-deps", "--no-index", "--no-compile", "--target", target, wheel)
    return target


def test_everything_of_the_source_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("congling/")}
    files = (file for file in (ROOT / "src/congling").rglob("*") if file.is_file())
    source = {file.relative_to(ROOT / "src").as_posix() for file in files if "__pycache__" not in file.parts}
    assert packed == source
    assert {Path(name).suffix for name in packed} >= {".py", ".typed", ".css", ".jinja"}


def test_metadata_has_the_version_of_the_package_and_the_readme(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = archive.read(name).decode("utf-8")
    assert f"\nVersion: {congling.__version__}\n" in metadata
    assert "\nKeywords: " in metadata and "\nClassifier: Natural Language :: Chinese" in metadata
    assert (ROOT / "README.md").read_text("utf-8").splitlines()[0] in metadata
    assert not re.search(r"example\.(com|org)|YOUR|TODO", metadata)


def test_the_package_is_imported_from_it_without_torch(installed, tmp_path):
    program = (
        "import sys, congling; print(congling.__file__); "
        "assert 'torch' not in sys.modules and 'pydantic' not in sys.modules; "
        "print(congling.__version__)"
    )
    said = done(sys.executable, "-c", program, cwd=tmp_path, env={"PYTHONPATH": str(installed), "PATH": ""})
    assert Path(said.splitlines()[0]).is_relative_to(installed)
    assert said.splitlines()[1] == congling.__version__


def test_the_program_runs_from_it(installed, tmp_path):
    script = installed / "bin" / "congling"
    said = done(
        sys.executable, script, "--help", cwd=tmp_path, env={"PYTHONPATH": str(installed), "PATH": ""}
    )
    assert "train" in said and "convert" in said
