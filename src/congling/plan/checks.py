"""Find the classic mistakes before they cost an evening: each check looks at one thing and says why and
what to do."""

import math
from collections.abc import Iterator

from congling.core.units import plural, show_count
from congling.interop.targets import obstacles
from congling.plan import advice_numbers
from congling.plan.advise import WARMUP_STEPS, least_warmup
from congling.plan.check_costs import disk, memory, precision, time
from congling.plan.findings import Diagnosis, worst_first
from congling.plan.situation import BATCH, Check, Situation
from congling.tokenizer.advice import advise_vocab
from congling.train.schedule import warmup_steps

COMMON_CHARACTERS = 4000
"""Different characters that Chinese texts use, but for rare ones."""


def check(situation: Situation) -> list[Diagnosis]:
    """Run every check; errors first."""
    return worst_first(finding for one in CHECKS for finding in one(situation))


def learning_rate(s: Situation) -> Iterator[Diagnosis]:
    """A fine-tuning rate on random weights learns nothing; one far too high destroys them."""
    optimizer = s.train.optimizer
    muon = optimizer.kind == "muon"
    low, high, usual = (
        (2e-3, 0.1, advice_numbers.MUON_RATE) if muon else (1e-4, 1e-2, advice_numbers.ADAMW_RATE)
    )
    if s.fresh and optimizer.learning_rate < low:
        severity = "error" if optimizer.learning_rate < low / 3 else "warning"
        yield Diagnosis(
            severity,
            "fine-tuning-rate",
            f"the learning rate {optimizer.learning_rate:g} is a fine-tuning rate",
            "from random weights the model must move far: at this rate it stays near the unigram "
            "line for the whole run",
            f"use about {usual:g} for {optimizer.kind}, or leave the rate out",
        )
    if optimizer.learning_rate > high:
        yield Diagnosis(
            "error" if optimizer.learning_rate > 5 * high else "warning",
            "rate-too-high",
            f"the learning rate {optimizer.learning_rate:g} is far above what {optimizer.kind} bears",
            "the loss jumps or becomes NaN within a few dozen steps",
            f"use about {usual:g}",
        )
    if optimizer.kind == "muon" and (
        optimizer.embedding_learning_rate > 1.5 or optimizer.head_learning_rate > 0.03
    ):
        yield Diagnosis(
            "warning",
            "table-rate-too-high",
            f"the embedding's rate {optimizer.embedding_learning_rate:g} is above 1.5, or the head's "
            f"{optimizer.head_learning_rate:g} above 0.03",
            "AdamW moves every value by about its rate at each step",
            f"use about {advice_numbers.REGULARISATION[0].embedding_rate:g} and {advice_numbers.HEAD_RATE:g}",
        )


def warmup(s: Situation) -> Iterator[Diagnosis]:
    """The first gradients of random weights point anywhere."""
    steps, least = warmup_steps(s.train.schedule, s.train.max_steps), least_warmup(s.train.max_steps)
    if s.fresh and steps < WARMUP_STEPS and least:
        severity = "note" if s.train.max_steps < 100 else "warning"
        when = "from the first step on" if steps == 0 else "after 1 step"
        tables_too = " (it moves embedding and head)" if s.train.optimizer.kind == "muon" else ""
        yield Diagnosis(
            severity,
            "no-warmup",
            f"the rate is at its peak {when}",
            f"AdamW's averages are empty{tables_too} and early gradients are large: full steps throw the "
            "weights off, sometimes for good",
            f"set train.schedule.warmup_ratio to {max(0.02, math.ceil(1000 * least) / 1000):g} or more",
        )


