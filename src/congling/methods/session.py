"""One tuning run from its base to what it hands on: the shell around every method.

::

    base ─ open ─ model (+ adapter) ─┬─ the method's batches and objective ─ the loop ─ run directory
                                     └─ what the method asks of the base beforehand (reference, rewards)

A method is data, batches and an objective; it never opens a base, attaches an adapter or writes a directory.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from congling.core import artifact, machine
from congling.core.artifact import Artifact
from congling.core.numbers import finite
from congling.data.batches import Batches
from congling.data.tuning.examples import Example
from congling.evals.collapse import watch
from congling.interop.gguf.packing import pack
from congling.methods import adapters
from congling.methods.base_model import OpenedBase
from congling.methods.memory import shortage_explained
from congling.methods.tuning_recipe import TuningConfig
from congling.model.transformer import Transformer
from congling.tokenizer import store
from congling.train.backends.ddp import build_backend
from congling.train.loop import Hook, Objective, Trainer
from congling.train.runs.checkpoints import SaveModel
from congling.train.runs.hooks import Evaluate, Sample
from congling.train.runs.metrics import MetricScales
from congling.train.runs.train import RunParts, train
from congling.transform.lora import attach


@dataclass(frozen=True)
class MethodSpec:
    """What a method brings to a session."""

    batches: Batches
    objective: Objective
    data: Artifact
    """Identifies the rows: other rows are another run."""
    evaluate: Evaluate | None = None
    sample: Sample | None = None
    chat: bool = True
    """Whether the model will have learnt its chat template."""
    yardsticks: MetricScales = field(default_factory=MetricScales)
    parents: Mapping[str, Artifact] = field(default_factory=dict)
    """Further inputs, by name."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Kept in every checkpoint's manifest, besides ``chat``."""
    save_model: SaveModel | None = None
    """Writes the whole model, where it is more than a language model."""
    ahead: int = 2
    """Steps whose batches are made in advance; 0 where they depend on the weights."""
    before_update: Callable[[dict[str, Any]], None] | None = None
    hooks: Sequence[Hook] = ()


@dataclass(frozen=True)
class Tuned:
    """What came of it."""

    out: Path
    adapter: Path | None
    """The adapter's directory; None where the weights themselves were trained."""
    name: str
    """Which held-out number chose what is handed on: ``train.metric_for_best_model``."""
    before: float | None
    """Its value for the base; None where nothing was held out."""
    after: float | None
    """That of the step that is handed on."""
    report: Path | None = field(default=None, compare=False)
    """The page about it; None in all processes but the first."""


class Session:
    """A base made ready for training: its model on its device, with the adapter on it if there is one.

    Attributes:
        model: what is trained; until training begins it computes exactly what the base does.
    """

    def __init__(self, opened: OpenedBase, config: TuningConfig) -> None:
        train = config.train
        self.opened, self.config = opened, config
        self.backend = build_backend(train)
        self.model: Transformer = opened.build(train.max_length)
        if config.adapter is not None:
            if config.adapter.base_quantization is not None and not opened.packed:
                pack(self.model, config.adapter.base_quantization)
            attach(self.model, config.adapter, seed=train.seed)
        self.model.checkpoint_blocks(train.gradient_checkpointing)
        if train.gradient_checkpointing:  # whoever recomputes wants little memory more than speed
            machine.return_freed_memory()
        self.model.to(self.backend.device)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.backend.close()

    @property
    def learnt(self) -> int:
        """Values that are trained."""
        return sum(one.numel() for one in self.model.parameters() if one.requires_grad)

    def train(
        self,
        work: MethodSpec,
        out: Path | str,
        *,
        must_resume: bool = False,
        files: Mapping[str, str] | None = None,
    ) -> Tuned:
        """Train to the end, or go on from the newest checkpoint in ``out``; ``files`` are kept in a new run.

        Raises:
            UserError: ``out`` holds another run; see :func:`congling.train.runs.train.train`.
            Interrupted: Ctrl-C; the state is saved.
        """
        whole = self.config.adapter is None
        trainer = Trainer(
            self.model,
            work.batches,
            work.objective,
            self.config.train,
            self.backend,
            after_update=self.model.update_balance if whole else None,
            before_update=work.before_update,
            ahead=work.ahead,
        )
        parts = replace(self._parts(work, Path(out)), files=files or {})
        kept = None if whole else self.learnt
        with shortage_explained(
            self.model.config, self.config.train, self.backend, trained=kept, trainer=trainer
        ):
            directory = train(trainer, out, parts, must_resume=must_resume)
        handed_on = None
        if not whole and self.backend.rank == 0:
            handed_on = adapters.hand_on(directory)
        name = self.config.train.metric_for_best_model
        found = {
            row["step"]: value
            for row in directory.log("metrics").rows()
            if (value := finite(row.get(f"validation_{name}"))) is not None
            and finite(row.get("step")) is not None
        }
        best = trainer.best["step"] if trainer.best is not None else trainer.step
        return Tuned(Path(out), handed_on, name, found.get(0), found.get(best))

    def _parts(self, work: MethodSpec, out: Path) -> RunParts:
        """What the run needs besides its trainer."""
        facts = {"chat": work.chat or self.opened.chat} | self.opened.reading.facts() | dict(work.facts)
        whole: dict[str, Any] = {"tokenizer": self._tokenizer(out)}
        if work.save_model is not None:
            whole["save_model"] = work.save_model
        if self.config.adapter is not None:
            kept = facts | {"adapter": self.config.adapter.model_dump(mode="json")}
            if self.opened.template is not None:
                kept["chat_template"] = self.opened.template
            kept |= {"base_path": str(self.opened.path), "name": out.resolve().name}
            whole = {"save_model": adapters.saver(self.opened.identity, kept)}
        return RunParts(
            self.config,
            parents={"base": self.opened.artifact, "data": work.data, **work.parents},
            evaluate=work.evaluate,
            evaluate_first=True,
            sample=work.sample,
            watch=watch,
            yardsticks=work.yardsticks,
            facts=facts,
            hooks=work.hooks,
            **whole,
        )

    def _tokenizer(self, out: Path) -> Path | None:
        """What is copied into checkpoints: the base's own, or one with another template, kept in the run."""
        if self.opened.template is None or self.config.adapter is not None:
            return self.opened.tokenizer_directory
        place = out / "tokenizer"
        if self.backend.rank == 0 and not artifact.exists(place):
            store.write(self.opened.tokenizer, place)
        self.backend.barrier()
        return place


def fingerprint(examples: Iterable[Example], *more: str) -> Artifact:
    """Data as something a run can be compared with; ``more`` are texts that also make it what it is."""
    found = hashlib.sha256()
    for example in examples:
        found.update(example.ids.tobytes() + example.learnt.tobytes())
    for text in more:
        found.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return Artifact(Path("data"), "examples", found.hexdigest(), {}, {})
