"""Facts of base and data: above all whether an adapter can learn what the template's tokens are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from congling.data.problems import ReadingLog
from congling.data.tuning.examples import Example
from congling.methods.base_model import open_base
from congling.methods.tuning import facts_of
from congling.transform.config import AdapterConfig
from support.tuning_doubles import make_base


@pytest.mark.parametrize(("targets", "chat", "marks", "warned"), [
    (("linear",), False, True, True),
    (("linear", "embedding"), False, True, True),  # the head still does not know them
    (("linear", "embedding", "head"), False, True, False),
    (("linear",), True, True, False),  # the base was tuned on them
    (("linear",), False, False, False),  # plain text has none
    (None, False, True, False),  # whole weights
])  # fmt: skip
def test_strange_marks(tmp_path: Path, targets, chat: bool, marks: bool, warned: bool):
    opened = open_base(make_base(tmp_path) / "base")
    opened = replace(opened, chat=chat, model=opened.model.replace(tie_word_embeddings=False))
    end = opened.tokenizer.special["<|im_end|>"]
    ids = np.array([opened.tokenizer.bos_id, 5, 6, end if marks else opened.tokenizer.eos_id], np.int32)
    example = Example(ids, np.ones(4, bool), 3, "rows:1")
    adapter = None if targets is None else AdapterConfig(target_modules=targets)
    assert facts_of(opened, [example], [], ReadingLog(), adapter).strange_marks is warned