def passes(s: Situation) -> Iterator[Diagnosis]:
    """Reading the same text many times without holding the model back is memorising."""
    count = s.cost.passes
    tiny = s.corpus.tokens < advice_numbers.TINY_TOKENS
    if tiny:
        yield Diagnosis(
            "note",
            "will-memorise",
            f"{show_count(s.corpus.characters)} {plural(s.corpus.characters, 'character')} of text: "
            "too few to learn a language from",
            f"the text is read {count:.0f} times: the model will learn it by heart and continue it, "
            "not write new text",
            "fine for a first try; add text for anything more",
        )
    if count > 4 and s.model.dropout == 0 and not tiny:
        yield Diagnosis(
            "warning",
            "no-dropout",
            f"no dropout, but {count:.1f} passes over the text",
            "from about the fourth pass on a model without noise memorises: held-out loss rises "
            "while training loss falls",
            f"set model.dropout to {advice_numbers.regularisation_for(count).dropout:g}, "
            "or train for fewer passes",
        )
    advised = advice_numbers.regularisation_for(count).weight_decay
    if count > 4 and s.train.optimizer.weight_decay < advised / 3 and not tiny:
        yield Diagnosis(
            "warning",
            "tiny-weight-decay",
            f"weight decay {s.train.optimizer.weight_decay:g} for {count:.1f} passes",
            "decay is what keeps weights from growing to fit single sentences when they come again and again",
            f"set optimizer.weight_decay to about {advised:g}",
        )
    if count > 2 * advice_numbers.MOST_PASSES and not tiny:
        yield Diagnosis(
            "warning",
            "many-passes",
            f"{count:.0f} passes over the text",
            f"after about {advice_numbers.MOST_PASSES} passes held-out loss no longer falls",
            "train for fewer steps, or add text" if s.gives("train.max_steps") else "add text",
        )


def context(s: Situation) -> Iterator[Diagnosis]:
    """Rows longer than the documents teach to look at unrelated text."""
    if s.train.max_length > s.model.max_position_embeddings:
        yield Diagnosis(
            "error",
            "context-beyond-model",
            f"rows of {s.train.max_length} tokens for a model made for {s.model.max_position_embeddings}",
            "positions past the model's context do not exist",
            "set train.max_length to the model's, or enlarge the model's",
        )
    if s.train.max_length > 2 * s.corpus.median_tokens and not s.train.document_mask:
        shorter = max(32, s.corpus.median_tokens)
        chosen = shorter >= s.train.max_length or not s.gives(
            "train.max_length", "model.max_position_embeddings"
        )
        yield Diagnosis(
            "note" if chosen else "warning",
            "context-beyond-documents",
            f"rows of {s.train.max_length} tokens, but the median document has {s.corpus.median_tokens}",
            "most of a row is other, unrelated documents: attention and time are spent on noise",
            "train.document_mask = true keeps them apart"
            if chosen
            else f"set train.max_length to about {shorter}, or train.document_mask = true",
        )


def vocabulary(s: Situation) -> Iterator[Diagnosis]:
    """Pieces that hardly occur are never learnt, yet they fill the model."""
    seen = s.corpus.tokens / s.corpus.vocab_size
    advised = advise_vocab(s.corpus.characters, min(s.corpus.characters, COMMON_CHARACTERS)).vocab_size
    if seen < 20 and s.corpus.vocab_size > advised:
        yield Diagnosis(
            "warning",
            "vocabulary-too-big",
            f"{show_count(s.corpus.vocab_size)} pieces for {show_count(s.corpus.tokens)} tokens: "
            f"{seen:.1f} occurrences each on average",
            "rare pieces keep their random vectors; a smaller vocabulary shares what is learnt",
            f"leave tokenizer.vocab_size to the advice (at most {advised:,} here), or take kind character"
            if s.gives("tokenizer.vocab_size")
            else f"make a tokenizer of at most {advised:,} pieces (tokenizer.vocab_size), or add text",
        )
    if s.cost.embedding_share > 0.7 and s.cost.total_parameters > 200_000:
        yield Diagnosis(
            "warning" if s.cost.embedding_share > 0.85 else "note",
            "embedding-heavy",
            f"{s.cost.embedding_share:.0%} of the parameters are the embedding and the head",
            "they are looked up, not computed with: the model is smaller than its size suggests",
            _lighter(s),
        )


def _lighter(s: Situation) -> str:
    """What makes the embedding a smaller part, of what the plan did not choose itself."""
    ways = []
    if s.gives("tokenizer.vocab_size", "tokenizer.kind"):
        ways.append("use a smaller vocabulary")
    if s.gives("model.tie_word_embeddings") and not s.model.tie_word_embeddings:
        ways.append("set model.tie_word_embeddings = true")
    if s.sized:
        ways.append("make the layers wider or more")
    return ", or ".join(ways) or "nothing, at this size: more text and a longer budget bring a larger model"


