"""What a path leads to is told once: a run by its checkpoint, a run that trained an adapter by that."""

import json

import pytest

from congling.core import artifact
from congling.core.errors import UserError
from congling.interop.source import Source, source_of


@pytest.fixture
def run(tmp_path):
    """What `congling train` wrote, with one checkpoint that holds no weights."""
    place = tmp_path / "book" / "run" / "checkpoints" / "step-00000004"
    place.parent.mkdir(parents=True)
    with artifact.writing(place, "checkpoint"):
        pass
    (tmp_path / "book" / "run" / "BEST").write_text("step-00000004\n")
    return tmp_path / "book"


def test_a_run_leads_to_its_checkpoint(run):
    found = source_of(run)
    assert (found.kind, found.is_adapter) == ("run", False)
    assert found.model == Source(run / "run" / "checkpoints" / "step-00000004", "checkpoint")
    assert source_of(found) is found and found.model.model == found.model


def test_of_a_run_that_trained_an_adapter_it_is_the_adapter(run):
    (run / "adapter").mkdir()
    (run / "adapter" / "adapter.json").write_text(json.dumps({"scales": {"a": 1.0}}))
    found = source_of(run)
    assert found == Source(run / "adapter", "adapter") and found.is_adapter and found.model is found


def test_what_is_not_there_or_not_known_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in ("absent", "folder"):
        with pytest.raises(UserError):
            source_of(tmp_path / path)
    with pytest.raises(UserError, match="address"):
        source_of("https://example.org/model.gguf")
