"""Opens files that may be hostile, one after another, under limits; says how each ended.

Reads a JSON object a line from standard input (``kind``, ``path``, whether it is ``whole``) and writes one a
line: ``outcome`` (``used``, ``refused``, or ``error`` with a traceback), CPU ``seconds``, and ``growth``, the
most memory taken while it was open.
"""

import faulthandler
import json
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from congling.core.errors import UserError

TEXT = "从零 a1\n 　▁😀<|im_end|><0x0A>\x00ﬁ"
HANG = 60  # seconds of wall clock, on a machine that others use too


def use(model: Any) -> None:
    """Take the model apart as every converter does, and let it read a text with its tokenizer."""
    from congling.interop.assembly import transformer

    built = transformer(model)
    ids = [0, 1]
    if model.tokenizer is not None:
        use_tokenizer(model.tokenizer)
        ids = model.tokenizer.encode(TEXT)
    with torch.inference_mode():
        built.logits(built(torch.tensor([ids[: built.config.max_position_embeddings] or [0]])))


def use_tokenizer(tokenizer: Any) -> None:
    """Encode, decode, and ask for every role."""
    ids = tokenizer.encode(TEXT)
    tokenizer.decode(ids)
    tokenizer.decode([tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.vocab_size - 1])


def foreign(path: Path) -> None:
    """A model of another program, whichever it says it is."""
    from congling.interop.formats import read_model

    use(read_model(path))


def checkpoint(path: Path) -> None:
    """Our own directory."""
    from congling.infer.checkpoints import load_checkpoint
    from congling.interop import checkpoint_directory

    load_checkpoint(path, "cpu")
    use(checkpoint_directory.read(path))


def tokenizer(path: Path) -> None:
    """A tokenizer of another program."""
    from congling.tokenizer.imported.read import read

    use_tokenizer(read(path))


def adapter(path: Path) -> None:
    """An adapter, merged into its base; what is not finite must not get there."""
    from congling.interop.adapters import read_any
    from congling.transform.merge import merged
    from support.victims import model

    base = model(300)
    weights = merged(base.state_dict(), [(read_any(path, base.config), 1.0)])
    assert all(weights[name].isfinite().all() for name in weights), "values that are not finite"


def rows(path: Path) -> None:
    """Texts or rows, read as both."""
    from congling.data import corpus
    from congling.data.config import DataConfig
    from congling.data.problems import ReadingLog
    from congling.data.tuning import conversations

    config = DataConfig(sources=(str(path),))
    refused: list[UserError] = []
    for read in (
        lambda: corpus.prepared(config, ReadingLog(), lambda *_: None),
        lambda: conversations.read_items(config, ReadingLog()),
    ):
        try:
            for _ in read():
                pass
        except UserError as error:
            refused.append(error)
    if len(refused) == 2:
        raise refused[0]


def recipe(path: Path) -> None:
    """A recipe, as far as its plan."""
    from congling.plan import planning
    from congling.plan.corpus_facts import CorpusFacts, MachineFacts
    from congling.plan.recipe import read

    corpus = CorpusFacts(790_000, 620_000, 72, 8500, 4600, 70_000, 8)
    planning.make(read([path]), corpus, MachineFacts(2, 16 * 10**9, 5 * 10**10, 2e11, None, True)).to_text()


def template(path: Path) -> None:
    """A chat template, filled in as for asking and as for learning."""
    from congling.tokenizer.chat import sandbox

    messages = [{"role": role, "content": TEXT} for role in ("system", "user", "assistant", "user")]
    for asks in (True, False):
        names = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": asks}
        sandbox.run(path.read_bytes().decode("utf-8", "replace"), messages, **names)


def run(path: Path) -> None:
    """A run directory, explained and reported."""
    import tempfile

    from congling.report import pages, record
    from congling.report.explain import explain

    found = record.read(path)
    explain(found)
    with tempfile.TemporaryDirectory() as folder:
        pages.write(found, folder)


LOADERS: dict[str, Callable[[Path], None]] = {
    "gguf": foreign,
    "hf": foreign,
    "llama2c": foreign,
    "checkpoint": checkpoint,
    "tokenizer": tokenizer,
    "sentencepiece": tokenizer,
    "adapter": adapter,
    "torch": foreign,
    "rows": rows,
    "recipe": recipe,
    "template": template,
    "run": run,
}


def resident(key: str) -> int:
    """Bytes of ``VmRSS`` (now) or ``VmHWM`` (at most, since it was last reset)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def opened(load: Callable[[Path], None], path: Path) -> dict[str, Any]:
    """Open one file and measure."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest memory so far
    before, started = resident("VmRSS"), time.process_time()
    faulthandler.dump_traceback_later(HANG, exit=True)
    outcome, message = "used", ""
    try:
        load(path)
    except UserError as error:
        outcome, message = "refused", str(error)
    except BaseException:
        outcome, message = "error", traceback.format_exc()
    faulthandler.cancel_dump_traceback_later()
    return {
        "outcome": outcome,
        "message": message,
        "seconds": time.process_time() - started,
        "growth": resident("VmHWM") - before,
    }


def main() -> None:
    """Answer until the input ends; files that are whole come first of their kind and warm everything up."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        asked = json.loads(line)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if not asked["whole"]:
            limit = resident("VmSize") + 2**30
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        print(json.dumps(opened(LOADERS[asked["kind"].split("-")[0]], Path(asked["path"]))), flush=True)


if __name__ == "__main__":
    main()
