"""Find the classic mistakes before they cost an evening: each check looks at one thing and says why and
what to do; here those of corpus and model."""

from collections.abc import Iterator

from congling.core.diagnosis import Diagnosis, worst_first
from congling.core.units import show_count
from congling.interop.targets import obstacles
from congling.plan import advice_numbers
from congling.plan.check_costs import disk, memory, precision, time
from congling.plan.check_length import Lengths, check_lengths
from congling.plan.check_programs import programs
from congling.plan.check_training import batch, learning_rate, longer, passes, warmup
from congling.plan.quantised_formats import check_quantisation
from congling.plan.situation import Check, Situation
from congling.plan.text_lengths import UNKNOWN
from congling.tokenizer.advice import advise_vocab
from congling.train.positions import longest_of

COMMON_CHARACTERS = 4000
"""Different characters that Chinese texts use, but for rare ones."""


def check(situation: Situation) -> list[Diagnosis]:
    """Run every check; errors first."""
    return worst_first(finding for one in CHECKS for finding in one(situation))


def context(s: Situation) -> Iterator[Diagnosis]:
    """Rows longer than the documents teach to look at unrelated text."""
    if s.train.max_length > s.model.max_position_embeddings:
        yield Diagnosis(
            "error",
            "context-beyond-model",
            f"rows of {s.train.max_length} tokens for a model made for {s.model.max_position_embeddings}",
            "positions past the model's context do not exist",
            "set train.max_length to the model's, or enlarge the model's"
            if s.fresh
            else f"train.max_length={s.model.max_position_embeddings}, or extend the model first: "
            f"congling extend --context {s.train.max_length}",
        )
    if _beyond_documents(s):
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


def _beyond_documents(s: Situation) -> bool:
    """Whether most of a row is unrelated text."""
    return s.train.max_length > 2 * s.corpus.median_tokens and not s.train.document_mask


def lengths(s: Situation) -> Iterator[Diagnosis]:
    """Long rows: what there is to learn from in them, and what they cost."""
    asked = ("train.max_length", *(("model.max_position_embeddings",) if s.fresh else ()))
    # What stands in rows that are mostly other texts is said by `context` already.
    told = s.trained_length is None and _beyond_documents(s)
    yield from check_lengths(
        Lengths(
            s.model,
            s.train.max_length,
            s.trained_length,
            UNKNOWN if told else s.corpus.lengths,
            chosen=not s.gives(*asked),
            longest=longest_of(s.train, s.model),
        )
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
            "rare tokens keep their random embeddings; a smaller vocabulary has fewer of them",
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
            ("leave layers and width to the plan, or " if s.sized else "") + longer(s),
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
    lengths,
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
    programs,
    check_quantisation,
)
"""Every check, in the order of their findings within one severity."""
