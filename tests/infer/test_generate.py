"""Generation: batches equal single rows, streams equal wholes, long texts slide, special tokens end."""

import pytest
import torch

from congling.core.errors import UserError
from congling.infer.checkpoints import Loaded
from congling.infer.generate import generate, stream, tokens
from congling.infer.sampler import SamplingConfig
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer

GREEDY = SamplingConfig(temperature=0)


def slow(model: Transformer, ids: list[int], count: int) -> list[int]:
    """Greedy continuation without a cache."""
    ids = list(ids)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model.logits(model(torch.tensor([ids])))[0, -1].argmax()))
    return ids[-count:]


def test_batches_of_unequal_prompts_equal_single_rows_without_a_cache(loaded: Loaded):
    prompts = [[5, 6, 7, 8], [9], [3, 4]]
    rows = zip(*tokens(loaded.model, prompts, max_new_tokens=12, sampling=GREEDY), strict=True)
    assert [list(row) for row in rows] == [slow(loaded.model, prompt, 12) for prompt in prompts]


def test_a_stream_equals_the_whole(loaded: Loaded):
    for seed in range(3):
        sampling = SamplingConfig(temperature=2.0, seed=seed, repetition_penalty=1.2)
        pieces = list(stream(loaded.model, loaded.tokenizer, "从零", max_new_tokens=60, sampling=sampling))
        (whole,) = generate(loaded.model, loaded.tokenizer, ["从零"], max_new_tokens=60, sampling=sampling)
        assert "".join(pieces) == whole and whole


