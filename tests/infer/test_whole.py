"""Texts of whole characters: streamed or not, together or alone, greedy or drawn, at their ends too."""

import pytest
import torch

from congling.infer.checkpoints import Loaded
from congling.infer.generate import generate, stream, tokens
from congling.infer.sampler import SamplingConfig
from congling.infer.whole import WholeCharacters, begun
from congling.tokenizer.base import FIRST_BYTE

HOT = SamplingConfig(temperature=3.0)
BROKEN = "\ufffd"


def raw(loaded: Loaded, prompts: list[str], sampling: SamplingConfig, new: int) -> list[str]:
    free = sampling.replace(whole_characters=False)
    return generate(loaded.model, loaded.tokenizer, prompts, max_new_tokens=new, sampling=free)


@pytest.mark.parametrize("changes", [
    {"temperature": 3.0}, {"temperature": 1.5, "top_k": 40}, {"temperature": 2.0, "top_p": 0.9},
    {"temperature": 2.0, "min_p": 0.05}, {"temperature": 2.0, "repetition_penalty": 1.5},
])  # fmt: skip
@pytest.mark.parametrize("new", [1, 2, 3, 7, 60])
def test_nothing_drawn_spoils_a_character(loaded: Loaded, changes: dict[str, float], new: int):
    prompts = ["从零", "学而时习之", "", "龘"]
    for seed in range(6):
        sampling = SamplingConfig.model_validate({"seed": seed, **changes})
        texts = generate(loaded.model, loaded.tokenizer, prompts, max_new_tokens=new, sampling=sampling)
        assert not any(BROKEN in text for text in texts)
        for prompt, text in zip(prompts, texts, strict=True):
            pieces = list(
                stream(loaded.model, loaded.tokenizer, prompt, max_new_tokens=new, sampling=sampling)
            )
            assert "".join(pieces) == text and not any(BROKEN in piece for piece in pieces)


def test_without_it_characters_are_spoilt(loaded: Loaded):
    """Else the tests above could not fail."""
    texts = [text for seed in range(6) for text in raw(loaded, ["从零"], HOT.replace(seed=seed), 60)]
    assert sum(BROKEN in text for text in texts) >= 4


def test_where_nothing_is_spoilt_nothing_changes(loaded: Loaded):
    equal = 0
    for seed in range(40):
        sampling = SamplingConfig(temperature=1.5, seed=seed)
        (free,) = raw(loaded, ["从零"], sampling, 8)
        (text,) = generate(loaded.model, loaded.tokenizer, ["从零"], max_new_tokens=8, sampling=sampling)
        written = tokens_of(loaded, sampling, 8)
        if all(not loaded.tokenizer.is_byte(index) for index in written):
            assert text == free
            equal += 1
    assert equal > 3


def tokens_of(loaded: Loaded, sampling: SamplingConfig, new: int) -> list[int]:
    """What is drawn without a mask, as ``generate`` seeds it."""
    found: list[int] = []
    original = loaded.tokenizer.token_bytes
    loaded.tokenizer.token_bytes = lambda index: found.append(index) or original(index)  # type: ignore[method-assign]
    try:
        raw(loaded, ["从零"], sampling, new)
    finally:
        del loaded.tokenizer.token_bytes
    return found


def test_within_a_character_only_its_bytes_may_come(loaded: Loaded):
    ids = loaded.tokenizer.encode("龘")
    assert len(ids) == 3
    size = loaded.model.config.vocab_size
    whole = WholeCharacters(loaded.tokenizer, size, [b""], torch.device("cpu"))
    for count, index in enumerate(ids * 2):
        left = whole.drawable(torch.zeros(1, size)).isfinite().nonzero()[:, 1].tolist()
        assert index in left
        inside = count % 3 > 0
        assert (set(left) <= set(range(FIRST_BYTE, FIRST_BYTE + 256))) == inside
        assert bool({*loaded.tokenizer.stop_ids} & set(left)) != inside
        whole.append([index])


def test_rows_are_followed_each_by_itself(loaded: Loaded):
    first, second, third = loaded.tokenizer.encode("龘")
    size = loaded.model.config.vocab_size
    whole = WholeCharacters(loaded.tokenizer, size, [b"", b"", b""], torch.device("cpu"))
    whole.append([first, loaded.tokenizer.encode("从")[0], first])
    whole.append([second, loaded.tokenizer.encode("零")[0], second])
    left = whole.drawable(torch.zeros(3, size)).isfinite()
    assert left[:, third].tolist() == [True, False, True]
    assert left[:, loaded.tokenizer.eos_id].tolist() == [False, True, False]


def test_a_character_that_the_prompt_begins_comes_out_whole(loaded: Loaded):
    first, second, third = loaded.tokenizer.encode("龘")
    assert begun(loaded.tokenizer, [first, second]) == "龘".encode()[:2]
    assert begun(loaded.tokenizer, [first, second, third]) == b"" == begun(loaded.tokenizer, [])
    for cut in ([first], [first, second]):
        prompt = [*loaded.tokenizer.encode("从零"), *cut]
        (text,) = generate(loaded.model, loaded.tokenizer, [prompt], max_new_tokens=20, sampling=HOT)
        assert BROKEN not in text and text.encode().startswith("龘".encode()[: len(cut)])
        assert (
            "".join(stream(loaded.model, loaded.tokenizer, prompt, max_new_tokens=20, sampling=HOT)) == text
        )


def test_ids_of_the_model_itself_are_not_masked(loaded: Loaded):
    """What compares two programs, or learns from the model's own distribution, sees that distribution."""
    for sampling in (SamplingConfig(temperature=0), HOT):
        drawn = [row[0] for row in tokens(loaded.model, [[5, 6]], max_new_tokens=60, sampling=sampling)]
        free = [row[0] for row in tokens(
            loaded.model, [[5, 6]], max_new_tokens=60, sampling=sampling.replace(whole_characters=False)
        )]  # fmt: skip
        assert drawn == free
