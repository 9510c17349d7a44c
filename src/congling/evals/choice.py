"""Multiple choice: which of some options is the most probable, or which letter a model writes.

::

    likelihood   题目：{question}\\n答案：│{option}     each option is scored as text behind the question
                 sum         log p of the whole option: prefers short ones
                 normalised  divided by its characters (lm-eval's acc_norm)
    letter       题目：{question}\\nA. …\\nB. …\\n答案：│    the letter that is written, see letters
                 (and, as MMLU does it: the letter that is likeliest there)

Guessing is right in one of as many cases as there are options: the chance line.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from congling.evals.bench import Bench, draw
from congling.evals.letters import LETTERS, first_letter
from congling.evals.likelihood import continuation_row, score_rows
from congling.evals.questions import Question, questions
from congling.evals.scores import Score, share
from congling.evals.writing import written
from congling.infer.generate import Prompt
from congling.infer.prompts import prompt_ids
from congling.infer.window import Overflow
from congling.tokenizer.chat.encode import chat_ids

_TOKENS = 32  # written in answer to a question for a letter: some give a reason first


def run(bench: Bench) -> list[Score]:
    """``choice/sum``, ``choice/normalised`` and ``choice/shortest``, the option a mere length would choose.

    Raises:
        UserError: no question can be read.
    """
    asked = _asked(bench)
    shots = Shots.of(bench)
    return likelihood_scores(
        "choice", asked, bench, prompt=lambda one: shots.before(one) + opening(one), shots=shots.count
    )


def letters(bench: Bench) -> list[Score]:
    """``letter/written``, ``letter/well-formed``, ``letter/one-letter`` and ``letter/likeliest``.

    Raises:
        UserError: no question can be read.
    """
    asked = [question for question in _asked(bench) if question.joined is None]
    if not asked:
        bench.problem("no letters", " ".join(bench.files), "its options are continuations, not answers")
        return []
    shots = Shots.of(bench, listed)
    prompts = [shots.before(question) + listed(question) for question in asked]

    def cut(number: int, found: Overflow) -> None:
        if found.kind == "prompt":
            bench.problem("question longer than the context", asked[number].id, found.told())

    texts = written(
        bench.loaded,
        [_prompt(bench, text) for text in prompts],
        tokens=_TOKENS,
        label="letters",
        on_overflow=cut,
    )
    if not bench.chat:  # plain text goes on with a question of its own
        texts = [text.partition("\n题目")[0] for text in texts]
    chosen = [first_letter(text, len(question.options)) for text, question in zip(texts, asked, strict=True)]
    way = "asked through the chat template" if bench.chat else "continued"
    protocol = f"question and lettered options, {shots.count} shots, {way}, greedy"
    hits = [letter == question.right for letter, question in zip(chosen, asked, strict=True)]
    found = [
        share(
            "letter/written",
            hits,
            f"{protocol}; the option the answer decides for, none is wrong",
            chance=chance(asked),
        ),
        share(
            "letter/well-formed",
            [letter is not None for letter in chosen],
            f"{protocol}; share of answers that decide for one",
        ),
        _one_letter(asked),
    ]
    if bench.chat:  # what stands behind a template is no continuation of text
        return found
    lettered = [
        Question(text, tuple(LETTERS[: len(question.options)]), question.right, question.id, question.group)
        for text, question in zip(prompts, asked, strict=True)
    ]
    nats = option_nats(lettered, bench, lambda question: question.text)
    return [
        *found,
        share(
            "letter/likeliest",
            [int(np.argmin(row)) == one.right for row, one in zip(nats, asked, strict=True)],
            f"question and lettered options, {shots.count} shots; the likeliest letter",
            chance=chance(asked),
        ),
    ]


def _one_letter(asked: Sequence[Question]) -> Score:
    """What a model gets that writes one letter for all questions, the luckiest: a habit, no knowledge."""
    (letter, _), *_ = Counter(question.right for question in asked).most_common()
    return share(
        "letter/one-letter",
        [question.right == letter for question in asked],
        f"{LETTERS[letter]} for every question, the letter that is right most often",
        reference=True,
        chance=chance(asked),
    )


def likelihood_scores(
    task: str, asked: Sequence[Question], bench: Bench, *, prompt: Callable[[Question], str], shots: int = 0
) -> list[Score]:
    """Shares of right choices by likelihood, summed and normalised, and of the shortest option."""
    nats = option_nats(asked, bench, prompt)
    lengths = [np.array([len(option) for option in question.options]) for question in asked]

    def hits(costs: Sequence[np.ndarray]) -> list[bool]:
        return [int(np.argmin(cost)) == question.right for cost, question in zip(costs, asked, strict=True)]

    how = "each option scored as text behind the question"
    how += f", {shots} shots" if shots else ""
    even = chance(asked)
    found = [
        share(f"{task}/sum", hits(nats), f"{how}; the likeliest", chance=even),
        share(
            f"{task}/normalised",
            hits([cost / length for cost, length in zip(nats, lengths, strict=True)]),
            f"{how}; the likeliest by character",
            chance=even,
        ),
        share(
            f"{task}/shortest",
            hits(lengths),
            "the shortest option, the first of equals",
            reference=True,
            chance=even,
        ),
    ]
    groups = sorted({question.group for question in asked})
    if 1 < len(groups) <= 20:
        for group in groups:
            of_group = [hit for hit, one in zip(hits(nats), asked, strict=True) if one.group == group]
            own = chance([one for one in asked if one.group == group])
            found.append(share(f"{task}/sum/{group}", of_group, f"{how}; the likeliest", chance=own))
    return found


def option_nats(
    asked: Sequence[Question], bench: Bench, prompt: Callable[[Question], str]
) -> list[np.ndarray]:
    """Nats of every option of every question, (options,) each."""
    rows, context = [], bench.loaded.model.config.max_position_embeddings
    for question in asked:
        before, over = prompt(question), False
        for option in question.options:
            row, cut = continuation_row(bench.loaded.tokenizer, context, before, option)
            rows.append(row)
            over = over or cut
        if over:
            bench.problem("question longer than the context", question.id, "its beginning was cut off")
    totals = iter(score_rows(bench.loaded.model, rows, label="options"))
    return [np.array([next(totals).total for _ in question.options]) for question in asked]


def chance(asked: Sequence[Question]) -> float:
    """Expected share of right guesses."""
    return sum(1 / len(question.options) for question in asked) / len(asked)


def opening(question: Question) -> str:
    """What stands before an option: the question, or the text it goes on."""
    return f"题目：{question.text}\n答案：" if question.joined is None else question.text + question.joined


def listed(question: Question) -> str:
    """The question with its options by letter, up to where the letter stands."""
    options = "\n".join(
        f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=False)
    )
    return f"题目：{question.text}\n{options}\n答案："


@dataclass(frozen=True)
class Shots:
    """Solved questions shown first, of the same group where there are any."""

    solved: Sequence[tuple[Question, str]]
    """Each, and its text with the answer."""
    count: int
    room: Callable[[str], bool]
    """Whether a text still fits into the context."""
    problem: Callable[[str, str, str], None]
    """Told where others are shown than were asked for: a kind, the question, the reason."""

    @classmethod
    def of(cls, bench: Bench, shape: Callable[[Question], str] = opening) -> "Shots":
        """The bench's solved questions, put as the questions themselves are; none without files of them."""
        solved = questions(bench.examples, bench.findings) if bench.examples and bench.shots else []
        texts = []
        for question in solved:
            answer = LETTERS[question.right] if shape is listed else question.options[question.right]
            texts.append((question, f"{shape(question)}{answer}\n\n"))
        tokenizer, context = bench.loaded.tokenizer, bench.loaded.model.config.max_position_embeddings
        # An eighth of the context is left for the options.
        return cls(
            texts,
            bench.shots if texts else 0,
            lambda text: len(tokenizer.encode(text)) <= context * 7 // 8,
            bench.problem,
        )

    def before(self, question: Question) -> str:
        """As many solved questions as were asked for and fit before this one, which is never among them.

        Fewer, or those of other subjects, are counted and named.
        """
        asked = question.text, frozenset(question.options)
        others = [
            (one.group, text) for one, text in self.solved if (one.text, frozenset(one.options)) != asked
        ]
        own = [text for group, text in others if group == question.group]
        chosen = (own or [text for _, text in others])[: self.count]
        text, shown = "", 0
        for one in chosen:
            if not self.room(text + one + question.text + "".join(question.options)):
                break
            text, shown = text + one, shown + 1
        if shown < self.count:
            why = f"{shown} of {self.count}: {'no more fit' if shown < len(chosen) else 'no more are given'}"
            self.problem("fewer solved questions than asked for", question.id, why)
        if shown and not own:
            self.problem("solved questions of other subjects", question.id, f"none of {question.group!r}")
        return text


def _asked(bench: Bench) -> list[Question]:
    return draw(questions(bench.files, bench.findings), bench.limit, bench.seed)


def _prompt(bench: Bench, text: str) -> Prompt:
    if not bench.chat:
        return prompt_ids(bench.loaded.tokenizer, text)
    asked = text.removesuffix("答案：") + "只答字母。"
    return chat_ids(bench.loaded.tokenizer, [{"role": "user", "content": asked}])