def sliding(model: Transformer, ids: list[int], count: int) -> list[int]:
    """The same where the context may be exceeded: all but one token of it are read, then the last half."""
    context, found = model.config.max_position_embeddings, []
    window = ids[-(context - 1) :]
    for _ in range(count):
        if len(window) > context:
            window = window[-context // 2 :]
        found += slow(model, window, 1)
        window = [*window, found[-1]]
    return found


PROMPTS = [
    [5 + (i * step + step) % 20 for i in range(length)]
    for step in (1, 3, 7)
    for length in (1, 4, 15, 16, 17, 23, 30, 31, 32, 50)
]
"""Up to and beyond a context of 32."""


def test_texts_longer_than_the_context_slide(loaded: Loaded):
    prompt, said = [5 + i % 20 for i in range(50)], []
    rows = list(
        tokens(
            loaded.model, [prompt, prompt[:3]], max_new_tokens=70, sampling=GREEDY, on_overflow=said.append
        )
    )
    assert [first for first, _ in rows] == sliding(loaded.model, prompt, 70)
    assert [second for _, second in rows] == sliding(loaded.model, prompt[:3], 70)
    assert [(one.row, one.kind) for one in said] == [(0, "prompt"), (0, "text"), (1, "text")]
    assert said[0].dropped == 50 - 31 and "its first 19 are not read" in said[0].told()


def test_an_answer_depends_neither_on_how_long_it_may_be_nor_on_its_neighbours(loaded: Loaded):
    model = loaded.model
    long = list(zip(*tokens(model, PROMPTS, max_new_tokens=60, sampling=GREEDY), strict=True))
    short = list(zip(*tokens(model, PROMPTS, max_new_tokens=8, sampling=GREEDY), strict=True))
    assert [row[:8] for row in long] == short
    for prompt, together in zip(PROMPTS, long, strict=True):
        (alone,) = zip(*tokens(model, [prompt], max_new_tokens=60, sampling=GREEDY), strict=True)
        assert alone == together


def test_whole_texts_are_equal_whatever_the_limit(loaded: Loaded):
    """As a person asks: 20 beginnings of text, each short of the context."""
    texts = ["从零开始学写字。学而时习之，不亦说乎？"[i : i + 17] for i in range(3)]
    texts += ["学而时习之，" * (1 + i % 4) + "从零"[: i % 3] for i in range(17)]
    for text in texts:
        eight, many = (
            generate(loaded.model, loaded.tokenizer, [text], max_new_tokens=new, sampling=GREEDY)[0]
            for new in (8, 200)
        )
        assert many.startswith(eight)


def test_a_text_is_the_same_alone_and_among_others(undecided: Loaded):
    """In any order, beside prompts of any length; other numbers come from the prompt and the seed."""
    model, tokenizer = undecided.model, undecided.tokenizer
    prompts = ["从零", "学", "学而时习之，不亦说乎？从零开始学", "写字"]
    for seed in range(3):
        hot = SamplingConfig(temperature=1.5, seed=seed)
        together = generate(model, tokenizer, prompts, max_new_tokens=12, sampling=hot)
        backwards = generate(model, tokenizer, prompts[::-1], max_new_tokens=12, sampling=hot)
        alone = [generate(model, tokenizer, [one], max_new_tokens=12, sampling=hot)[0] for one in prompts]
        assert together == backwards[::-1] == alone
        assert together == generate(model, tokenizer, prompts, max_new_tokens=12, sampling=hot)
        other = generate(model, tokenizer, prompts, max_new_tokens=12, sampling=hot.replace(seed=seed + 7))
        assert all(one != two for one, two in zip(together, other, strict=True))


def test_texts_of_one_prompt_differ_and_the_first_is_that_of_the_prompt_alone(undecided: Loaded):
    model, tokenizer, hot = undecided.model, undecided.tokenizer, SamplingConfig(temperature=2.0, seed=4)
    texts = generate(model, tokenizer, ["学"] * 6, max_new_tokens=12, sampling=hot)
    assert len(set(texts)) == 6
    for number, text in enumerate(texts):
        pieces = stream(model, tokenizer, "学", max_new_tokens=12, sampling=hot, number=number)
        assert "".join(pieces) == text


def test_two_prompts_draw_different_numbers(loaded: Loaded):
    """A model without a preference shows what was drawn: nothing that two prompts share."""
    model = Transformer(loaded.model.config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    hot = SamplingConfig(temperature=1.0, whole_characters=False)
    texts = generate(model.eval(), loaded.tokenizer, ["学", "习", "写"], max_new_tokens=30, sampling=hot)
    assert len(set(texts)) == 3


def test_ids_without_a_token_are_never_drawn(padded: Loaded):
    model, tokenizer = padded.model, padded.tokenizer
    barred = tokenizer.undrawable(model.config.vocab_size)
    assert barred == list(range(tokenizer.vocab_size, model.config.vocab_size))
    hidden = model(torch.tensor([[5, 6, 7]]))[0]
    assert model.logits(hidden).argmax(-1).tolist() != [] and int(model.logits(hidden).argmax()) >= 0
    for sampling in (
        GREEDY,
        SamplingConfig(temperature=2.0),
        SamplingConfig(top_k=3, repetition_penalty=1.3),
        SamplingConfig(top_p=0.5),
        SamplingConfig(min_p=0.2),
    ):
        prompts = [[5, 6, 7], [8], [9, 10]]
        drawn = list(tokens(model, prompts, max_new_tokens=20, sampling=sampling, undrawable=barred))
        assert max(max(row) for row in drawn) < tokenizer.vocab_size
        texts = generate(model, tokenizer, ["从", "零", ""], max_new_tokens=20, sampling=sampling)
        assert len(texts) == 3
    with pytest.raises(IndexError):  # as it was: such ids win wherever nobody bars them
        for (index,) in tokens(model, [[5, 6]], max_new_tokens=20, sampling=GREEDY):
            tokenizer.token_bytes(index)


def test_special_tokens_end_a_text(loaded: Loaded):
    model = Transformer(loaded.model.config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.norm.weight.fill_(1)  # pyright: ignore[reportCallIssue, reportArgumentType]
        model.embedding.weight[:, 0] = 1  # every state is the same, and only the end token likes it
        model.embedding.weight[loaded.tokenizer.eos_id, 0] = 2
    assert generate(model, loaded.tokenizer, ["从", ""], max_new_tokens=5, sampling=GREEDY) == ["", ""]


def test_stop_strings_end_a_text_before_them(loaded: Loaded):
    model, tokenizer = loaded.model, loaded.tokenizer
    (whole,) = generate(model, tokenizer, ["从"], max_new_tokens=40, sampling=GREEDY)
    stop = whole[4:6]
    (text,) = generate(model, tokenizer, ["从"], max_new_tokens=40, sampling=GREEDY, stop=[stop])
    assert text == whole[: whole.find(stop)]


def test_a_model_in_training_goes_back_to_training(loaded: Loaded):
    loaded.model.train()
    generate(loaded.model, loaded.tokenizer, ["从"], max_new_tokens=2)
    assert loaded.model.training
    loaded.model.eval()


def test_nothing_to_do(loaded: Loaded):
    assert generate(loaded.model, loaded.tokenizer, []) == []


def test_a_foreign_tokenizer_is_refused(loaded: Loaded):
    small = Transformer(
        FAMILIES["qwen3"](vocab_size=7, max_position_embeddings=32, num_hidden_layers=1, hidden_size=64)
    )
    with pytest.raises(UserError, match="knows 7"):
        generate(small, loaded.tokenizer, ["从"])
