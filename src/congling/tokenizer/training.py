"""From texts to a finished tokenizer directory, within bounded memory and always the same."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from congling.core import artifact
from congling.core.artifact import Artifact
from congling.core.errors import UserError
from congling.core.progress import stage, track
from congling.core.text import write_text
from congling.tokenizer import bpe, character, store, unigram
from congling.tokenizer.advice import Advice, advise_vocab, often
from congling.tokenizer.config import TokenizerConfig
from congling.tokenizer.sampling import Counts, Texts, count, sample
from congling.tokenizer.token_report import Report, report, usage

_REPORT_BYTES = 20_000_000  # text the report is measured on; a part of a large corpus is as good as the whole


@dataclass(frozen=True)
class Trained:
    """A finished tokenizer directory and what is to be said about it."""

    artifact: Artifact
    report: Report
    advice: Advice | None
    """How the vocabulary size was chosen; None when it was given."""
    notes: tuple[str, ...]
    """Whole sentences about what differs from what was asked."""


def train(
    config: TokenizerConfig,
    texts: Texts,
    out: Path | str,
    *,
    parents: Mapping[str, Artifact] | None = None,
    held_out: Texts | None = None,
    overwrite: bool = False,
) -> Trained:
    """Learn a vocabulary, measure it and write its directory.

    Two passes over the texts count and sample them; learning sees at most ``config.sample`` bytes.

    Args:
        config: kind and size.
        texts: gives the training texts, each time from the beginning.
        out: the directory to make.
        parents: finished directories the texts come from, for the manifest.
        held_out: gives texts to measure lengths and coverage on.
        overwrite: replace a directory that exists.

    Raises:
        UserError: there is no text, or the vocabulary cannot be learnt from it.
    """
    counts = count(lambda: track(texts(), "counting characters"))
    if not counts.characters:
        raise UserError("there is no text to learn a tokenizer from")
    advice = None
    if config.vocab_size is None:
        frequent = counts.frequent(often(counts.characters))
        advice = advise_vocab(counts.characters, len(counts.by_character), frequent, kind=config.kind)
    asked = advice.vocab_size if advice else config.vocab_size or 0
    facts: dict[str, object] = {"kind": config.kind, "config": config.model_dump(mode="json")}
    with artifact.writing(out, "tokenizer", parents=parents, facts=facts, overwrite=overwrite) as folder:
        tokenizer = _learn(config, texts, counts, asked)
        store.save(tokenizer, folder)
        notes = _notes(asked, tokenizer.vocab_size, counts)
        with stage("measuring the vocabulary"):
            chosen = sample(texts, corpus_bytes=counts.bytes, limit_bytes=_REPORT_BYTES, seed=config.seed)
            training = usage(tokenizer, chosen)
            other = usage(tokenizer, held_out()) if held_out else None
            found = report(tokenizer, training, other if other and other.characters else None)
        content = found.as_json() | {"notes": notes, "advice": advice.reasons if advice else None}
        content["config"] = config.model_dump(mode="json")
        write_text(folder / "report.json", json.dumps(content, ensure_ascii=False, indent=1) + "\n")
        facts["vocab_size"] = tokenizer.vocab_size
    return Trained(artifact.opened(out, "tokenizer"), found, advice, notes)


def _learn(
    config: TokenizerConfig, texts: Texts, counts: Counts, size: int
) -> bpe.BytePairTokenizer | unigram.UnigramTokenizer | character.CharacterTokenizer:
    characters = counts.by_character
    if config.kind == "character":
        return character.train(characters, vocab_size=size)
    found = sample(texts, corpus_bytes=counts.bytes, limit_bytes=config.sample, seed=config.seed)
    chosen = track(found, "reading the sample")
    if config.kind == "unigram":
        return unigram.train(
            chosen, vocab_size=size, characters=characters, longest_token=config.longest_token
        )
    longest = config.longest_token
    return bpe.train(
        chosen, vocab_size=size, characters=characters, digits=config.digits, longest_token=longest
    )


def _notes(asked: int, got: int, counts: Counts) -> tuple[str, ...]:
    if got >= asked:
        return ()
    text = f"The corpus of {counts.characters:,} characters offers {got:,} ids, not {asked:,}"
    return (f"{text}; all were taken.",)
