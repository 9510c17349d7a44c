"""Texts of whole characters: streamed or not, together or alone, greedy or drawn, at their ends too."""

import pytest
import torch

from congling.infer.checkpoints import Loaded
from congling.infer.generate import generate, stream, tokens
from congling.infer.sampler import SamplingConfig
from congling.infer.whole import WholeCharacters, begun
from congling.tokenizer.base import FIRST_BYTE
from congling.tokenizer.characters import WHOLE

HOT = SamplingConfig(temperature=3.0)
BROKEN = "\ufffd"


def raw(undecided: Loaded, prompts: list[str], sampling: SamplingConfig, new: int) -> list[str]:
    free = sampling.replace(whole_characters=False)
    return generate(undecided.model, undecided.tokenizer, prompts, max_new_tokens=new, sampling=free)


@pytest.mark.parametrize("changes", [
    {"temperature": 3.0}, {"temperature": 1.5, "top_k": 40}, {"temperature": 2.0, "top_p": 0.9},
    {"temperature": 2.0, "min_p": 0.05}, {"temperature": 2.0, "repetition_penalty": 1.5},
])  # fmt: skip
@pytest.mark.parametrize("new", [1, 2, 30])
def test_nothing_drawn_spoils_a_character(undecided: Loaded, changes: dict[str, float], new: int):
    prompts = ["从零", "学而时习之", "", "龘"]
    for seed in range(2):
        sampling = SamplingConfig.model_validate({"seed": seed, **changes})
        texts = generate(undecided.model, undecided.tokenizer, prompts, max_new_tokens=new, sampling=sampling)
        assert not any(BROKEN in text for text in texts)
        for prompt, text in zip(prompts, texts, strict=True):
            pieces = list(
                stream(undecided.model, undecided.tokenizer, prompt, max_new_tokens=new, sampling=sampling)
            )
            assert "".join(pieces) == text and not any(BROKEN in piece for piece in pieces)


def test_without_it_characters_are_spoilt(undecided: Loaded):
    """Else the tests above could not fail."""
    texts = [text for seed in range(6) for text in raw(undecided, ["从零"], HOT.replace(seed=seed), 60)]
    assert sum(BROKEN in text for text in texts) >= 4


def raw_with_ids(loaded: Loaded, prompt: str, sampling: SamplingConfig, new: int) -> tuple[str, list[int]]:
    drawn: list[int] = []
    original = loaded.tokenizer.token_bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded.tokenizer, "token_bytes", lambda index: drawn.append(index) or original(index))
        (text,) = raw(loaded, [prompt], sampling, new)
    return text, drawn


def test_where_nothing_is_spoilt_nothing_changes(undecided: Loaded):
    model, tokenizer, equal = undecided.model, undecided.tokenizer, 0
    table = tokenizer.character_table
    for seed in range(40):
        sampling = SamplingConfig(temperature=1.5, seed=seed)
        free, drawn = raw_with_ids(undecided, "从零", sampling, 4)
        state = WHOLE
        for index in drawn:
            state = table.behind[state, index] if state >= 0 else state
        if state >= 0:
            (text,) = generate(model, tokenizer, ["从零"], max_new_tokens=4, sampling=sampling)
            assert text == free
            equal += 1
    assert equal > 3


def test_within_a_character_only_its_bytes_may_come(undecided: Loaded):
    ids = undecided.tokenizer.encode("龘")
    assert len(ids) == 3
    size = undecided.model.config.vocab_size
    whole = WholeCharacters(undecided.tokenizer, size, [b""], torch.device("cpu"))
    for count, index in enumerate(ids * 2):
        left = whole.drawable(torch.zeros(1, size)).isfinite().nonzero()[:, 1].tolist()
        assert index in left
        inside = count % 3 > 0
        assert (set(left) <= set(range(FIRST_BYTE, FIRST_BYTE + 256))) == inside
        assert bool({*undecided.tokenizer.stop_ids} & set(left)) != inside
        whole.append([index])


def test_rows_are_followed_each_by_itself(undecided: Loaded):
    first, second, third = undecided.tokenizer.encode("龘")
    size = undecided.model.config.vocab_size
    whole = WholeCharacters(undecided.tokenizer, size, [b"", b"", b""], torch.device("cpu"))
    whole.append([first, undecided.tokenizer.encode("从")[0], first])
    whole.append([second, undecided.tokenizer.encode("零")[0], second])
    left = whole.drawable(torch.zeros(3, size)).isfinite()
    assert left[:, third].tolist() == [True, False, True]
    assert left[:, undecided.tokenizer.eos_id].tolist() == [False, True, False]


def test_a_character_that_the_prompt_begins_comes_out_whole(undecided: Loaded):
    first, second, third = undecided.tokenizer.encode("龘")
    assert begun(undecided.tokenizer, [first, second]) == "龘".encode()[:2]
    assert begun(undecided.tokenizer, [first, second, third]) == b"" == begun(undecided.tokenizer, [])
    for cut in ([first], [first, second]):
        prompt = [*undecided.tokenizer.encode("从零"), *cut]
        (text,) = generate(undecided.model, undecided.tokenizer, [prompt], max_new_tokens=20, sampling=HOT)
        assert BROKEN not in text and text.encode().startswith("龘".encode()[: len(cut)])
        assert (
            "".join(stream(undecided.model, undecided.tokenizer, prompt, max_new_tokens=20, sampling=HOT))
            == text
        )


def test_ids_of_the_model_itself_are_not_masked(undecided: Loaded):
    """What compares two programs, or learns from the model's own distribution, sees that distribution."""
    for sampling in (SamplingConfig(temperature=0), HOT):
        drawn = [row[0] for row in tokens(undecided.model, [[5, 6]], max_new_tokens=60, sampling=sampling)]
        free = [
            row[0]
            for row in tokens(
                undecided.model,
                [[5, 6]],
                max_new_tokens=60,
                sampling=sampling.replace(whole_characters=False),
            )
        ]
        assert drawn == free
