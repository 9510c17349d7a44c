"""The house in numbers: how much there is, how long its parts are, how far one reads for a method.

::

    python benchmarks/structure.py [CHECKOUT] [--json FILE]

Nothing is imported, so that any checkout is counted by the same rules: source is ``src/congling``, a line is
a line of a file, and a function is as long as its ``def``, from first to last line, decorators left out.

*Files that a reader opens* for a method are the files of ``src`` that its stage imports, and those that
these import, at the top or within functions, less shared infrastructure: all that verbs which train nothing
(:data:`NO_TRAINING`) reach in the same way. What all methods share is counted once, as that of every method.
Files that hold nothing but a docstring, and imports for types alone, do not count.

*Duplication* is the share of windows of :data:`WINDOW` lines of code, spaces around and comments left out,
that stand in the source more than once. A *cycle of packages* is a group of packages directly under
``congling`` that import each other, whichever way round one goes.
"""

import argparse
import ast
import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

METHODS = ("train", "distill", "sft", "dpo", "reward", "grpo", "ppo")
"""Verbs that train."""
NO_TRAINING = (
    "data",
    "tokenizer",
    "tokenize",
    "clean",
    "plan",
    "generate",
    "chat",
    "eval",
    "convert",
    "compare",
    "explain",
    "report",
    "runs",
    "doctor",
)
WINDOW, LONGEST = 10, 5
LONG_FILE, LONG_FUNCTION = 300, 60
ROOT = "congling"


@dataclass(frozen=True)
class Source:
    """One file of Python."""

    path: Path
    name: str
    """Of the module, such as ``congling.train.loop``."""

    @cached_property
    def text(self) -> str:
        """What stands in it."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """The same, parsed."""
        return ast.parse(self.text)

    @property
    def package(self) -> str:
        """The part directly under ``congling``; of a module there, its own name."""
        return self.name.split(".")[1] if "." in self.name else ROOT

    @property
    def functions(self) -> Iterator[tuple[int, str]]:
        """Lines and name of each function."""
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{self.name}:{node.name}"

    @property
    def holds_code(self) -> bool:
        """Whether there is more in it than a docstring."""
        return any(not isinstance(node, ast.Expr) for node in self.tree.body)


def sources(folder: Path) -> dict[str, Source]:
    """The files of ``src/congling`` by module."""
    found = {}
    for path in sorted((folder / "src" / ROOT).rglob("*.py")):
        parts = path.relative_to(folder / "src").with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Source(path, name)
    return found


def imports(source: Source, known: Mapping[str, Source]) -> set[str]:
    """Modules of the project that a file imports, for more than types."""
    found: set[str] = set()
    for node in _run_time(source.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            within = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= within & known.keys() or {node.module}
    return {name for name in found if name in known and known[name].holds_code} - {source.name}


def _run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING:``."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node
            yield from _run_time(node)


def reached(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    """A module and all that it imports, directly or not."""
    found, waiting = set[str](), [start]
    while waiting:
        name = waiting.pop()
        if name in graph and name not in found:
            found.add(name)
            waiting += graph[name]
    return found


def opened(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """Files that a reader opens for each method: those of every method, and each one's further ones."""
    shared = set[str]().union(*(reached(f"{ROOT}.stages.{verb}", graph) for verb in NO_TRAINING))
    found = {verb: reached(f"{ROOT}.stages.{verb}", graph) - shared for verb in METHODS}
    every = set.intersection(*found.values())
    return {"every method": len(every)} | {verb: len(files - every) for verb, files in found.items()}


def cycles(graph: Mapping[str, set[str]], known: Mapping[str, Source]) -> list[list[str]]:
    """Groups of packages that import each other."""
    packages: dict[str, set[str]] = defaultdict(set)
    for name, targets in graph.items():
        packages[known[name].package] |= {known[one].package for one in targets} - {known[name].package}
    around = {name: {one for part in packages[name] for one in reached(part, packages)} for name in packages}
    groups = {
        tuple(sorted({name} | {one for one in around[name] if name in around[one]}))
        for name in packages
        if name in around[name]
    }
    return [list(group) for group in sorted(groups)]


