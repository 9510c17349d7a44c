"""What a tuning run says when it is over: what was gained, and what to do next."""

import shlex
from pathlib import Path

from rich.console import Console

from congling.core import machine
from congling.methods.session import Tuned
from congling.train.hooks import better


def show_end(tuned: Tuned, base: Path, *, unit: str = "", use: str = "chat") -> None:
    """Print the gain on held-out rows and the commands that use the result; the first process alone does.

    Args:
        tuned: what came of the run.
        base: as it was named.
        unit: of the held-out number.
        use: the verb, with its options, that takes a whole model which was trained.
    """
    if not machine.is_first_process():
        return
    lines = []
    if tuned.before is not None and tuned.after is not None:
        shown = f"held-out {tuned.name} {tuned.before:.4f} → {tuned.after:.4f} {unit}"
        lines.append(shown.rstrip())
        if not better(tuned.name, tuned.after, {tuned.name: tuned.before}):
            lines.append(
                "training has not helped on held-out rows: begin anew (--fresh) with a lower rate, "
                "fewer steps or more rows"
            )
    if tuned.adapter is None:
        lines += [f"trained: {tuned.out}", f"  congling {use} {shlex.quote(str(tuned.out))}"]
    else:
        adapter, model = shlex.quote(str(tuned.adapter)), shlex.quote(str(base))
        lines += [
            f"trained: {tuned.adapter}",
            f"  congling generate {model} --lora {adapter}",
            f"  congling convert {adapter} --base {model} --to gguf-lora --out adapter.gguf  (peft, ggla)",
        ]
    for line in lines:
        Console().print(line, markup=False, highlight=False, soft_wrap=True)
