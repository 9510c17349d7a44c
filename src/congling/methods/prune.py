"""Prune a trained model once: score its parts, leave out what matters least, write what remains."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from congling.core import artifact
from congling.core.errors import UserError
from congling.core.text import write_text
from congling.data.batches import CorpusBatches
from congling.data.shards import Shards, open_shards
from congling.evals.loss import evaluate_loaded
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.infer.reading import EXTENDED, EXTENSION
from congling.interop.targets import TARGETS, obstacles
from congling.model.checkpoint import save_model
from congling.model.config import ModelConfig
from congling.model.counts import parameters
from congling.model.transformer import Transformer
from congling.quant.stored import DESCRIPTION
from congling.report.checkpoint_content import content_of_checkpoint
from congling.report.next_steps import Step
from congling.report.pages import write_content
from congling.transform import prune_scores
from congling.transform.prune import Kept, prune
from congling.transform.prune_scores import Scores
from congling.transform.prune_sizes import Sizes, check, sizes_of

Score = Literal["magnitude", "activation"]
REPORT = "pruning.json"
"""What was kept and how it scored, in the checkpoint."""
CALIBRATION_ROWS, CALIBRATION_BATCH = 64, 8
"""Rows of the training part that are read to score activations, and those read at once."""
LOSS_TOKENS = 50_000
"""Held-out tokens scored before and after."""


@dataclass(frozen=True)
class Pruned:
    """What came of it."""

    out: Path
    before: dict[str, int]
    """Sizes of the whole model, with its parameters."""
    after: dict[str, int]
    losses: tuple[float, float] | None
    """Held-out nats per token before and after; None where no shards were given."""
    obstacles: tuple[str, ...]
    """Formats that can no longer hold the model, and why."""
    split: str | None = None
    """The split that losses were measured on; None without losses."""
    report: Path | None = None
    """The page about it."""
    steps: tuple[Step, ...] = ()
    """What to do next."""


def run(
    model: Path | str,
    out: Path | str,
    sizes: Sizes,
    *,
    score: Score | None = None,
    shards: Path | str | None = None,
) -> Pruned:
    """Prune a model once and write the result as a checkpoint.

    Args:
        model: a run or checkpoint.
        out: the checkpoint to write.
        sizes: what remains.
        score: by default ``activation`` where there are shards, else ``magnitude``.
        shards: text in the model's tokens.

    Raises:
        UserError: there is no such model, the sizes or shards do not fit it, something is at ``out`` already,
            or activations are to be scored without a text.
    """
    if Path(model).is_file():
        raise UserError("a GGUF file cannot be pruned", where=model, hint="import it first: congling import")
    if Path(out).exists():
        raise UserError("there is something already", value=str(out), hint="choose another --out")
    loaded = _in_floats(model)
    config = loaded.model.config
    check(config, sizes)
    score = score or ("magnitude" if shards is None else "activation")
    text = None if shards is None else _opened(shards, loaded)
    if text is None and score == "activation":
        raise UserError("activations need a text to read", hint="name it with --shards, or --score magnitude")
    scores = _scores(loaded, text, score)
    smaller, weights, kept = prune(config, loaded.model.state_dict(), scores, sizes)
    result = Transformer(smaller)
    result.load_state_dict(weights)
    pruned = replace(loaded, model=result.eval())
    losses = None if text is None else (_loss(loaded, text), _loss(pruned, text))
    before, after = ({**sizes_of(one), "parameters": parameters(one)} for one in (config, smaller))
    obstacles = _obstacles(loaded, smaller)
    made = {"score": score, "from": before, "to": after, "layers": kept.layers, "losses": losses}
    made |= {"model": str(model), "obstacles": list(obstacles)} | ({"shards": str(shards)} if shards else {})
    parents = {"base": loaded.checkpoint} | ({} if text is None else {"shards": text.artifact})
    with artifact.writing(out, "checkpoint", parents=parents, facts=_facts(loaded, made)) as folder:
        save_model(result, folder)
        words = artifact.opened(loaded.checkpoint.path / "tokenizer", "tokenizer")
        artifact.copy(words, folder / "tokenizer")
        write_text(folder / REPORT, json.dumps(_report(scores, kept), indent=1) + "\n")
    described = content_of_checkpoint(artifact.opened(out, "checkpoint"))
    return Pruned(
        Path(out),
        before,
        after,
        losses,
        obstacles,
        None if text is None else _split(text),
        write_content(described, Path(out) / "report"),
        described.steps,
    )


def _in_floats(model: Path | str) -> Loaded:
    """The model; raises UserError where its layers are codes, which have no rows to leave out."""
    loaded = load_checkpoint(model, "cpu")
    if DESCRIPTION in loaded.checkpoint.files:
        hint = "prune the model it was made of, and quantise what remains"
        raise UserError("a model in few bits cannot be pruned", where=model, hint=hint)
    return loaded


def _facts(loaded: Loaded, made: Mapping[str, Any]) -> dict[str, Any]:
    """What the checkpoint says of itself: what the model said that still holds, and how it was pruned."""
    known = loaded.checkpoint.facts
    kept = {key: known[key] for key in ("chat", "name", EXTENDED, EXTENSION) if key in known}
    return kept | loaded.reading.facts() | {"pruned": made}


def _opened(shards: Path | str, loaded: Loaded) -> Shards:
    """The shards, checked against the model's tokenizer.

    Raises:
        UserError: they were made with another one, or hold no training text.
    """
    found = open_shards(shards, tokenizer=loaded.tokenizer, verify=True)
    if not len(found["train"].tokens):
        raise UserError("these shards hold no training text to score on", where=shards)
    return found


def _scores(loaded: Loaded, text: Shards | None, score: Score) -> Scores:
    model = loaded.model.eval()
    if text is None or score == "magnitude":
        return prune_scores.magnitude(model)
    reading = loaded.reading
    batches = CorpusBatches(
        text["train"], context=reading.context, rows=CALIBRATION_BATCH, document_mask=reading.document_mask
    )
    steps = max(1, min(CALIBRATION_ROWS, batches.windows) // CALIBRATION_BATCH)

    def placed(array: Any) -> Tensor | None:
        return None if array is None else torch.from_numpy(array)

    rows = (
        (torch.from_numpy(batch.tokens), placed(batch.positions), placed(batch.documents))
        for step in range(steps)
        for batch in batches(step)
    )
    return prune_scores.activation(model, rows)


def _split(text: Shards) -> str:
    """What losses are measured on: validation, since sizes are chosen by them; ``test`` stays unseen."""
    return "validation" if len(text["validation"].tokens) else "train"


def _loss(loaded: Loaded, text: Shards) -> float:
    """Held-out nats per token; of shards without a held-out part, of the text itself."""
    return evaluate_loaded(loaded, text[_split(text)], overlap=0, limit_tokens=LOSS_TOKENS).nats_per_token


def _report(scores: Scores, kept: Kept) -> dict[str, Any]:
    """Scores and what was kept, layer by layer, as plain numbers."""

    def plain(values: Tensor) -> list[Any]:
        return json.loads(
            json.dumps(values.float().tolist()), parse_float=lambda text: float(f"{float(text):.4g}")
        )

    return {
        "layers": {"scores": plain(scores.layers), "kept": kept.layers},
        "width": {"scores": plain(scores.width), "kept": kept.width.tolist()},
        "blocks": [
            {
                "layer": layer,
                "groups": {"scores": plain(scores.groups[layer]), "kept": kept.groups[layer].tolist()},
                "hidden": {"scores": plain(scores.hidden[layer])},
            }
            | ({"experts": {"scores": plain(scores.experts[layer])}} if layer in scores.experts else {})
            | {
                "kept": {
                    axis: index.tolist()
                    for axis, index in kept.blocks[layer].items()
                    if axis in ("hidden", "own", "shared", "experts")
                }
            }
            for layer in kept.layers
        ],
    }


def _obstacles(loaded: Loaded, config: ModelConfig) -> tuple[str, ...]:
    """Formats that held the whole model and cannot hold this one."""
    kind = loaded.tokenizer.kind
    return tuple(
        f"no longer fits {target}: {found[0].what}"
        for target in TARGETS
        if not obstacles(loaded.model.config, kind, target) and (found := obstacles(config, kind, target))
    )
