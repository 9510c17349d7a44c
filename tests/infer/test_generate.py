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


def test_texts_longer_than_the_context_slide(loaded: Loaded):
    prompt = [5 + i % 20 for i in range(50)]
    rows = list(tokens(loaded.model, [prompt, prompt[:3]], max_new_tokens=70, sampling=GREEDY))
    assert len(rows) == 70
    # The first reading keeps half a context of the long prompt; its first 16 new tokens depend on that alone.
    assert [first for first, _ in rows[:16]] == slow(loaded.model, prompt[-16:], 16)


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
    small = Transformer(FAMILIES["qwen3"](vocab_size=7, context=32, layers=1, width=64))
    with pytest.raises(UserError, match="knows 7"):
        generate(small, loaded.tokenizer, ["从"])
