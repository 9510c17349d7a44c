"""One tuning run from its base to its result: the shell around every method.

::

    base ─ open ─ model (+ adapter) ─┬─ the method's batches and objective ─ the loop ─ run directory
                                     └─ what the method asks of the base beforehand (reference, rewards)

    runs/poet/
    ├── checkpoints/step-00000200/   adapter.safetensors  adapter.json  state/   (never the base)
    └── adapter/                     that of the best step: for generate, chat and convert

A method is data, batches and an objective; it never opens a base, attaches an adapter or writes a directory.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from congling.core import artifact, machine, pointers
from congling.core.artifact import Artifact
from congling.core.errors import UserError
from congling.core.numbers import finite
from congling.core.rundir import RunDirectory
from congling.data.batches import Batches
from congling.data.tuning.examples import Example
from congling.evals.collapse import watch
from congling.infer.reading import extension_after
from congling.interop import adapter_directory
from congling.interop.adapters import base_positions
from congling.interop.gguf.packing import pack
from congling.methods.base_model import OpenedBase
from congling.methods.memory import shortage_explained
from congling.methods.recipes import TuningConfig
from congling.model.transformer import Transformer
from congling.quant.config import FACT, RtnConfig
from congling.tokenizer import store
from congling.train.backends.ddp import build_backend
from congling.train.loop import Objective, Trainer
from congling.train.runs.checkpoints import SaveModel
from congling.train.runs.hooks import Evaluate, Sample
from congling.train.runs.metrics import MetricScales
from congling.train.runs.train import RunParts, train
from congling.transform.fake import made_of, saving, train_in_few_bits
from congling.transform.lora import adapter_of, attach

HANDED_ON = "adapter"
"""Name of the adapter directory in a run."""


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
    scales: MetricScales = field(default_factory=MetricScales)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Kept in every checkpoint's manifest, besides ``chat``."""
    save_model: SaveModel | None = None
    """Writes the whole model, where it is more than a language model."""
    prefetch: int = 2
    """Steps whose batches are made in advance; 0 where they depend on the weights."""
    before_update: Callable[[dict[str, Any]], None] | None = None


@dataclass(frozen=True)
class Tuned:
    """What came of it."""

    out: Path
    adapter: Path | None
    """The adapter's directory; None where the weights themselves were trained."""
    name: str
    """Which held-out number chose the best checkpoint: ``train.metric_for_best_model``."""
    before: float | None
    """Its value for the base; None where nothing was held out."""
    after: float | None
    """That of the best checkpoint."""
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
        if self.quantization is not None:
            train_in_few_bits(self.model, self.quantization)
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
    def quantization(self) -> RtnConfig | None:
        """In what the weights are trained, where not in floats."""
        return getattr(self.config, "quantization", None)

    @property
    def learnt(self) -> int:
        """Values that are trained."""
        return sum(one.numel() for one in self.model.parameters() if one.requires_grad)

    @property
    def batching(self) -> dict[str, int]:
        """Rows, accumulation and the like, as batches of rows take them."""
        train = self.config.train
        return {
            "context": train.max_length,
            "rows": train.per_device_train_batch_size,
            "accumulation": train.gradient_accumulation_steps,
            "seed": train.seed,
            "pad": self.opened.tokenizer.pad_id,
        }

    def train(self, spec: MethodSpec, out: Path, *, must_resume: bool, files: Mapping[str, str]) -> Tuned:
        """Train to the end, or go on from the newest checkpoint in ``out``; ``files`` are kept in a new run.

        Raises:
            UserError: ``out`` holds another run; see :func:`congling.train.runs.train.train`.
            Interrupted: Ctrl-C; the state is saved.
        """
        whole = self.config.adapter is None
        trainer = Trainer(
            self.model,
            spec.batches,
            spec.objective,
            self.config.train,
            self.backend,
            after_update=self.model.update_balance if whole else None,
            before_update=spec.before_update,
            prefetch=spec.prefetch,
        )
        trained = None if whole else self.learnt
        with shortage_explained(
            self.model.config, self.config.train, self.backend, trained=trained, trainer=trainer
        ):
            directory = train(trainer, out, self._parts(spec, out, files), must_resume=must_resume)
        handed_on = None
        if not whole and self.backend.rank == 0:
            handed_on = hand_on(directory)
        name = self.config.train.metric_for_best_model
        found = {
            row["step"]: value
            for row in directory.log("metrics").rows()
            if (value := finite(row.get(f"validation_{name}"))) is not None
            and finite(row.get("step")) is not None
        }
        best = trainer.best["step"] if trainer.best is not None else trainer.step
        return Tuned(out, handed_on, name, found.get(0), found.get(best))

    def _parts(self, spec: MethodSpec, out: Path, files: Mapping[str, str]) -> RunParts:
        """What the run needs besides its trainer."""
        facts = {"chat": spec.chat or self.opened.chat} | self.opened.reading.facts()
        facts |= extension_after(self.opened.artifact.facts, self.config.train.max_length) | dict(spec.facts)
        whole: dict[str, Any] = {"tokenizer": self._tokenizer(out)}
        if spec.save_model is not None:
            whole["save_model"] = spec.save_model
        if self.quantization is not None:
            whole["save_model"], facts[FACT] = saving(self.quantization), made_of(self.quantization)
        if self.config.adapter is not None:
            kept = facts | {"adapter": self.config.adapter.model_dump(mode="json")}
            if self.opened.template is not None:
                kept["chat_template"] = self.opened.template
            kept |= {"base_path": str(self.opened.path), "name": out.resolve().name}
            kept |= base_positions.facts_of(self.opened.model)
            identity = self.opened.identity

            def save(model: Any, folder: Path) -> None:
                adapter_directory.write_files(adapter_of(model, facts=kept), identity, folder)

            whole = {"save_model": save}
        return RunParts(
            self.config,
            parents={"base": self.opened.artifact, "data": spec.data},
            evaluate=spec.evaluate,
            evaluate_first=True,
            sample=spec.sample,
            watch=watch,
            scales=spec.scales,
            facts=facts,
            files=files,
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


def hand_on(run: RunDirectory) -> Path:
    """Copy the adapter of the run's best checkpoint, else of the latest, to where people look for it.

    Raises:
        UserError: the checkpoint is damaged or gone.
    """
    place = pointers.handed_on(run.path)
    if place is None:
        raise UserError("the run has no checkpoint to take the adapter from", value=str(run.path))
    checkpoint, kind = artifact.opened(place, "checkpoint", verify=True), adapter_directory.KIND
    target = run.path / HANDED_ON
    if artifact.exists(target) and artifact.opened(target, kind).parents == {"run": checkpoint.fingerprint}:
        return target
    facts = {"step": checkpoint.fact("step")}
    with artifact.writing(target, kind, parents={"run": checkpoint}, facts=facts, overwrite=True) as folder:
        for name in (adapter_directory.WEIGHTS, adapter_directory.DESCRIPTION):
            (folder / name).write_bytes((checkpoint.path / name).read_bytes())
    return target


def fingerprint(examples: Iterable[Example], *more: str) -> Artifact:
    """Data as something a run can be compared with; ``more`` are texts that also make it what it is."""
    found = hashlib.sha256()
    for example in examples:
        found.update(example.input_ids.tobytes() + example.loss_mask.tobytes())
    for text in more:
        found.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return Artifact(Path("data"), "examples", found.hexdigest(), {}, {})
