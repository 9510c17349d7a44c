"""Runs side by side: what they recorded, and texts and scores made for it, one model in memory at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from congling.core.errors import UserError
from congling.data.tuning.chat_rows import Conversation
from congling.evals.row_losses import characters, read_rows, row_losses
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.infer.generate import generate
from congling.infer.prompts import conversation_ids
from congling.infer.sampler import SamplingConfig
from congling.interop import adapter_directory
from congling.report.comparison import Comparison, RowScores, asked_prompts, compare, shared_prompts
from congling.report.sides import RunSummary, summaries

MOST_RUNS = 8
QUESTIONS = 4
"""Rows whose questions are answered side by side."""


@dataclass(frozen=True)
class Writing:
    """How texts are made for the comparison; the same for every run."""

    prompts: Sequence[str] = ()
    tokens: int = 100
    """Longest text of a prompt."""
    temperature: float = 0.7
    seed: int = 0

    def told(self) -> str:
        """In a sentence."""
        return (
            f"Written for this comparison: seed {self.seed}, temperature {self.temperature:g}, at most "
            f"{self.tokens} tokens; models tuned for chat see their template, others continue the text."
        )


def run(
    runs: Sequence[Path | str], *, rows: Sequence[str] = (), limit: int = 200, writing: Writing | None = None
) -> Comparison:
    """Compare runs.

    Args:
        runs: two at least; the first is the one to compare with.
        rows: files of questions with answers, scored by every run, and the first answered.
        limit: rows scored at most.
        writing: prompts to answer, and how; without prompts and rows the recorded samples are shown, or,
            where the runs recorded different prompts, each answers some of all.

    Raises:
        UserError: fewer than two runs or too many, one that is none, a damaged checkpoint, or rows that
            cannot be read.
    """
    if not 2 <= len(runs) <= MOST_RUNS:
        raise UserError("compare takes two runs or more", value=len(runs), hint=f"two to {MOST_RUNS} runs")
    found, writing = summaries(runs), writing or Writing()
    if not rows and not writing.prompts:
        if shared_prompts(found):
            return compare(found)
        asked = replace(writing, prompts=asked_prompts(found, QUESTIONS))
        written, left_out = _written_where_possible(found, asked)
        if not any(written.values()):
            return compare(found)
        return compare(found, written=written, note=" ".join([asked.told(), *left_out]))
    talks = read_rows(rows, limit) if rows else []
    if not writing.prompts:
        writing = replace(writing, prompts=[_question(talk) for talk in talks[:QUESTIONS]])
    texts, losses = {}, {}
    for side in found:  # one model in memory at a time
        loaded = _opened(side.run.path)
        texts[side.name], losses[side.name] = _measured(loaded, talks, writing)
    return compare(found, rows=_kept(losses, talks), written=texts, note=writing.told())


def _written_where_possible(
    sides: Sequence[RunSummary], writing: Writing
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Texts by run and prompt of the runs that can write, and a sentence for each that cannot.

    Nobody asked for them: a run whose base is gone, or that is a reward model, is compared without.
    """
    texts: dict[str, dict[str, str]] = {}
    left_out: list[str] = []
    for side in sides:
        texts[side.name] = {}
        if side.run.method.verb == "reward":
            left_out.append(f"{side.name} scores texts, and writes none.")
            continue
        try:
            texts[side.name] = _measured(_opened(side.run.path), [], writing)[0]
        except UserError as error:
            left_out.append(f"{side.name} could not be asked: {error.what}.")
    return texts, left_out


def _question(talk: Conversation) -> str:
    """The last thing asked, which alone is shown and answered."""
    asked = [turn["content"] for turn in talk.messages[:-1] if turn["role"] in ("user", "tool")]
    return asked[-1]


def _opened(path: Path) -> Loaded:
    """The model that is the result of a run; of a run that trained an adapter, its base with the adapter on
    it.

    Raises:
        UserError: there is no checkpoint, or the base is not where the adapter was trained.
    """
    place = adapter_directory.locate(path)
    if place is None:
        return load_checkpoint(path)
    base = Path(str(adapter_directory.facts(place).get("base_path", "")))
    if not base.parts or not base.exists():
        raise UserError(
            "the base of this adapter is not where it was",
            where=path,
            value=str(base),
            hint="call this in the folder it was trained in, or leave out --prompt and --rows",
        )
    return load_checkpoint(base, adapters=[(place, 1.0)])


def _measured(
    loaded: Loaded, talks: Sequence[Conversation], writing: Writing
) -> tuple[dict[str, str], list[float | None]]:
    """Texts by prompt, and nats of each row's answer."""
    prompts = list(dict.fromkeys(writing.prompts))
    ids = [conversation_ids(loaded, [{"role": "user", "content": prompt}]) for prompt in prompts]
    sampling = SamplingConfig(temperature=writing.temperature, seed=writing.seed)
    texts = generate(loaded.model, loaded.tokenizer, ids, max_new_tokens=writing.tokens, sampling=sampling)
    return dict(zip(prompts, texts, strict=True)), row_losses(loaded, talks)


def _kept(losses: Mapping[str, list[float | None]], talks: Sequence[Conversation]) -> RowScores | None:
    """Scores of the rows that every model has room for.

    Raises:
        UserError: there is no such row.
    """
    if not talks:
        return None
    kept = [i for i in range(len(talks)) if all(values[i] is not None for values in losses.values())]
    if not kept:
        raise UserError("no row fits the context of every model", value=len(talks), hint="give shorter rows")
    nats = {name: [values[i] or 0.0 for i in kept] for name, values in losses.items()}
    return RowScores(nats, [characters(talks[i]) for i in kept], len(talks) - len(kept))
