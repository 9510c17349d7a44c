"""The small world's own examination: questions about stories, sums and couplets, judged by exact rule.

A base model continues the text a document of the world would have::

    …玉兰请小武吃了一个鸡蛋。\\n问：竹马是什么颜色的？\\n答：│绿色。
    8÷4=│2
    半园草，│百湾桃。

A model tuned for chat is asked for the same through its template, without the marks of the corpus. Problems
come from documents of a seed the model was not trained on, one of each document, so that they are
independent.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice

from congling.data.dedup import content_hash
from congling.data.final_answer import value
from congling.data.smallworld.checking import check
from congling.data.smallworld.config import Kind, SmallWorldConfig
from congling.data.smallworld.generator import Generator
from congling.data.smallworld.questions import Problem, problems
from congling.evals.bench import Bench
from congling.evals.choice import likelihood_scores
from congling.evals.questions import Question
from congling.evals.scores import Score, share
from congling.evals.writing import written
from congling.tokenizer.chat.encode import chat_ids

SEED = 1_000_003
"""Added to the seed of the bench: far from the small numbers people train on."""
TOKENS = 32
"""Longest answer."""
_SHIFTS = 20  # other answers each problem is given for the chance line
_TRIES = 20  # documents looked at for one problem


def run(bench: Bench, kind: Kind) -> list[Score]:
    """``KIND/right``, ``KIND/well-formed`` and, where training documents are known, ``KIND/right-unseen``."""
    asked = list(islice(unseen_problems(bench, kind), bench.limit))
    answers = ask(bench, asked)
    right = [problem.right(answer) for problem, answer in zip(asked, answers, strict=True)]
    way = "asked through the chat template" if bench.chat else "the text is continued"
    protocol = f"{way}, greedy, to the end of the line; exact rule of the small world"
    found = [
        share(
            f"{kind}/right",
            right,
            f"{protocol}; chance: the answers to other problems",
            chance=_by_others(asked),
        ),
        share(
            f"{kind}/well-formed",
            [well_formed(*pair) for pair in zip(asked, answers, strict=True)],
            f"{way}, greedy; the answer has the form of an answer, right or wrong",
        ),
    ]
    if kind != "questions" and bench.documents is not None:
        known = _known_lines(asked, bench.training())
        fresh = [
            hit for problem, hit in zip(asked, right, strict=True) if problem.prompt.strip() not in known
        ]
        if fresh:
            found.append(
                share(
                    f"{kind}/right-unseen",
                    fresh,
                    f"{protocol}; only problems that stand in no training document",
                )
            )
    return found


def choice(bench: Bench) -> list[Score]:
    """``world-choice/…``: the right answer among wrong ones of the same sort, by likelihood."""
    asked = [
        Question(problem.prompt, (problem.answer, *problem.wrong), 0, f"{kind} {number}", str(kind))
        for kind in ("questions", "arithmetic", "couplets")
        for number, problem in enumerate(
            islice((one for one in unseen_problems(bench, kind) if one.wrong), -(-bench.limit // 3))
        )
    ]
    return likelihood_scores("world-choice", asked, bench, prompt=lambda question: question.text)


def unseen_problems(bench: Bench, kind: Kind) -> Iterator[Problem]:
    """Problems of one kind without end, one a document; documents that were trained on are left out."""
    trained_on = bench.small_world()
    seed = SEED + bench.seed
    if trained_on.get("seed") == seed:
        seed += 1
    config = SmallWorldConfig.model_validate(
        {"seed": seed, "mix": {kind: 1.0}, "script": trained_on.get("script", "hans")}
    )
    seen = {content_hash(text) for text in bench.training()} if bench.documents is not None else set()
    generator, misses = Generator(config), 0
    for index in count():
        document = generator.document(index)
        found = problems(document, config.script)
        if content_hash(document.text) in seen or not found:
            misses += 1
            if misses > _TRIES * bench.limit:  # a model trained on all that can be said
                return
            continue
        yield found[index % len(found)]


def ask(bench: Bench, asked: Sequence[Problem]) -> list[str]:
    """What the model answers, up to the end of the line; white space around it taken off."""
    if bench.chat:
        tokenizer = bench.loaded.tokenizer
        prompts = [chat_ids(tokenizer, [{"role": "user", "content": said(problem)}]) for problem in asked]
        texts = written(bench.loaded, prompts, tokens=TOKENS, label="answers")
    else:
        texts = written(
            bench.loaded, [problem.prompt for problem in asked], tokens=TOKENS, stop=("\n",), label="answers"
        )
    return [text.strip() for text in texts]


def said(problem: Problem) -> str:
    """A problem as a person would put it to a model that chats.

    >>> said(Problem("couplets", "白鹭飞青岭，", "", ()))
    '对下联：白鹭飞青岭'
    """
    if problem.kind == "couplets":
        return f"对下联：{problem.prompt.removesuffix('，')}"
    if problem.kind == "questions":
        story, _, question = problem.prompt.removesuffix("\n答：").rpartition("\n")
        return f"{story}\n{question.removeprefix('问：').removeprefix('問：')}"
    return problem.prompt


def well_formed(problem: Problem, answer: str) -> bool:
    """Whether an answer has the form of one: a number, a line as long as its upper line, a known sentence."""
    bare = answer.removesuffix("。")
    if problem.kind == "arithmetic":
        return value(answer) is not None or problem.right(answer)
    if problem.kind == "couplets":
        return len(bare) == len(problem.prompt.removesuffix("，"))
    return "\n" not in answer and bool(answer) and check(problem.prompt + answer).grammar == 1


def _by_others(asked: Sequence[Problem]) -> float | None:
    """Share of right answers if each problem got another one's: the mean over some of those behind it."""
    shifts = range(1, min(len(asked), _SHIFTS + 1))
    moved = [(one, asked[(i + shift) % len(asked)]) for i, one in enumerate(asked) for shift in shifts]
    return sum(one.right(other.answer) for one, other in moved) / len(moved) if moved else None


def _known_lines(asked: Sequence[Problem], training: Iterable[str]) -> set[str]:
    """Prompts whose line stands in the training text, whatever its answer there."""
    wanted = {problem.prompt.strip() for problem in asked}
    found: set[str] = set()
    for text in training:
        if len(found) == len(wanted):
            break
        for line in text.splitlines():
            for mark in ("=", "等于", "等於", "，"):
                head, sign, _ = line.partition(mark)
                if sign and head + sign in wanted:
                    found.add(head + sign)
    return found
