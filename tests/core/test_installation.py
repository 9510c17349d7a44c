"""What the doctor sees: versions against their ranges, the terminal, the disk; and what it advises."""

import importlib.metadata
import sys
from pathlib import Path

import pytest

from congling.core import installation
from congling.core.installation import fits

LIMITS = {
    ("2.13.0+cpu", ">=2.9"): True, ("2.8.1", ">=2.9"): False, ("2.9", ">=2.9.0"): True,
    ("1.2", "==1.2.0"): True, ("1.2.1", "==1.2"): False, ("3.1", ">=2,<3"): False, ("2.5", ">=2,<3"): True,
    ("1.0", "!=1.0"): False, ("2026.10.1", "==2026.10.1"): True, ("1.0", ""): True, ("odd", ">=1"): False,
}  # fmt: skip


@pytest.mark.parametrize("case", LIMITS)
def test_versions_within_limits(case):
    assert fits(*case) == LIMITS[case]


def asked(monkeypatch, lines, versions):
    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    monkeypatch.setattr(importlib.metadata, "version", version)
    return {check.name: check for check in installation.packages()}


def test_packages_are_compared_with_what_is_asked_for(monkeypatch):
    lines = ["torch>=2.9", "rich>=13", 'pyarrow>=17; extra == "data"', "xllama==1.2; extra == 'gguf'"]
    found = asked(monkeypatch, lines, {"torch": "2.10", "rich": "13.1", "xllama": "1.1"})
    assert (found["packages"].level, found["packages"].found) == ("good", "torch 2.10, rich 13.1")
    assert (found["extra data"].level, found["extra data"].remedy) == ("note", 'pip install "congling[data]"')
    assert found["extra gguf"].level == "error" and "xllama 1.1 (needs ==1.2)" in found["extra gguf"].found
    assert "--upgrade" in (found["extra gguf"].remedy or "")


def test_what_is_always_needed_must_be_there(monkeypatch):
    found = asked(monkeypatch, ["torch>=2.9", "rich"], {"rich": "13"})
    assert (found["packages"].level, found["packages"].found) == ("error", "not installed: torch")


def test_this_installation_has_what_it_needs():
    checks = {check.name: check for check in installation.checks(Path())}
    assert checks["python"].level == checks["packages"].level == "good"
    assert {"memory", "disk", "temporary files", "terminal", "settings"} <= checks.keys()


class Stream:
    def __init__(self, encoding):
        self.encoding = encoding


@pytest.mark.parametrize(("encoding", "level"), [("utf-8", "good"), ("UTF8", "good"), ("ascii", "warning")])
def test_a_terminal_without_chinese_is_told(monkeypatch, encoding, level):
    monkeypatch.setattr(sys, "stdout", Stream(encoding))
    check = installation.terminal()
    assert check.level == level
    assert (check.remedy is None) == (level == "good")


def test_little_memory_and_little_disk_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(installation.machine, "memory_bytes", lambda: 2**30)
    monkeypatch.setattr(installation.machine, "free_disk_bytes", lambda path: 10**8)
    assert installation.memory().level == "warning"
    assert {check.level for check in installation.disk(tmp_path)} == {"warning"}


def test_settings_are_shown_and_secrets_are_not(monkeypatch):
    monkeypatch.setenv("CONGLING_CORPORA", "/data")
    monkeypatch.setenv("HF_TOKEN", "secret")
    check = installation.settings()
    assert "CONGLING_CORPORA=/data" in check.found and "secret" not in check.found
