"""What is installed here and how the system is set up, checked against what congling asks for; no torch."""

import importlib.metadata
import locale
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from congling.core import machine

Level = Literal["good", "note", "warning", "error"]
NAME = "congling"
_LEAST_PYTHON = (3, 11)
_LITTLE_MEMORY, _LITTLE_DISK = 2 * 2**30, 2 * 2**30
_SETTINGS = ("CONGLING_", "OMP_", "GOMP_", "KMP_", "MKL_", "TORCH", "CUDA_", "HF_", "PYTORCH_")
"""Beginnings of environment variables that change what is computed, or how fast."""
_TELLING = ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "LANG", "LC_ALL", "PYTHONUTF8", "PYTHONIOENCODING")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    level: Level
    found: str
    remedy: str | None = None
    """A command, or what to do."""
    values: dict[str, Any] | None = None
    """The same in numbers."""


def checks(folder: Path) -> Iterator[Check]:
    """Python, packages, memory, disk, terminal and settings; ``folder`` is where runs would be written."""
    yield python()
    yield from packages()
    yield memory()
    yield from disk(folder)
    yield terminal()
    yield settings()


def python() -> Check:
    """The interpreter."""
    found = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {sys.executable}"
    values = {
        "version": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
    }
    if sys.version_info[:2] < _LEAST_PYTHON:
        return Check("python", "error", found, "install Python 3.11 or newer", values)
    if sys.maxsize < 2**32:
        return Check("python", "error", f"{found}, 32 bits", "install a Python of 64 bits", values)
    return Check("python", "good", found, None, values)


def packages() -> Iterator[Check]:
    """What congling needs, and what each extra adds, with versions against the ranges that are asked for."""
    try:
        asked = importlib.metadata.requires(NAME) or []
    except importlib.metadata.PackageNotFoundError:
        yield Check("packages", "warning", f"{NAME} itself is not installed", f"pip install {NAME}")
        return
    for extra, wanted in sorted(_by_extra(asked).items()):
        found = {name: installed(name) for name, _ in wanted}
        missing = [name for name, _ in wanted if found[name] is None]
        unfit = [
            f"{name} {found[name]} (needs {limits})"
            for name, limits in wanted
            if found[name] is not None and not fits(str(found[name]), limits)
        ]
        told = ", ".join(f"{name} {version}" for name, version in found.items() if version) or "none of it"
        name, target = (f"extra {extra}", f'"{NAME}[{extra}]"') if extra else ("packages", NAME)
        remedy = f"pip install --upgrade {target}"
        if unfit:
            yield Check(name, "error", "; ".join(unfit), remedy, found)
        elif missing and not extra:
            yield Check(name, "error", f"not installed: {', '.join(missing)}", remedy, found)
        elif missing:
            yield Check(name, "note", f"not installed: {', '.join(missing)}", f"pip install {target}", found)
        else:
            yield Check(name, "good", told, None, found)


def installed(name: str) -> str | None:
    """Version of a package; None where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def fits(version: str, limits: str) -> bool:
    """Whether a version is within limits such as ``>=2.9,<4`` or ``==1.2``; other signs are not judged.

    >>> fits("2.13.0+cpu", ">=2.9"), fits("2.8", ">=2.9"), fits("1.2.1", "==1.2")
    (True, False, False)
    """
    for sign, text in re.findall(r"(>=|<=|==|!=|<|>)\s*([\d.]+)", limits):
        ours, theirs = _numbers(version), _numbers(text)
        length = max(len(ours), len(theirs))
        ours, theirs = (one + (0,) * (length - len(one)) for one in (ours, theirs))
        kept = {
            ">=": ours >= theirs,
            "<=": ours <= theirs,
            "==": ours == theirs,
            "!=": ours != theirs,
            "<": ours < theirs,
            ">": ours > theirs,
        }
        if not kept[sign]:
            return False
    return True


def memory() -> Check:
    """Memory of this process, and what is free of it now."""
    import psutil

    total, free = machine.memory_bytes(), psutil.virtual_memory().available
    found = f"{total / 2**30:.1f} GiB, {min(free, total) / 2**30:.1f} GiB of it free"
    values = {"bytes": total, "free": min(free, total), "cores": machine.cores()}
    if min(total, free) < _LITTLE_MEMORY:
        return Check("memory", "warning", found, "close other programs, or plan a small model", values)
    return Check("memory", "good", found, None, values)


def disk(folder: Path) -> Iterator[Check]:
    """Room where runs and temporary files would be written, and the right to write there."""
    for name, place in (("disk", folder), ("temporary files", Path(tempfile.gettempdir()))):
        free = machine.free_disk_bytes(place)
        found, values = f"{free / 1e9:.1f} GB free at {place.absolute()}", {"free": free, "path": str(place)}
        parent = next(one for one in (place.absolute(), *place.absolute().parents) if one.exists())
        if not os.access(parent, os.W_OK):
            yield Check(name, "error", f"no right to write at {parent}", "choose another folder", values)
        elif free < _LITTLE_DISK:
            yield Check(name, "warning", found, f"{NAME} clean, or a folder on another disk", values)
        else:
            yield Check(name, "good", found, None, values)


def terminal() -> Check:
    """Whether Chinese can be shown here and typed."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower()
    files, typed = locale.getpreferredencoding(False), getattr(sys.stdin, "encoding", None) or "–"
    width = shutil.get_terminal_size().columns
    values = {"output": encoding, "files": files, "input": typed, "columns": width}
    values |= {name: os.environ[name] for name in _TELLING if name in os.environ}
    found = f"output {encoding or '–'}, input {typed}, files {files}, {width} columns"
    if "utf" not in encoding:
        remedy = "set PYTHONUTF8=1" if os.name == "nt" else "export LC_ALL=C.UTF-8"
        return Check("terminal", "warning", f"{found}: Chinese is shown as question marks", remedy, values)
    return Check("terminal", "good", found, None, values)


def settings() -> Check:
    """Environment variables that change something."""
    names = sorted(name for name in os.environ if name.startswith(_SETTINGS) and "TOKEN" not in name)
    values = {name: os.environ[name] for name in names}
    told = ", ".join(f"{name}={value}" for name, value in values.items()) or "none"
    return Check("settings", "good", told, None, values)


def _by_extra(asked: list[str]) -> dict[str, list[tuple[str, str]]]:
    """Names and limits by extra; those that are always needed under an empty name."""
    found: dict[str, list[tuple[str, str]]] = {"": []}
    for line in asked:
        match = re.match(
            r"([\w.-]+)(?:\[[^\]]*\])?\s*\(?([^;()]*)\)?\s*(?:;.*extra == ['\"](\w+)['\"])?", line
        )
        if match:
            found.setdefault(match[3] or "", []).append((match[1], match[2].strip()))
    return found


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else (0,)
