"""Facts guessed from text that is not tokenized yet."""

import pytest

from congling.data.document import Document
from congling.plan.corpus_facts import facts_of_text


@pytest.mark.parametrize("validation", [0.1, 0.9, 1, 8, 500])
def test_no_more_than_half_is_held_out(validation):
    """As when the documents are made (congling.data.split)."""
    found = facts_of_text([Document("天地玄黄" * 50, str(i)) for i in range(10)], validation=validation)
    assert 1 <= found.validation_documents <= 5
    assert found.documents + found.validation_documents == 10
    assert 1000 <= found.characters <= 1800
    assert found.tokens > 0 and found.validation_tokens > 0


def test_a_test_split_is_taken_off_as_well():
    documents = [Document("天地玄黄" * 50, str(i)) for i in range(20)]
    found = facts_of_text(documents, validation=2, test=0.25)
    assert (found.documents, found.validation_documents, found.test_documents) == (13, 2, 5)
    assert found.characters == 13 * 200
