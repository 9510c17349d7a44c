"""Quantised models beside the one they were made from: what each lost, two models in memory at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from congling.core.errors import UserError
from congling.data.openings import openings
from congling.data.token_split import TokenSplit
from congling.evals.damage import (
    HeldOutRows,
    TokenDamage,
    by_position,
    held_out_rows,
    recovery,
    summary,
    token_damage,
)
from congling.evals.damage_layers import comparable, layer_damage
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.infer.generate import tokens
from congling.infer.prompts import prompt_ids
from congling.infer.sampler import SamplingConfig
from congling.interop.stored_bits import stored_bits
from congling.methods.damage_inputs import (
    held_out_text,
    made_with,
    require_same_vocabulary,
    script_of,
    weights_by_part,
)
from congling.methods.evaluation import beside, measure_copying, measure_rules, of_the_small_world
from congling.report.damage import PARTED, DamageReport, Greedy, ModelDamage, WritingScores

MOST_MODELS = 8
TOKENS = 20_480
"""Scored by default: enough for an interval of a few per cent of the KL."""
PROMPTS, LONGEST = 4, 64
"""Openings that are continued greedily, and by how many tokens."""


@dataclass(frozen=True)
class Settings:
    """What is measured, and on what."""

    data: Sequence[str] = ()
    """Shards, or files and folders of texts; by default the shards beside the base."""
    limit_tokens: int = TOKENS
    context: int | None = None
    """Tokens of a window; those of training by default."""
    layers: bool = True
    """Whether to look at one layer at a time."""
    texts: bool = True
    """Whether to let the models write."""
    seed: int = 0


def run(base: Path | str, quantised: Sequence[Path | str], settings: Settings | None = None) -> DamageReport:
    """Compare quantised models with the one they were made from.

    Args:
        base: a run, a checkpoint or a GGUF file.
        quantised: others, the same tokens in each.
        settings: what is measured.

    Raises:
        UserError: none or too many models, one that cannot be read or has another vocabulary, no held-out
            text or too little, logits that are not finite.
    """
    settings = settings or Settings()
    if not 1 <= len(quantised) <= MOST_MODELS:
        hint = f"the base, then one to {MOST_MODELS} others"
        raise UserError("damage takes a base and quantised models", value=len(quantised), hint=hint)
    first = load_checkpoint(base)
    split, text, told = held_out(first, settings)
    writer = _Writer(first, split, settings)
    names = _names([base, *quantised])
    found, scored = [], list[TokenDamage]()
    for path, name in zip(quantised, names[1:], strict=True):
        one, damage = _measured(first, path, name, text, writer, settings)
        found.append(one)
        scored.append(damage)
    return DamageReport(
        names[0],
        first.checkpoint.path,
        stored_bits(first.checkpoint.path),
        weights_by_part(first.model.config),
        writer.scores(first),
        f"The same {told} for all.",
        tuple(_recovered(found, scored, text, settings.seed)),
    )


def held_out(base: Loaded, settings: Settings) -> tuple[TokenSplit, HeldOutRows, str]:
    """The held-out text, its windows, and what they are in words.

    Raises:
        UserError: there is none or too little, or the window is longer than the base's context.
    """
    split, where = held_out_text(base, settings.data)
    reading = base.reading
    context = settings.context or reading.context
    _require_context(base, context)
    text = held_out_rows(
        split, context, limit_tokens=settings.limit_tokens, document_mask=reading.document_mask
    )
    return split, text, f"{len(text.unit):,} tokens of {where}, in windows of {context:,},"


def _require_context(loaded: Loaded, context: int) -> None:
    most = loaded.model.config.max_position_embeddings
    if context > most:
        where, hint = loaded.checkpoint.path, f"at most {most:,}: --context {most}"
        raise UserError(
            "the window is longer than the model's context", where=where, value=context, hint=hint
        )


def _names(paths: Sequence[Path | str]) -> list[str]:
    """The last part of each path; the whole path where two are called alike, with a number where it is named
    twice."""
    short = [Path(path).resolve().name for path in paths]
    names = [str(path) if short.count(name) > 1 else name for path, name in zip(paths, short, strict=True)]
    again = [names[:i].count(name) for i, name in enumerate(names)]
    return [f"{name} ({count + 1})" if count else name for name, count in zip(names, again, strict=True)]


def _measured(
    base: Loaded, path: Path | str, name: str, text: HeldOutRows, writer: "_Writer", settings: Settings
) -> tuple[ModelDamage, TokenDamage]:
    """One model, which is forgotten afterwards, and its numbers token by token."""
    other = load_checkpoint(path)
    require_same_vocabulary(base, other)
    _require_context(other, text.context)
    found = token_damage(base, other, text)
    calibration, warnings = made_with(other, writer.script)
    layered = settings.layers and comparable(base.model, other.model)
    damage = ModelDamage(
        name,
        other.checkpoint.path,
        stored_bits(other.checkpoint.path),
        summary(found, text, seed=settings.seed),
        tuple(by_position(found, text, seed=settings.seed)),
        layer_damage(base, other, text.rows) if layered else None,
        None,
        writer.beside(other),
        writer.scores(other),
        calibration,
        warnings,
    )
    return damage, found


class _Writer:
    """Lets models write: the same openings for all, the base once.

    Attributes:
        script: of the held-out text, a guess.
    """

    def __init__(self, base: Loaded, split: TokenSplit, settings: Settings) -> None:
        self._split, self.script = split, script_of(split, base.tokenizer)
        self._documents = beside(base.checkpoint.path, "documents") if settings.texts else None
        self._base = base
        self._prompts = list(openings(split, base.tokenizer, documents=PROMPTS)) if settings.texts else []
        self._before = self._ids(base)

    def beside(self, other: Loaded) -> tuple[Greedy, ...]:
        """What a model writes behind each opening, and where it parts from the base."""
        after = self._ids(other)
        return tuple(map(self._greedy, self._prompts, self._before, after))

    def _greedy(self, prompt: str, before: list[int], after: list[int]) -> Greedy:
        equal = next(
            (i for i, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), None
        )
        shared = min(len(before), len(after)) if equal is None else equal
        decode = self._base.tokenizer.decode
        parted = PARTED if before != after else ""
        text = decode(after[:shared], skip_special=True) + parted + decode(after[shared:], skip_special=True)
        return Greedy(prompt, decode(before, skip_special=True), text, shared, len(before))

    def _ids(self, loaded: Loaded) -> list[list[int]]:
        """The likeliest continuations, each up to what ends it."""
        if not self._prompts:
            return []
        tokenizer, model = self._base.tokenizer, loaded.model
        room = model.config.max_position_embeddings
        prompts = [prompt_ids(tokenizer, prompt)[-max(1, room // 2) :] for prompt in self._prompts]
        barred = tokenizer.undrawable(model.config.vocab_size)
        sampling = SamplingConfig(temperature=0.0)
        steps = list(
            tokens(model, prompts, max_new_tokens=min(LONGEST, room), sampling=sampling, undrawable=barred)
        )
        ends = tokenizer.stop_ids | set(tokenizer.special.values())
        return [
            row[: next((i for i, index in enumerate(row) if index in ends), len(row))]
            for row in ([step[k] for step in steps] for k in range(len(prompts)))
        ]

    def scores(self, loaded: Loaded) -> WritingScores:
        """Copying, where the training documents lie beside the base; rules, where they are small worlds."""
        if self._documents is None:
            return WritingScores()
        rules = measure_rules(loaded) if of_the_small_world(self._documents) else None
        return WritingScores(rules, measure_copying(loaded, self._split, self._documents))


def _recovered(
    found: Sequence[ModelDamage], scored: Sequence[TokenDamage], text: HeldOutRows, seed: int
) -> list[ModelDamage]:
    """With what each saves of the damage of rounding to nearest on its own grid, where that is among them."""
    rounded = {grid: damage for one, damage in zip(found, scored, strict=True) if (grid := _grid(one, "rtn"))}
    results = []
    for one, damage in zip(found, scored, strict=True):
        against = rounded.get(_grid(one) or ())
        saved = None if against is None or against is damage else recovery(damage, against, text, seed=seed)
        results.append(replace(one, recovery=saved))
    return results


def _grid(one: ModelDamage, method: str | None = None) -> tuple[str, ...] | None:
    """What a model's codes are spread over, where it is known and, if asked for, made by a method."""
    known = one.calibration
    if "bits" not in known or method not in (None, known.get("method")):
        return None
    return tuple(known.get(key, "") for key in ("bits", "group_size", "sym"))
