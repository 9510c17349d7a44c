"""Damages files of finished directories, one at a time, and looks at what becomes of it.

::

    whole directory ─ copy ─ flip | overwrite | truncate | empty | delete | swap | append ─ use it in full
        refused     an error that names it
        said        it is set aside, or left out, with a word
        harmless    nothing is said, and everything that is read, computed or trained is what it was
        silent      something else is read, computed or trained, and nobody says so        (none may be)
        traceback   neither                                                                (none may be)

Kinds: documents, tokenizer, shards, checkpoint, adapter, and a run, which is used by going on from its newest
checkpoint to the end, by asking which checkpoint it hands on, and by reading its logs::

    python benchmarks/reliability/damages.py --count 400 --out damages.json
"""

import argparse
import contextlib
import hashlib
import io
import json
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from congling.core import artifact, pointers
from congling.core.errors import UserError
from congling.data import corpus, shards
from congling.data.config import DataConfig
from congling.infer.checkpoints import load_checkpoint
from congling.interop import adapter_directory
from congling.methods import pretrain
from congling.methods.inputs import open_inputs
from congling.model.families import FAMILIES
from congling.report import record
from congling.tokenizer import store, training
from congling.tokenizer.config import TokenizerConfig
from congling.train.config import TrainConfig
from congling.transform.config import AdapterConfig
from congling.transform.lora import adapter_of, attach

STEPS, EVERY = 8, 2
TEXT = "云对雨雪对风晚照对晴空来鸿对去燕宿鸟对鸣虫三尺剑六钧弓岭北对江东"
KINDS = ("documents", "tokenizer", "shards", "checkpoint", "adapter", "run")
BAD = ("silent", "traceback")


@dataclass(frozen=True)
class Damage:
    """One damage and what became of it."""

    kind: str
    number: int
    file: str
    how: str
    outcome: str
    told: str = ""


# --- whole directories