def data_for_model(s: Situation) -> Iterator[Diagnosis]:
    """A model with far more parameters than text can only store it."""
    parameters = s.cost.total_parameters
    if s.corpus.tokens >= advice_numbers.TINY_TOKENS and s.corpus.tokens * 50 < parameters:
        yield Diagnosis(
            "warning",
            "little-data",
            f"{show_count(parameters)} parameters for {show_count(s.corpus.tokens)} different tokens",
            "it has room to store the text many times over, and will",
            "use a smaller model, or add text" if s.sized else "add text",
        )
    if s.cost.tokens < parameters / 10:
        yield Diagnosis(
            "note",
            "few-tokens-seen",
            f"sees {show_count(s.cost.tokens)} tokens, a tenth of its parameters or fewer",
            "a smaller model would get further in this time"
            if s.sized
            else "most of them are rows of the vocabulary, which are seen rarely"
            if s.cost.embedding_share > 0.5
            else "the steps are few",
            ("leave layers and width to the plan, or " if s.sized else "") + _longer(s),
        )


def validation(s: Situation) -> Iterator[Diagnosis]:
    """A held-out loss over a page moves by chance."""
    if s.corpus.validation_tokens == 0:
        yield Diagnosis(
            "warning",
            "no-validation",
            "no text is held out",
            "overfitting cannot be seen without it",
            "set data.split.validation = 0.1"
            if s.gives("data.split.validation")
            else "add text: of one document so short nothing can be held out",
        )
    elif s.corpus.validation_tokens < 2000:
        yield Diagnosis(
            "note",
            "small-validation",
            f"only {s.corpus.validation_tokens} held-out tokens",
            "their loss differs by several percent from that of other held-out text",
            "read small differences as chance; hold out more if there is more",
        )


def batch(s: Situation) -> Iterator[Diagnosis]:
    """Too much text in a step, or too few steps."""
    if s.cost.tokens_per_step > s.corpus.tokens / 2:
        yield Diagnosis(
            "warning",
            "batch-too-big",
            f"a step takes {show_count(s.cost.tokens_per_step)} tokens of {show_count(s.corpus.tokens)}",
            "every step sees most of the text: few updates, and no benefit from different batches",
            "lower " + " or ".join(key for key in BATCH if s.gives(key)) if s.gives(*BATCH) else "add text",
        )
    if s.train.max_steps < 100 and s.fresh:
        yield Diagnosis(
            "note",
            "few-steps",
            f"only {s.train.max_steps} {plural(s.train.max_steps, 'step')}",
            "a model needs some hundred updates to get past the frequencies of single pieces",
            _longer(s) + (", or smaller batches" if s.gives(*BATCH) else ""),
        )


def _longer(s: Situation) -> str:
    return "more train.max_steps" if s.gives("train.max_steps") else "a longer budget"


def shape(s: Situation) -> Iterator[Diagnosis]:
    """Widths that kernels and file formats dislike."""
    if s.model.hidden_size % 64:
        yield Diagnosis(
            "note",
            "width-not-64",
            f"width {s.model.hidden_size} is no multiple of 64",
            "matrix kernels are slower on ragged sizes and some formats refuse them",
            "use a multiple of 64",
        )
    elif not s.model.k_quant_safe and s.model.hidden_size >= 512:
        yield Diagnosis(
            "note",
            "no-k-quants",
            "not every row of the matrices is a multiple of 256",
            "GGUF's k-quants store blocks of 256 values; such a model can still be stored in Q8_0 and Q4_0",
            "use a width and hidden size that are multiples of 256"
            if s.sized
            else "nothing, unless it is for k-quants: then model.hidden_size = "
            f"{-(-s.model.hidden_size // 256) * 256} is the next that fits",
        )
    head = s.model.attention.head_dim
    if head % 8 or not 16 <= head <= 256:
        yield Diagnosis(
            "warning",
            "odd-head-width",
            f"attention heads are {head} channels wide",
            "fast attention kernels need a multiple of 8 between 16 and 256",
            "use heads of 32, 64 or 128 channels",
        )


def exports(s: Situation) -> Iterator[Diagnosis]:
    """A model that the program it is meant for cannot run is better found out now than after training."""
    told: set[str] = set()
    for target in s.exports:
        for obstacle in obstacles(s.model, s.tokenizer_kind, target):
            if obstacle.what in told:
                continue
            told.add(obstacle.what)
            yield Diagnosis(
                "warning",
                "not-exportable",
                f"`congling convert --to {target}` will refuse this model, or it will not be exact there",
                obstacle.what,
                f"{obstacle.nearest}; or take {target} out of exports",
            )


CHECKS: tuple[Check, ...] = (
    learning_rate,
    warmup,
    passes,
    context,
    vocabulary,
    time,
    memory,
    disk,
    data_for_model,
    validation,
    batch,
    shape,
    precision,
    exports,
)
"""Every check, in the order of their findings within one severity."""
