"""What an export in fewer bits lost, measured where the model it comes from has held-out shards beside it.

::

    run ───┬─ convert --type Q4_K_M ──────────────→ file ───┐
           └─ quantize ─→ checkpoint ─ convert ─→ folder ───┴─ read here, beside the run ─→ KL, loss, top-1

Tokens and numbers are those of ``congling damage --limit-tokens 5120``.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from congling.core import artifact
from congling.core.document import plain
from congling.core.errors import UserError
from congling.core.progress import stage
from congling.evals.damage import Damage, summary, token_damage
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.interop import formats
from congling.interop.assembly import transformer
from congling.interop.source import Source
from congling.methods.damage import Settings, held_out
from congling.methods.evaluation import beside
from congling.model.checkpoint import load_config
from congling.model.counts import flops_per_token
from congling.quant.config import BASE_PATH
from congling.quant.stored import is_quantised
from congling.report.damage_page import between, nats
from congling.train.calibrate import matmul_peak

TOKENS = 5_120
"""Scored: a quarter of what ``congling damage`` reads."""
MOST_SECONDS = 10.0
"""By estimate; what takes longer is left to ``congling damage``."""
_OF_PEAK = 0.6
"""Of the speed of a matrix multiplication a pass reaches so much."""


@dataclass(frozen=True)
class ExportedDamage:
    """What an export lost against the model in floats."""

    text: str
    """What was read, in words."""
    damage: Damage

    @property
    def line(self) -> str:
        """All of it in a line, the verdict last."""
        one, loss = self.damage, "{:+.4f}".format
        return (
            f"on {self.text} KL {nats(one.kl.value)} nats/token{_interval(between(one.kl, nats))}, "
            f"loss {loss(one.nats.value)} nats/token{_interval(between(one.nats, loss))}, "
            f"same top-1 token {one.agreement.value:.2%}; {one.verdict}"
        )

    def to_json(self) -> dict[str, Any]:
        """As ``congling damage --json`` names the numbers."""
        tokens = self.damage.kl.n
        return plain(
            {"text": self.text, "tokens": tokens, **vars(self.damage), "verdict": self.damage.verdict}
        )


def _interval(told: str) -> str:
    return f" ({told})" if told else ""


def base_of(source: Source) -> Path | None:
    """The checkpoint in floats behind a run or checkpoint: that itself; of one in few bits what it was made
    of, where that still lies there and is the same."""
    found = artifact.opened(source.model.path, "checkpoint")
    if not is_quantised(found.path):
        return found.path
    try:
        base = artifact.opened(Path(str(found.facts.get(BASE_PATH))), "checkpoint")
    except UserError:
        return None
    return base.path if base.fingerprint == found.parents.get("base") else None


def command(source: Source, out: Path, base: Path | None) -> str:
    """The command that measures it in full; folders of other programs stand there as the checkpoint that
    they were made of."""
    first = source.path if base == source.model.path else base or "BASE"
    data = [] if base is not None and beside(base, "shards") else ["--data", "TEXT"]
    made = out if out.is_file() else source.path
    return shlex.join(["congling", "damage", str(first), str(made), *data])


def measured(base: Path, out: Path) -> ExportedDamage | None:
    """Compare a GGUF file or Hugging Face folder, as it is read here, with the model in floats.

    None where there are no shards beside that model, or it would take long.

    Raises:
        UserError: the shards are another tokenizer's or too short, or logits are not finite.
    """
    if beside(base, "shards") is None or _seconds(base) > MOST_SECONDS:
        return None
    with stage("measuring what fewer bits cost"):
        first = load_checkpoint(base)
        _, text, told = held_out(first, Settings(limit_tokens=TOKENS))
        other = load_checkpoint(out) if out.is_file() else _folder(out, first)
        return ExportedDamage(told, summary(token_damage(first, other, text), text))


def _seconds(base: Path) -> float:
    """That both models take, by the speed of this machine: on a CPU 5, 25 and 100 M took 4, 10 and 56 s where
    this says 2, 10 and 31 (types of k-quants are unpacked on the way)."""
    config = load_config(base)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    forward = flops_per_token(config) / 3  # that of training holds two backward passes
    return 2 * forward * TOKENS / (_OF_PEAK * matmul_peak(device, torch.float32, seconds=0.05))


def _folder(out: Path, base: Loaded) -> Loaded:
    """A Hugging Face folder as it is read here."""
    model = formats.READERS["hf"](out)
    device = base.model.embedding.weight.device
    about = artifact.Artifact(out, "hf", "", {}, {}, model.facts)
    return Loaded(transformer(model, device), base.tokenizer, about)