def made(root: Path, seed: int = 0) -> Path:
    """One small directory of each kind; another seed gives others, to swap files with."""
    draw = random.Random(seed)
    lines = ["".join(draw.choices(TEXT, k=draw.randint(8, 40))) for _ in range(60)]
    root.mkdir(parents=True)
    (root / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    config = DataConfig.model_validate(
        {"sources": (str(root / "text.txt"),), "documents": "line", "split": {"test": 0.1, "validation": 0.1}}
    )
    corpus.make(config, root / "documents")
    texts = [document.text for document in corpus.documents(root / "documents", "train")]
    training.train(TokenizerConfig(kind="character"), lambda: iter(texts), root / "tokenizer")
    shards.write(root / "documents", root / "tokenizer", root / "shards")
    trained(root, root / "run")
    best = pointers.handed_on(root / "run")
    assert best is not None
    shutil.copytree(best, root / "checkpoint")
    loaded = load_checkpoint(root / "checkpoint", "cpu")
    attach(loaded.model, AdapterConfig(r=2), seed=seed)
    base = adapter_directory.Base(loaded.checkpoint.fingerprint, "checkpoint", loaded.model.config)
    adapter_directory.write(root / "adapter", adapter_of(loaded.model, facts={"chat": False}), base)
    return root


def trained(root: Path, out: Path) -> Path:
    """Train on the shards of ``root``, or go on with the run in ``out``."""
    inputs = open_inputs(root / "shards", root / "tokenizer")
    model = FAMILIES["qwen3"](
        vocab_size=inputs.shards.vocab_size, max_position_embeddings=16, num_hidden_layers=1, hidden_size=32
    )
    train = TrainConfig(
        max_steps=STEPS,
        max_length=16,
        per_device_train_batch_size=4,
        device="cpu",
        save_steps=EVERY,
        eval_steps=EVERY,
        save_total_limit=3,
        sample_steps=4,
        sample_prompts=("云",),
        sample_tokens=4,
    )
    files = {"plan.json": '{\n "cost": {"seconds": 12.5}\n}\n'}
    pretrain.run(pretrain.PretrainConfig(model=model, train=train), inputs, out, files=files)
    return out


# --- using them in full: what comes out is compared


def use_documents(path: Path, root: Path) -> Any:
    """All documents, what is scored, the summary and the facts."""
    found = artifact.opened(path, "documents")
    splits = corpus.splits_of(found)
    texts = {split: [(one.text, one.id) for one in corpus.documents(path, split)] for split in splits}
    return texts, corpus.held_out(path), corpus.summary(path), found.facts, found.parents


def use_tokenizer(path: Path, root: Path) -> Any:
    """Ids of a text, back again, and everything special."""
    found = store.load(path)
    ids = found.encode(TEXT)
    return ids, found.decode(ids), dict(found.special), found.chat_template, found.fingerprint


def use_shards(path: Path, root: Path) -> Any:
    """All tokens, where documents end, their sizes."""
    found = shards.open_shards(path, tokenizer=store.load(root / "tokenizer"), verify=True)
    parts = {
        name: [part.tolist() for part in (split.tokens, split.ends, split.characters, split.bytes)]
        for name, split in found.splits.items()
    }
    return parts, found.scored, found.summary, found.artifact.parents, found.artifact.facts


def use_checkpoint(path: Path, root: Path) -> Any:
    """Weights, tokenizer and facts."""
    found = load_checkpoint(path, "cpu")
    weights = {name: tensor.tolist() for name, tensor in found.model.state_dict().items()}
    about = found.checkpoint
    return weights, use_tokenizer(path / "tokenizer", root), about.facts, about.parents, about.fingerprint


def use_adapter(path: Path, root: Path) -> Any:
    """Factors and what is known of them."""
    found = adapter_directory.read(path)
    factors = {
        name: (part.scale, {key: value.tolist() for key, value in part.tensors().items()})
        for name, part in found.factors.items()
    }
    return factors, {name: value for name, value in found.facts.items() if name != "name"}


def use_run(path: Path, root: Path) -> Any:
    """What is handed on before, what a run that goes on ends with, and the numbers and samples it logged.

    Other files of a run (plan, results, speeds, events) are for people: nothing is computed from them.

    Raises:
        AssertionError: it ends with other bytes than the run that nobody damaged.
    """
    first = pointers.handed_on(path)
    try:
        weights = use_checkpoint(first, root) if first is not None else None
    except UserError as error:  # that one is damaged: the same command makes it anew
        weights = None
        print(error, file=sys.stderr)
    trained(root, path)
    assert ended(path) == ended(root / "run"), "the run ends with other bytes"
    read = record.read(path)
    for fault in read.faults:
        print(fault, file=sys.stderr)
    after = pointers.handed_on(path)
    return weights, after and after.name, list(read.metrics), list(map(vars, read.samples))


def ended(run: Path) -> dict[str, bytes]:
    """All files of the last checkpoint."""
    last = run / "checkpoints" / f"step-{STEPS:08d}"
    found = artifact.opened(last, "checkpoint", verify=True)
    return {name: (last / name).read_bytes() for name in found.files}


USES: dict[str, Callable[[Path, Path], Any]] = {
    "documents": use_documents,
    "tokenizer": use_tokenizer,
    "shards": use_shards,
    "checkpoint": use_checkpoint,
    "adapter": use_adapter,
    "run": use_run,
}


# --- damages


def flip(content: bytes, draw: random.Random) -> bytes:
    """Turn one bit."""
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]


def overwrite(content: bytes, draw: random.Random) -> bytes:
    """Lose a block: zeros, or what stood there before."""
    size = draw.choice((1, 4, 64, 512))
    place = draw.randrange(len(content))
    block = bytes(size) if draw.random() < 0.5 else draw.randbytes(size)
    return content[:place] + block[: len(content) - place] + content[place + size :]


def truncate(content: bytes, draw: random.Random) -> bytes:
    """Lose the end."""
    return content[: draw.randrange(len(content))]


def append(content: bytes, draw: random.Random) -> bytes:
    """Gain something at the end."""
    return content + draw.choice((b"\0", b"\n", bytes(100), draw.randbytes(8), content[-20:]))


BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flip": flip,
    "overwrite": overwrite,
    "truncate": truncate,
    "append": append,
}
HOWS = ("flip", "flip", *BYTES, "empty", "delete", "swap")


