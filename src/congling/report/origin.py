"""Where a run came from: command, inputs, versions, seed and machine, for whoever wants to make it again."""

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from congling.core import files, machine
from congling.report.record import RunRecord, mapping
from congling.train.runs.longer import ENDINGS

_LARGEST_MANIFEST = 4_000_000  # bytes read; a manifest beyond that is no manifest of ours


def how_to_reproduce(run: RunRecord) -> str:
    """Name and value a line, from the newest checkpoint's manifest and from here; unknown ones left out."""
    lines: list[str] = []
    name = f"step-{'[0-9]' * 8}"
    newest = sorted(run.path.glob(f"checkpoints/{name}/MANIFEST.json"))[-1:]
    earlier = sorted(run.path.glob(f"{ENDINGS}/{name}/MANIFEST.json")) if newest else []
    for manifest in [*earlier, *newest]:  # a run that was made longer came of several commands
        facts = manifest_of(manifest.parent)
        command = facts.get("command")
        if isinstance(command, list) and (line := "command      " + " ".join(map(str, command))) not in lines:
            lines.append(line)
        if manifest not in newest:
            continue
        lines += [f"{name:<12} {str(value)[:16]}" for name, value in mapping(facts.get("parents")).items()]
        lines.append(f"checkpoint   {manifest.parent.name}")
    lines += [f"{name:<12} {installed(name)}" for name in ("congling", "torch", "numpy", "tokenizers")]
    seed = mapping(run.plan.get("train")).get("seed")
    lines += [f"seed         {seed}"] if seed is not None else []
    return "\n".join([*lines, f"machine      {machine.description()}"])


def manifest_of(directory: Path) -> Mapping[str, Any]:
    """What the manifest of a directory says; nothing where there is none, or it is damaged."""
    try:
        return mapping(json.loads(files.content(directory / "MANIFEST.json", _LARGEST_MANIFEST)))
    except (OSError, ValueError, RecursionError):
        return {}


def installed(package: str) -> str:
    """Version of a package, or that there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
