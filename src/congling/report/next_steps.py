"""What to do with a model that has just been made: four commands that can be typed as they stand."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from congling.interop.targets import obstacles
from congling.model.config import ModelConfig
from congling.report.origin import manifest_of
from congling.report.record import RunRecord, mapping
from congling.report.weights import ADAPTER, checkpoint_of, description

MOST = 4
LONGEST_PROMPT = 40
"""Characters of a recorded prompt that are asked again."""


@dataclass(frozen=True)
class Step:
    """A command, and what it is good for."""

    command: str
    why: str


@dataclass(frozen=True)
class Known:
    """Names that commands are made of, as a person typed them."""

    out: Path
    base: Path | None = None
    """What the run began with."""
    data: tuple[str, ...] = ()
    prompt: str = ""
    """Something that the run was asked already."""


def next_steps(run: RunRecord) -> tuple[Step, ...]:
    """Commands for what a run made, by its method."""
    known = _known(run)
    if run.method.verb == "reward":
        return _judge(known)
    if run.config.get("adapter") is not None or (run.path / "adapter").is_dir():
        return _adapter(known)
    texts = run.method.corpus
    talk = _step("to let it go on with what you type" if texts else "to talk with it", "chat", known.out)
    write = _step("to let it write", "generate", known.out, *_asking(known))
    first = [write, talk] if texts else [talk, write]
    gained = [_step("to see what it gained", "compare", known.base, known.out)] if _is_run(known.base) else []
    file = _step(
        "for llama.cpp, Ollama and LM Studio",
        "convert",
        known.out,
        "--to",
        "gguf",
        "--out",
        known.out / "model.gguf",
    )
    return _first([*first, *gained, file, _step("why it came out as it did", "explain", known.out)])


def steps_of_checkpoint(
    out: Path, *, chat: bool, shards: str | None = None, base: str | None = None
) -> tuple[Step, ...]:
    """Commands for a model that was pruned or imported; ``shards`` are what a pruned one was measured on."""
    made = out.with_name(out.name + "-trained")
    steps = []
    if shards is not None and base is not None:
        tokenizer = out / "tokenizer"
        again = ("--tokenizer", tokenizer)
        steps = [
            _step("to win back what it lost", "pretrain", shards, *again, "--from", out, "--out", made),
            _step(
                "the same with the whole model as its teacher",
                "distill",
                base,
                shards,
                *again,
                "--student",
                out,
                "--out",
                out.with_name(out.name + "-distilled"),
            ),
        ]
    steps += [
        _step("to talk with it" if chat else "to let it go on", "chat", out),
        _step("to let it write", "generate", out, "--prompt", "从前"),
        _step(
            "for llama.cpp, Ollama and LM Studio",
            "convert",
            out,
            "--to",
            "gguf",
            "--out",
            out.with_name(out.name + ".gguf"),
        ),
        _step("to see whether it can add", "eval", out, "--tasks", "arithmetic", "--limit", "50"),
    ]
    return _first(steps)


def steps_of_extended(out: Path, model: ModelConfig, *, chat: bool, shards: str | None) -> tuple[Step, ...]:
    """Commands for a model whose context was extended; ``shards`` are what losses were measured on."""
    context = model.max_position_embeddings
    steps = [_step("to see what the longer context brings", "eval", out, "--tasks", "length")]
    if shards is not None:
        made = out.with_name(out.name + "-trained")
        begin = ("--tokenizer", out / "tokenizer", "--from", out)
        words = (shards, *begin, f"train.max_length={context}", "--out", made)
        steps.append(_step("to let it learn to use it", "pretrain", *words))
    steps.append(_step("to talk with it" if chat else "to let it go on", "chat", out))
    if model.depends_on_length or obstacles(model, None, "gguf"):
        frozen = ("--freeze", str(context)) if model.depends_on_length else ()
        folder = out.with_name(out.name + "-hf")
        steps.append(_step("for transformers", "convert", out, "--to", "hf", *frozen, "--out", folder))
        return _first(steps)
    file = out.with_name(out.name + ".gguf")
    steps.append(_step("for llama.cpp, Ollama and LM Studio", "convert", out, "--to", "gguf", "--out", file))
    return _first(steps)


def _judge(known: Known) -> tuple[Step, ...]:
    """A reward model is used by those that learn from it."""
    asked = [part for one in known.data for part in ("--data", one)]

    def made(name: str) -> Path:
        return known.out.with_name(f"{known.out.name}-{name}")

    judged = (*asked, "--reward", known.out, "--out")
    base = known.base
    uses = (
        []
        if base is None
        else [
            _step("to train the model by this reward model", "grpo", base, *judged, made("grpo")),
            _step("the same with a value head", "ppo", base, *judged, made("ppo")),
            _step("pairs of the model's own answers, for dpo", "pairs", base, *judged, made("pairs.jsonl")),
        ]
    )
    return _first([*uses, _step("why it came out as it did", "explain", known.out)])


def _adapter(known: Known) -> tuple[Step, ...]:
    """An adapter works on its base."""
    base, adapter = known.base, known.out / "adapter"
    if base is None:
        return _first([_step("why it came out as it did", "explain", known.out)])
    return _first(
        [
            _step("to talk with it", "chat", base, "--lora", adapter),
            _step("to let it write", "generate", base, "--lora", adapter, *_asking(known)),
            _step(
                "a model in one file, for llama.cpp, Ollama and LM Studio",
                "convert",
                base,
                "--lora",
                adapter,
                "--to",
                "gguf",
                "--out",
                known.out / "model.gguf",
            ),
            *([_step("to see what it gained", "compare", base, known.out)] if _is_run(known.base) else []),
            _step(
                "the adapter alone, for llama.cpp",
                "convert",
                adapter,
                "--base",
                base,
                "--to",
                "gguf-lora",
                "--out",
                known.out / "adapter.gguf",
            ),
        ]
    )


def _known(run: RunRecord) -> Known:
    base = _base(run)
    sources = mapping(run.config.get("data")).get("sources")
    prompts = [sample.prompt.strip() for sample in run.samples]
    short = (one for one in prompts if one and len(one) <= LONGEST_PROMPT and "\n" not in one)
    return Known(
        run.place,
        Path(base) if base else None,
        tuple(map(str, sources)) if isinstance(sources, list) else (),
        next(short, ""),
    )


def _base(run: RunRecord) -> str:
    """What the run began with: as it recorded it, else as its command or its adapter names it."""
    recorded = mapping(run.plan.get("base")).get("path")
    if isinstance(recorded, str):
        return recorded
    checkpoint = checkpoint_of(run)
    if checkpoint is None:
        return ""
    named = description(checkpoint / ADAPTER).get("base_path")
    if isinstance(named, str):
        return named
    words = manifest_of(checkpoint).get("command")
    typed = [str(word) for word in words[1:3]] if isinstance(words, list) else []
    return typed[1] if len(typed) == 2 and typed[0] == run.method.verb and Path(typed[1]).exists() else ""


def _is_run(path: Path | None) -> bool:
    """Whether a base is a run, which `compare` takes, and not a file or a bare checkpoint."""
    return path is not None and any((path / part / "metrics.jsonl").is_file() for part in ("", "run"))


def _asking(known: Known) -> tuple[str, ...]:
    return ("--prompt", known.prompt) if known.prompt else ("--prompt", "从前")


def _step(why: str, *words: str | Path | None) -> Step:
    return Step("congling " + " ".join(shlex.quote(str(word)) for word in words), why)


def _first(steps: list[Step]) -> tuple[Step, ...]:
    """As many as a person reads, each command once."""
    return tuple({step.command: step for step in steps}.values())[:MOST]