def files_of(path: Path) -> list[Path]:
    """Every file below a directory, hidden ones left out."""
    found = [file.relative_to(path) for file in path.rglob("*") if file.is_file()]
    return sorted(file for file in found if not any(part.startswith(".") for part in file.parts))


def damage(path: Path, other: Path, draw: random.Random) -> tuple[str, str]:
    """Do one damage to a directory; which file, and how."""
    name, how = draw.choice(files_of(path)), draw.choice(HOWS)
    file = path / name
    content = file.read_bytes()
    if how == "swap":
        twin = other / name
        among = [one for one in files_of(path) if one != name and (path / one).read_bytes() != content]
        if (not twin.is_file() or twin.read_bytes() == content or draw.random() < 0.5) and among:
            twin = path / draw.choice(among)
        swapped = twin.read_bytes()
        if path in twin.parents:
            twin.write_bytes(content)
        file.write_bytes(swapped)
        return name.as_posix(), f"swap with {twin.name}"
    if how == "delete":
        file.unlink()
    else:
        file.write_bytes(BYTES[how](content, draw) if content and how != "empty" else b"")
    return name.as_posix(), how


# --- trying


def comparable(value: Any) -> str:
    """One hash of whatever was read."""
    return hashlib.sha256(repr(value).encode("utf-8", "backslashreplace")).hexdigest()


def tried(kind: str, path: Path, root: Path, whole: str) -> tuple[str, str]:
    """Use a damaged directory; the outcome, and what was told."""
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(io.StringIO()):
            found = comparable(USES[kind](path, root))
    except UserError as error:
        return "refused", str(error)
    except BaseException:
        return "traceback", traceback.format_exc()
    told = "\n".join(line for line in heard.getvalue().splitlines() if not line.startswith("step "))
    if told:
        return "said", told
    return ("harmless" if found == whole else "silent"), ""


def damages(folder: Path, count: int, kinds: tuple[str, ...] = KINDS, seed: int = 0) -> Iterator[Damage]:
    """Try ``count`` damages of each kind.

    Raises:
        RuntimeError: something is told of a directory that is whole.
    """
    torch.set_num_threads(1)
    root, other = made(folder / "whole", 0), made(folder / "other", 1)
    for kind in kinds:
        place = folder / "damaged" / kind
        shutil.copytree(root / kind, place)
        outcome, told = tried(kind, place, root, "")
        if outcome != "silent":
            raise RuntimeError(f"a whole {kind} directory: {outcome} {told}")
        shutil.rmtree(place)
        shutil.copytree(root / kind, place)
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            whole = comparable(USES[kind](place, root))
        for number in range(count):
            shutil.rmtree(place)
            shutil.copytree(root / kind, place)
            draw = random.Random(f"{seed} {kind} {number}")
            file, how = damage(place, other / kind, draw)
            yield Damage(kind, number, file, how, *tried(kind, place, root, whole))


def summary(found: list[Damage]) -> str:
    """Outcomes by kind, as a Markdown table."""
    names = ("refused", "said", "harmless", *BAD)
    lines = [" | ".join(("", "kind", "damages", *names, "")).strip(), "|---" * (len(names) + 2) + "|"]
    for kind in KINDS:
        counts = Counter(one.outcome for one in found if one.kind == kind)
        if counts:
            cells = (kind, str(counts.total()), *(str(counts[name]) for name in names))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Try, show a table, and end with status 1 where something was silent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=400, help="damages of each kind")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON file of every damage")
    given = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="congling-damages-") as folder:
        for one in damages(Path(folder), given.count, tuple(given.kinds.split(",")), given.seed):
            found.append(one)
            if one.outcome in BAD:
                print(f"{one.kind} {one.number}: {one.file}, {one.how}: {one.outcome} {one.told[-2000:]}")
    print(summary(found))
    if given.out is not None:
        given.out.write_text(json.dumps([vars(one) for one in found], ensure_ascii=False, indent=1), "utf-8")
    sys.exit(any(one.outcome in BAD for one in found))


if __name__ == "__main__":
    main()