def duplication(known: Mapping[str, Source]) -> float:
    """Share of windows of code that stand somewhere else too."""
    windows: Counter[tuple[str, ...]] = Counter()
    for source in known.values():
        lines = [re.sub(r"\s+", " ", line).strip() for line in source.text.splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        windows.update(tuple(lines[at : at + WINDOW]) for at in range(len(lines) - WINDOW + 1))
    return sum(count for count in windows.values() if count > 1) / max(1, sum(windows.values()))


def _within_functions(source: Source) -> int:
    """Imports within functions."""
    functions = (
        one for one in ast.walk(source.tree) if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
    inner = {
        node for one in functions for node in ast.walk(one) if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    return len(inner)


def _rows(page: Path) -> int:
    """Rows of the tables of a page, their heads left out."""
    lines = page.read_text(encoding="utf-8").splitlines() if page.is_file() else []
    tables = sum(bool(re.fullmatch(r"\|[\s:|-]+\|", line.strip())) for line in lines)
    return sum(line.strip().startswith("|") for line in lines) - 2 * tables


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else 0


def measured(folder: Path) -> dict[str, Any]:
    """All numbers of a checkout."""
    known = sources(folder)
    graph = {name: imports(source, known) for name, source in known.items()}
    files = sorted(
        ((_lines(one.path), str(one.path.relative_to(folder / "src"))) for one in known.values()),
        reverse=True,
    )
    functions = sorted((one for source in known.values() for one in source.functions), reverse=True)
    packages: dict[str, Counter[str]] = defaultdict(Counter)
    for source in known.values():
        packages[source.package].update(files=1, lines=_lines(source.path))
    beside = {
        part: {"files": len(paths), "lines": sum(map(_lines, paths))}
        for part in ("tests", "benchmarks")
        if (paths := sorted((folder / part).rglob("*.py")))
    }
    names = [node for one in known.values() for node in ast.walk(one.tree) if isinstance(node, ast.Name)]
    return {
        "files": len(files),
        "lines": sum(lines for lines, _ in files),
        "median file": statistics.median(lines for lines, _ in files),
        "median function": statistics.median(lines for lines, _ in functions),
        f"files over {LONG_FILE} lines": sum(lines > LONG_FILE for lines, _ in files),
        f"functions over {LONG_FUNCTION} lines": sum(lines > LONG_FUNCTION for lines, _ in functions),
        "imports within functions": sum(map(_within_functions, known.values())),
        "names Any": sum(node.id == "Any" for node in names),
        "fmt: skip": sum(one.text.count("# fmt: skip") for one in known.values()),
        "rows of coming-from.md": _rows(folder / "docs" / "en" / "coming-from.md"),
        "lines of README.md": _lines(folder / "README.md"),
        "duplication": duplication(known),
        "cycles of packages": cycles(graph, known),
        "files a reader opens": opened(graph),
        "longest files": dict((name, lines) for lines, name in files[:LONGEST]),
        "longest functions": dict((name, lines) for lines, name in functions[:LONGEST]),
        "packages": {name: dict(packages[name]) for name in sorted(packages)},
        "beside the source": beside,
    }


def to_markdown(numbers: Mapping[str, Any]) -> str:
    """The numbers as tables: those that stand alone first."""
    alone = {name: value for name, value in numbers.items() if not isinstance(value, dict)}
    parts = ["| what | how much |", "| --- | --- |"]
    parts += [f"| {name} | {_shown(value)} |" for name, value in alone.items()]
    for title, table in numbers.items():
        if isinstance(table, dict):
            parts += ["", f"| {title} | |", "| --- | --- |"]
            parts += [f"| `{name}` | {_shown(value)} |" for name, value in table.items()]
    return "\n".join(parts) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count:,} {name}" for name, count in value.items())
    if isinstance(value, list):
        return "; ".join(" ↔ ".join(group) for group in value) or "none"
    return f"{value:.2%}" if isinstance(value, float) and value < 1 else f"{value:,}"


def main() -> None:
    """Count a checkout, print, and write where it is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    given = parser.parse_args()
    numbers = measured(given.checkout)
    print(to_markdown(numbers), end="")
    if given.json is not None:
        given.json.write_text(json.dumps(numbers, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
